"""Stems that nearly repeat an earlier one: an exact join on the share of common word triples, by prefix filtering.

Two sets whose Jaccard similarity reaches t share at least one of the first n - ceil(t n) + 1 members of each, whatever
the common order of the members (Chaudhuri et al., ICDE 2006); with the rarest first, hardly any other pair shares one.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SIMILARITY = 0.7  # a stem of 40 words with two of them changed has 0.73
LONG = 26  # words (Chinese characters): from here on a stem is its own evidence, shorter ones need the same options
# Template text is in so many stems that comparing them all would be quadratic. A key leads to its first stems only; a
# pair may be missed when the rarest 30 % of a stem's triples, with an option of its own, are in more stems than this.
MAX_STEMS_OF_KEY = 256
_BUCKETS = 1 << 20


@dataclass(frozen=True, slots=True)
class Match:
    """The earlier row that a row nearly repeats."""

    row: int
    similarity: float
    same_options: bool


class Stems:
    """The stems of a file, first added one by one, then compared: `matches` takes them in the same order."""

    def __init__(self) -> None:
        self._words: dict[str, int] = {}
        self._texts: dict[str, int] = {}
        self._triples: list[np.ndarray] = []
        self._lengths: list[int] = []
        self._options: list[tuple[int, ...]] = []
        self._frequency = np.zeros(_BUCKETS, np.int32)

    def add(self, stem: Sequence[str], options: Sequence[str]) -> None:
        """A stem's words and its options' texts, both as `words` and `comparable` give them."""
        triples = _triples(np.array([self._words.setdefault(word, len(self._words) + 1) for word in stem], np.uint64))
        self._frequency[_bucket(triples)] += 1
        self._triples.append(triples)
        self._lengths.append(len(stem))
        self._options.append(tuple(self._texts.setdefault(text, len(self._texts)) for text in options))

    def matches(self, kept: Sequence[bool]) -> tuple[list[Match | None], int]:
        """Per row the first earlier row it nearly repeats, of those that are `kept` and repeat none themselves.

        Also the number of rows that repeat a stem word for word with other options: other questions, and no matches.
        """
        rows_with = Counter(option for options in self._options for option in set(options))
        shared = [{option for option in options if rows_with[option] > 1} for options in self._options]
        index: dict[int, list[_Place]] = {}
        found: list[Match | None] = []
        seen: set[bytes] = set()
        alike = 0
        for row, triples in enumerate(self._triples):
            prefix = self._prefix(triples)
            # Two short stems must share a triple and an option, so both make the key; long ones a triple.
            keys = [(place, hash((triple, option))) for place, triple in prefix for option in shared[row]]
            keys += [(place, hash((triple, -1))) for place, triple in prefix if self._lengths[row] >= LONG]
            match = next(
                filter(None, (self._match(row, other) for other in _candidates(keys, len(triples), index))), None
            )
            found.append(match)
            stem = triples.tobytes()
            alike += match is None and stem in seen
            if match is None and kept[row]:
                seen.add(stem)
                for place, key in keys:
                    places = index.setdefault(key, [])
                    if len(places) < MAX_STEMS_OF_KEY:
                        places.append((row, place, len(triples)))
        return found, alike

    def _prefix(self, triples: np.ndarray) -> list[tuple[int, int]]:
        """(place, triple) of the rarest triples, rarest first, without those that no other stem has."""
        if not len(triples):
            return []
        frequency = self._frequency[_bucket(triples)]
        reach = len(triples) - math.ceil(SIMILARITY * len(triples) - 1e-9) + 1
        order = np.lexsort((triples, frequency))[:reach]
        common = np.flatnonzero(frequency[order] > 1)
        return list(zip(common.tolist(), triples[order[common]].tolist(), strict=True))

    def _match(self, row: int, other: int) -> Match | None:
        same = most_in_common(self._options[row], self._options[other])
        if not same and min(self._lengths[row], self._lengths[other]) < LONG:
            return None
        similarity = _jaccard(self._triples[row], self._triples[other])
        return Match(other, similarity, same) if similarity >= SIMILARITY else None


_Place = tuple[int, int, int]  # row, place of the triple among the row's rarest, number of its triples


def _candidates(keys: list[tuple[int, int]], size: int, index: dict[int, list[_Place]]) -> list[int]:
    """Rows in order that can still be similar by the place of their first common triple: all common ones follow it."""
    possible: dict[int, bool] = {}
    for place, key in sorted(keys):
        for other, other_place, other_size in index.get(key, ()):
            if other not in possible:
                most = min(size - place, other_size - other_place)
                possible[other] = most * (1 + SIMILARITY) + 1e-9 >= SIMILARITY * (size + other_size)
    return sorted(other for other, holds in possible.items() if holds)


def most_in_common(one: Sequence[int], other: Sequence[int]) -> bool:
    """Whether more than half of the options of the row that has fewer are among the other's."""
    left = list(other)
    for option in one:
        if option in left:
            left.remove(option)
    return 2 * (len(other) - len(left)) > min(len(one), len(other))


def _triples(numbers: np.ndarray) -> np.ndarray:
    """Sorted distinct triples of neighbours as one number each; a stem of one or two words is one triple."""
    if not len(numbers):
        return numbers
    if len(numbers) < 3:
        numbers = np.concatenate([numbers, np.zeros(3 - len(numbers), np.uint64)])
    # 21 bits a word: exact up to two million different words, after which a few triples coincide.
    parts = numbers & np.uint64((1 << 21) - 1)
    return np.unique((parts[:-2] << np.uint64(42)) | (parts[1:-1] << np.uint64(21)) | parts[2:])


def _bucket(triples: np.ndarray) -> np.ndarray:
    """[n] places in the table of frequencies: multiplicative hashing, Knuth 6.4."""
    return ((triples * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(44)).astype(np.int64)


def _jaccard(one: np.ndarray, other: np.ndarray) -> float:
    if not SIMILARITY * len(one) <= len(other) <= len(one) / SIMILARITY:
        return 0.0
    places = np.searchsorted(one, other)
    places[places == len(one)] = 0
    common = int((one[places] == other).sum())
    return common / (len(one) + len(other) - common)
