"""Items that repeat an earlier one: exactly, or nearly by their words.

Of items made from a graph, only those with the same answer can be near duplicates: the templates make stems alike, and
two of them that differ in a clue and in the answer are what the set is for.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from corl.data.checking.fingerprint import Stem
from corl.data.checking.near_duplicates import Stems
from corl.data.items import Item
from corl.rods.filtering.anonymise import is_made
from corl.rods.filtering.form import folded_option
from corl.rods.filtering.rows import Reason


@dataclass(frozen=True, slots=True)
class Words:
    """An item as comparisons see it."""

    item: Item
    stem: Stem
    words: list[str]
    options: list[str]


@dataclass(frozen=True, slots=True)
class Repeat:
    """`place` repeats `first`, both in the order given; `conflict`: with another answer: one of them is wrong."""

    place: int
    first: int
    conflict: bool
    reason: Reason


def find_repeats(items: Sequence[Words]) -> list[Repeat]:
    """Every item that repeats an earlier one which is kept. What is left repeats nothing."""
    found: list[Repeat] = []
    left: list[int] = []
    seen: dict[tuple[int, tuple[int, ...]], int] = {}
    for place, each in enumerate(items):
        first = seen.setdefault((each.stem.stem, each.stem.options), place)
        if first == place:
            left.append(place)
            continue
        reason = Reason("exact_duplicate", f"the question and options of {items[first].item.id!r}")
        found.append(Repeat(place, first, not _same_answer(each.item, items[first].item), reason))
    for group in _groups(items, left):
        found += _near(items, group)
    return sorted(found, key=lambda repeat: repeat.place)


def _near(items: Sequence[Words], places: list[int]) -> Iterator[Repeat]:
    # Keys that lead to too many stems are cut short; what that hid may show once the first repeats are gone.
    while True:
        stems = Stems()
        for place in places:
            stems.add(items[place].words, items[place].options)
        matches, _ = stems.matches([True] * len(places))
        hits = {k: match for k, match in enumerate(matches) if match is not None}
        for k, match in hits.items():
            place, first = places[k], places[match.row]
            options = "most of its options too" if match.same_options else "other options"
            detail = f"{match.similarity:.0%} of the word triples of {items[first].item.id!r}, {options}"
            conflict = match.same_options and not _same_answer(items[place].item, items[first].item)
            yield Repeat(place, first, conflict, Reason("near_duplicate", detail))
        if not hits:
            return
        places = [place for k, place in enumerate(places) if k not in hits]


def _groups(items: Sequence[Words], places: list[int]) -> list[list[int]]:
    groups: dict[tuple[str, ...], list[int]] = {}
    for place in places:
        item = items[place].item
        key = (item.source, item.lang, *_answers(item)) if is_made(item) else ()
        groups.setdefault(key, []).append(place)
    return [group for group in groups.values() if len(group) > 1]


def _same_answer(one: Item, other: Item) -> bool:
    return _answers(one) == _answers(other)


def _answers(item: Item) -> tuple[str, ...]:
    return tuple(sorted(folded_option(item.options[letter]) for letter in item.answer.split(",")))
