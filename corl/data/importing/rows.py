"""From the rows of a source to items: checks, repairs, flags and ids.

A set's reader turns its layout into Rows; what is dropped, changed, flagged and how an item is named is decided here,
the same way for every set.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from corl.data.importing.report import Drop, Repair, Report
from corl.data.importing.values import LETTERS
from corl.data.items import MAX_OPTIONS, Item


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of a source in common terms, its values as the source has them.

    place       file and row, for messages
    options     values in letter order; one without text is taken out
    answer      the gold: letters joined by "," in alphabetical order; anything else is reported as no usable gold
    bad_gold    why the gold cannot be used although it names an option
    native_id   the source's own id
    source      of an item that was one already: it keeps its source and its id
    changes     what the reader changed beyond trimming
    selected    False for a row that was not asked for: counted, nothing else
    """

    place: str
    question: Any
    options: list[Any]
    answer: Any
    bad_gold: str = ""
    native_id: Any = None
    source: str = ""
    context: Any = None
    lang: str = "en"
    difficulty: str | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    changes: tuple[str, ...] = ()
    selected: bool = True


def items_from(
    name: str, rows: Iterable[Row], *, distinct_stems: int | None = None, say_place: bool = False
) -> tuple[list[Item], Report]:
    """The items of a set's rows in source order, and the report on every row.

    distinct_stems  keep the first item of every stem and no more than this many; the rest is not selected
    say_place       put file and row into the report, where the count of rows runs over several files
    """
    items: list[Item] = []
    dropped: list[Drop] = []
    repaired: list[Repair] = []
    taken: set[str] = set()
    stems: set[str] = set()
    read = not_selected = 0
    for row in rows:
        read += 1
        if not row.selected:
            not_selected += 1
            continue
        question = text_of(row.question)
        options, answer, changes = _lettered(row)
        native = _id_text(row.native_id)
        id_ = native if native and row.source else f"{row.source or name}:{native or _digest(question, options)}"
        where = f" [{row.place}]" if say_place else ""
        if reason := _unusable(row, question, options, answer):
            dropped.append(Drop(read, id_, reason + where))
            continue
        if distinct_stems is not None and (len(stems) == distinct_stems or " ".join(question.split()) in stems):
            not_selected += 1
            continue
        stems.add(" ".join(question.split()))
        id_ = _unique(id_, taken)
        repaired += [Repair(read, id_, change + where) for change in [*row.changes, *changes]]
        context = text_of(row.context) or None
        source = row.source or name
        items.append(Item(id_, source, row.lang, context, question, options, answer, row.difficulty, row.meta))
    return _flagged(items), Report(read, len(items), tuple(dropped), tuple(repaired), not_selected)


def text_of(value: Any) -> str:
    """Trimmed text of a source's value; null, NaN and everything that is neither text nor number is no text."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return str(value)
    return value.strip() if isinstance(value, str) else ""


def _id_text(value: Any) -> str:
    """An id as text: 7.0 is 7 (a column with gaps is read as floats), half a surrogate pair its escape."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return text_of(value).encode("utf-8", "backslashreplace").decode()


def _lettered(row: Row) -> tuple[dict[str, str], str, list[str]]:
    """Options, gold ("" when it names no option) and changes: an option without text goes, later letters move up."""
    if len(row.options) > MAX_OPTIONS:
        raise ValueError(f"{row.place} has {len(row.options)} options; an item holds {MAX_OPTIONS} at most")
    options: dict[str, str] = {}
    new_letter: dict[str, str] = {}
    changes: list[str] = []
    for old, value in zip(LETTERS, row.options, strict=False):
        text = text_of(value)
        if not text:
            changes.append(f"option {old} has no text: removed, later options move up")
            continue
        new_letter[old] = LETTERS[len(options)]
        options[new_letter[old]] = text
        if not isinstance(value, str):
            changes.append(f"option {old} is a number: written as text")
    letters = text_of(row.answer).split(",")
    named = letters == sorted(set(letters) & new_letter.keys())
    return options, ",".join(new_letter[letter] for letter in letters) if named else "", changes


def _unusable(row: Row, question: str, options: dict[str, str], answer: str) -> str:
    if not question:
        return "no question"
    if len(options) < 2:
        return f"fewer than two options ({len(options)})"
    if not answer:
        gold = repr(row.answer)
        return f"no usable gold ({gold if len(gold) <= 80 else gold[:77] + '...'} names no option)"
    return row.bad_gold and f"no usable gold ({row.bad_gold})"


def _digest(question: str, options: dict[str, str]) -> str:
    text = "\n".join([question, *options.values()])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _unique(id_: str, taken: set[str]) -> str:
    candidate, n = id_, 1
    while candidate in taken:
        n += 1
        candidate = f"{id_}-{n}"
    taken.add(candidate)
    return candidate


def _flagged(items: list[Item]) -> list[Item]:
    """Items with meta.flags: what is content, and kept, but a later stage may want to know."""
    stems = Counter((item.context, item.question) for item in items)
    flagged = []
    for item in items:
        texts = list(item.options.values())
        found = {
            "duplicate_options": len(set(texts)) < len(texts),
            "repeated_stem": stems[item.context, item.question] > 1,
            "none_option": any(text.casefold() == "none" for text in texts),
        }
        earlier = [flag for flag in item.meta.get("flags", []) if flag not in found]
        flags = earlier + [flag for flag, holds in found.items() if holds]
        flagged.append(replace(item, meta={**item.meta, "flags": flags}))
    return flagged
