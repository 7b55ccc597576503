"""Whether a question gives its answer away by the look of a word, without any medicine.

Two texts give each other away when, generic words left out, a word of five letters or more of the one begins as a word
of the other does, or holds most of its runs of four letters; when an acronym of one spells initials of the other; when
one, whole, stands in the other however short it is; when they share two neighbouring Chinese characters.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from corl.rods.graph import Graph, Ints
from corl.rods.sampling.draws import Draws
from corl.rods.sampling.generic import GENERIC, GENERIC_ZH, PREFIXES
from corl.rods.wording import FUNCTION_WORDS, STEM, bigrams, chinese_runs, tokens
from corl.rods.wording.surfaces import without_disambiguator

Bools = NDArray[np.bool_]
GRAM, CONTAINED = 4, 0.6  # letters of a run; share of the shorter word's runs that the longer one holds
BEYOND_PREFIX = 3  # letters that words share beyond a generic prefix before they share a stem
SHORT = 4  # words and Chinese characters of the longest text that is looked for whole
LANGS = ("en", "zh")


@dataclass(frozen=True, slots=True)
class _Look:
    """What texts show. Two sides give each other away when `keys` of one meet `mirrored` of the other."""

    keys: frozenset[str]
    mirrored: frozenset[str]
    grams: frozenset[str]
    words: tuple[str, ...]  # that count, each once


class Leaks:
    """Leaks between the nodes of one graph, through all their names and aliases; looked at once and kept."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._looks: dict[int, _Look] = {}
        self._close: dict[tuple[str, str], bool] = {}

    def pairs(self, a: Ints, b: Ints) -> Bools:
        """[n] whether naming node a gives away node b; the same the other way round. -1 names nothing."""
        a, b = np.asarray(a), np.asarray(b)
        told = np.zeros(len(a), bool)
        rows = np.flatnonzero((a >= 0) & (b >= 0))
        told[rows] = [self._leaks(x, y) for x, y in zip(a[rows].tolist(), b[rows].tolist(), strict=True)]
        return told

    def leaking(self, draws: Draws) -> Bools:
        """[n] whether a node that the stem names gives away the answer, or the answer is nothing but generic words."""
        named = np.column_stack([draws.clue_nodes, draws.contrast, draws.excluded_node])
        answers = np.repeat(draws.answer[:, None], named.shape[1], axis=1)
        told = self.pairs(named.ravel(), answers.ravel()).reshape(named.shape).any(axis=1)
        return told | np.fromiter((self._says_nothing(node) for node in draws.answer.tolist()), bool, count=len(draws))

    def row(self, draws: Draws, row: int) -> bool:
        """`leaking` of one row."""
        return bool(self.leaking(draws.take(np.array([row])))[0])

    def in_text(self, text: str, answer: int) -> bool:
        """Whether a whole text, the template's own words among it, gives the answer away.

        Initials are not looked for: those of any few words of a sentence spell something.
        """
        return self._meet(_look([text], initials=False), self._look_of(answer))

    def _leaks(self, a: int, b: int) -> bool:
        return a == b or self._meet(self._look_of(a), self._look_of(b))

    def _meet(self, one: _Look, other: _Look) -> bool:
        if not one.keys.isdisjoint(other.mirrored):
            return True
        if one.grams.isdisjoint(other.grams):
            return False
        return any(self._alike(first, second) for first in one.words for second in other.words)

    def _alike(self, first: str, second: str) -> bool:
        pair = (first, second) if first < second else (second, first)
        known = self._close.get(pair)
        if known is None:
            grams, others = _grams(first), _grams(second)
            known = self._close[pair] = len(grams & others) >= CONTAINED * min(len(grams), len(others))
        return known

    def _says_nothing(self, node: int) -> bool:
        words = tokens(self._graph.names[node])
        return bool(words) and all(word in GENERIC for word in words)

    def _look_of(self, node: int) -> _Look:
        found = self._looks.get(node)
        if found is None:
            graph = self._graph
            names = (graph.names[node], graph.names_zh[node], *graph.aliases_en[node], *graph.aliases_zh[node])
            found = self._looks[node] = _look([without_disambiguator(name) for name in names if name])
        return found


