"""Whether a question gives its answer away by the look of a word, without any medicine.

Two texts give each other away when, generic words left out, a word of five letters or more of the one begins as a word
of the other does, or holds most of its runs of four letters; when an acronym of one spells initials of the other; when
one, whole, stands in the other however short it is; when they share two neighbouring Chinese characters.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

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
# Between neither letters nor digits
_CAPITALS = re.compile("(?<![0-9A-Za-z])[A-Z][0-9A-Z]{1,6}(?![0-9A-Za-z])")


@dataclass(frozen=True, slots=True)
class _Look:
    """What texts show."""

    stems: frozenset[str]  # and pairs of Chinese characters
    acronyms: frozenset[str]
    initials: frozenset[str]
    wholes: tuple[str, ...]  # short texts, looked for in the other side's `content`
    content: str  # all texts one after the other, without small words; a space before and after each word
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

    def in_text(self, text: str, answer: int) -> bool:
        """Whether a whole text, the template's own words among it, gives the answer away.

        Initials are not looked for: those of any few words of a sentence spell something. Nor is the text looked for
        in a name: a sentence is no part of one.
        """
        look = self._look_of(answer)
        found, runs = tokens(text), chinese_runs(text)
        for word in found:
            if len(word) < STEM or word in GENERIC:
                continue
            word, stem, grams = _parts_of(word)
            if stem in look.stems:
                return True
            if not grams.isdisjoint(look.grams) and any(self._alike(word, other) for other in look.words):
                return True
        if runs and not look.stems.isdisjoint(_pairs(runs)):
            return True
        if look.wholes:
            content = _content([word for word in found if word not in FUNCTION_WORDS], runs)
            if any(whole in content for whole in look.wholes):
                return True
        acronyms = _acronyms(text) if look.acronyms or look.initials else []
        return any(acronym in look.acronyms or acronym in look.initials for acronym in acronyms)

    def _leaks(self, a: int, b: int) -> bool:
        return a == b or self._meet(self._look_of(a), self._look_of(b))

    def _meet(self, one: _Look, other: _Look) -> bool:
        if not one.stems.isdisjoint(other.stems):
            return True
        if one.acronyms and not (one.acronyms.isdisjoint(other.initials) and one.acronyms.isdisjoint(other.acronyms)):
            return True
        if other.acronyms and not other.acronyms.isdisjoint(one.initials):
            return True
        if any(whole in other.content for whole in one.wholes) or any(whole in one.content for whole in other.wholes):
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


def _look(texts: Iterable[str]) -> _Look:
    stems: set[str] = set()
    acronyms: set[str] = set()
    spelled: set[str] = set()
    words: dict[str, None] = {}
    wholes, contents = [], []
    for text in texts:
        found, runs = tokens(text), chinese_runs(text)
        content = [word for word in found if word not in FUNCTION_WORDS]
        telling = [_american(word) for word in found if len(word) >= STEM and word not in GENERIC]
        words.update(dict.fromkeys(telling))
        stems.update(map(_stem, telling))
        stems.update(_pairs(runs))
        acronyms.update(_acronyms(text))
        if len(found) >= 2:
            spelled.update(_initials(found, content))
        whole = _whole(content, found, runs)
        if whole:
            wholes.append(whole)
        contents.append(_content(content, runs))
    grams = frozenset([word[i : i + GRAM] for word in words for i in range(len(word) - GRAM + 1)])
    return _Look(
        frozenset(stems),
        frozenset(acronyms),
        frozenset(spelled),
        tuple(wholes),
        "|".join(contents),
        grams,
        tuple(words),
    )


@lru_cache(maxsize=1 << 16)
def _parts_of(word: str) -> tuple[str, str, frozenset[str]]:
    """The word as it is compared, its stem and its runs of letters."""
    word = _american(word)
    return word, _stem(word), _grams(word)


def _pairs(runs: list[str]) -> list[str]:
    return [pair for run in runs for piece in GENERIC_ZH.split(run) for pair in bigrams(piece)]


def _content(words: list[str], runs: list[str]) -> str:
    """Words and Chinese runs one after the other, as `_Look.content` has them."""
    return "|".join([f" {' '.join(words)} ", *runs])


def _stem(word: str) -> str:
    if not word.startswith(PREFIXES):
        return word[:STEM]
    prefix = next(len(p) for p in PREFIXES if word.startswith(p))
    return word[: max(STEM, prefix + BEYOND_PREFIX)]


def _grams(word: str) -> frozenset[str]:
    return frozenset(word[i : i + GRAM] for i in range(len(word) - GRAM + 1))


def _american(word: str) -> str:
    return word.replace("ae", "e").replace("oe", "e")


def _acronyms(text: str) -> list[str]:
    """Words of two to seven capitals and digits that begin with a capital and hold two, in lower case."""
    return [word.lower() for word in _CAPITALS.findall(text) if sum(map(str.isalpha, word)) >= 2]


def _initials(words: list[str], content: list[str]) -> set[str]:
    """Of two words or more, with and without the small ones; of three neighbours or more inside a longer text."""
    spelled = "".join([word[0] for word in content])
    found = {"".join([word[0] for word in words])}
    if len(content) >= 2:
        found.add(spelled)
    found.update([spelled[i:j] for i in range(len(spelled) - 2) for j in range(i + 3, min(i + 6, len(spelled)) + 1)])
    return found


def _whole(content: list[str], words: list[str], runs: list[str]) -> str:
    """A text of few words or few characters, to be looked for whole in the other one; "" for a generic one."""
    if 0 < len(content) <= SHORT and not runs and not all(word in GENERIC for word in content):
        return f" {' '.join(content)} "
    if len(runs) == 1 and not words and 2 <= len(runs[0]) <= SHORT and GENERIC_ZH.sub("", runs[0]):
        return runs[0]
    return ""
