import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corl.data.checking import near_duplicates
from corl.data.checking.near_duplicates import LONG, SIMILARITY, Match, Stems, most_in_common

OPTIONS = ["liver", "lens", "enamel", "cornea"]
OTHERS = ["iron", "zinc", "copper", "lead"]


def compare(*rows, kept=None):
    stems = Stems()
    for words, options in rows:
        stems.add(words, options)
    return stems.matches(kept or [True] * len(rows))


def sentence(count: int, seed: int = 0) -> list[str]:
    return random.Random(seed).sample([f"w{k}" for k in range(10_000)], count)


def changed(words: list[str], *places: int) -> list[str]:
    return [f"new{k}" if k in places else word for k, word in enumerate(words)]


def by_hand(one: list[str], other: list[str]) -> float:
    def triples(words):
        padded = words + [""] * (3 - len(words))
        return {tuple(padded[k : k + 3]) for k in range(len(padded) - 2)} if words else set()

    a, b = triples(one), triples(other)
    return len(a & b) / len(a | b) if a | b else 0.0


def test_a_word_changed_in_forty_is_a_repeat_and_ten_are_not() -> None:
    stem = sentence(40)
    found, alike = compare((stem, OPTIONS), (changed(stem, 20), OPTIONS), (changed(stem, *range(0, 40, 4)), OPTIONS))
    assert found == [None, Match(0, 35 / 41, True), None] and alike == 0


def test_a_short_stem_needs_the_same_options_and_a_long_one_does_not() -> None:
    short, long = sentence(LONG - 1), sentence(LONG, 1)
    found, alike = compare((short, OPTIONS), (long, OPTIONS), (short, OTHERS), (long, OTHERS), (short, OPTIONS[::-1]))
    assert found == [None, None, None, Match(1, 1.0, False), Match(0, 1.0, True)] and alike == 1


def test_only_rows_that_stay_are_repeated() -> None:
    stem = sentence(30)
    found, _ = compare(*[(stem, OPTIONS)] * 3, kept=[False, True, True])
    assert found == [None, None, Match(1, 1.0, True)]
    a, b, c = stem, changed(stem, 0, 1), changed(stem, 0, 1, 28, 29)  # c is near b alone, and b goes
    assert by_hand(a, b) > SIMILARITY < by_hand(b, c) and by_hand(a, c) >= SIMILARITY - 0.1
    found, _ = compare((a, OPTIONS), (b, OPTIONS), (c, OPTIONS))
    assert found[1] == Match(0, by_hand(a, b), True)
    assert (found[2] is not None) == (by_hand(a, c) >= SIMILARITY)


WORDS = st.lists(st.sampled_from("abcdefgh"), max_size=14)


@settings(max_examples=300)
@given(st.lists(WORDS, max_size=12))
def test_no_pair_is_missed_and_none_is_invented(rows: list[list[str]]) -> None:
    found, _ = compare(*[(row, OPTIONS) for row in rows])
    stay: list[int] = []
    for k, row in enumerate(rows):
        near = [j for j in stay if by_hand(row, rows[j]) >= SIMILARITY]
        assert (found[k].row if found[k] else None) == (near[0] if near else None)
        if not near:
            stay.append(k)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("abcd", "dcba", True), ("abcd", "abcx", True), ("abcd", "abxy", False), ("abcd", "abcdefghij", True),
        ("ab", "ax", False),
        ("aab", "abb", True), ("", "ab", False), ("aabb", "abxy", False),
    ],
)  # fmt: skip
def test_most_options_in_common(one: str, other: str, expected: bool) -> None:
    assert most_in_common([ord(c) for c in one], [ord(c) for c in other]) == expected
    assert most_in_common([ord(c) for c in other], [ord(c) for c in one]) == expected


def test_template_text_takes_bounded_time() -> None:
    """All stems share nearly all their words, none with another's entities: every pair is a candidate at first."""
    before, after = sentence(16), sentence(4, 1)
    rows = [([*before, f"e{k}", *after, f"f{k}"], OPTIONS) for k in range(6000)]
    started = time.process_time()
    found, _ = compare(*rows)
    assert time.process_time() - started < 20  # 2 s; were every candidate compared, a minute
    assert sum(match is not None for match in found) == 0


def test_a_triple_in_very_many_stems_leads_to_the_first_of_them(monkeypatch) -> None:
    monkeypatch.setattr(near_duplicates, "MAX_STEMS_OF_KEY", 1)
    stem = sentence(40)
    found, _ = compare((stem, OPTIONS), (stem, OPTIONS), (changed(stem, 3), OPTIONS))
    assert [match and match.row for match in found] == [None, 0, 0]