def _look(texts: Iterable[str], *, initials: bool = True) -> _Look:
    """Keys: s stem, z Chinese pair, a acronym, i initials, w whole text, p part of a text; a meets i, w meets p."""
    keys: set[str] = set()
    words: dict[str, None] = {}
    for text in texts:
        found = tokens(text)
        telling = [_american(word) for word in found if len(word) >= STEM and word not in GENERIC]
        words.update(dict.fromkeys(telling))
        keys.update(f"s{_stem(word)}" for word in telling)
        keys.update(f"a{acronym}" for acronym in _acronyms(text))
        if initials:
            keys.update(f"i{spelled}" for spelled in _initials(found))
        runs = chinese_runs(text)
        for run in runs:
            keys.update(f"z{pair}" for piece in GENERIC_ZH.split(run) for pair in bigrams(piece))
        keys.update(_whole_and_parts(found, runs))
    other = {"a": "i", "i": "a", "w": "p", "p": "w"}
    # An acronym also meets itself, and a whole text another one: both are parts of themselves.
    mirrored = {other.get(key[0], key[0]) + key[1:] for key in keys} | {key for key in keys if key[0] == "a"}
    grams = frozenset(gram for word in words for gram in _grams(word))
    return _Look(frozenset(keys), frozenset(mirrored), grams, tuple(words))


def _stem(word: str) -> str:
    prefix = next((len(p) for p in PREFIXES if word.startswith(p)), 0)
    return word[: max(STEM, prefix + BEYOND_PREFIX)] if prefix else word[:STEM]


def _grams(word: str) -> frozenset[str]:
    return frozenset(word[i : i + GRAM] for i in range(len(word) - GRAM + 1))


def _american(word: str) -> str:
    return word.replace("ae", "e").replace("oe", "e")


def _acronyms(text: str) -> list[str]:
    """Words of two to seven capitals and digits that begin with a capital and hold two, in lower case."""
    if text.islower():
        return []
    cleaned = "".join(c if c.isascii() and c.isalnum() else " " for c in text)
    words = [word for word in cleaned.split() if 2 <= len(word) <= 7 and word[0].isalpha() and word.isupper()]
    return [word.lower() for word in words if sum(map(str.isalpha, word)) >= 2]


def _initials(words: list[str]) -> list[str]:
    """Of two words or more, with and without the small ones; of three neighbours or more inside a longer text."""
    content = [word for word in words if word not in FUNCTION_WORDS]
    found = {"".join(w[0] for w in listed) for listed in (words, content) if len(listed) >= 2}
    spelled = "".join(word[0] for word in content)
    found.update(spelled[i:j] for i in range(len(spelled)) for j in range(i + 3, min(i + 6, len(spelled)) + 1))
    return sorted(found)


def _whole_and_parts(words: list[str], runs: list[str]) -> list[str]:
    """A text of few words or few characters is looked for whole in the other one; generic ones are not."""
    keys = []
    content = [word for word in words if word not in FUNCTION_WORDS]
    if 0 < len(content) <= SHORT and not runs and not all(word in GENERIC for word in content):
        keys.append(f"w{' '.join(content)}")
    for size in range(1, SHORT + 1):
        keys += [f"p{' '.join(content[i : i + size])}" for i in range(len(content) - size + 1)]
    for run in runs:
        if len(runs) == 1 and not words and 2 <= len(run) <= SHORT and GENERIC_ZH.sub("", run):
            keys.append(f"w{run}")
        keys += [f"p{run[i : i + size]}" for size in range(2, SHORT + 1) for i in range(len(run) - size + 1)]
    return keys
