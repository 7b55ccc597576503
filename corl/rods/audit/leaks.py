"""Does the question give its answer away by the look of a word, without any medicine?

Four ways: it names the answer; one of its words shares a stem with one of the answer's; an acronym of one side spells
the initials of the other; a Chinese answer shares two characters with it. Generic words and prefixes do not count.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from corl.rods.audit.generic import GENERIC, GENERIC_ZH, PREFIXES, SMALL_WORDS
from corl.rods.audit.surfaces import find_whole, fold, is_acronym

STEM = 5  # letters
BEYOND_PREFIX = 3  # letters that two words share beyond a generic prefix before they share a stem
_WORD = re.compile(r"[^\W\d_\u2e80-\U0003ffff]+")
_ACRONYM = re.compile(r"(?<![A-Za-z0-9])[A-Z][A-Z0-9]{2,7}(?![A-Za-z0-9])")
_CHINESE = re.compile(r"[\u3400-\u9fff]{2,}")
_GENERIC_ZH = re.compile("|".join(sorted(map(re.escape, GENERIC_ZH), key=len, reverse=True)))


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer's names and aliases, both languages, taken apart once."""

    surfaces: tuple[tuple[str, str], ...]  # as written, folded
    stems: dict[str, tuple[str, ...]]  # by their first letters
    initials: frozenset[str]
    acronyms: frozenset[str]
    pairs: frozenset[str]  # of Chinese characters

    @classmethod
    def of(cls, surfaces: Iterable[str]) -> "Answer":
        names = tuple(dict.fromkeys(surfaces))
        stems: dict[str, tuple[str, ...]] = {}
        for word in dict.fromkeys(word for name in names for word in _telling(name)):
            stems[word[:STEM]] = (*stems.get(word[:STEM], ()), word)
        return cls(
            surfaces=tuple((name, fold(name)) for name in names if len(name) > 1),
            stems=stems,
            initials=frozenset(i for name in names for i in _initials(name)),
            acronyms=frozenset(word.lower() for name in names for word in _ACRONYM.findall(name)),
            pairs=frozenset(pair for name in names for pair in _pairs(name)),
        )


def find_leak(question: str, folded: str, named: Iterable[str], answer: Answer) -> str | None:
    """How the question gives the answer away, or None. `named`: the surfaces of its clues that it holds."""
    for written, low in answer.surfaces:
        if find_whole(written, question) if is_acronym(written) else find_whole(low, folded):
            return f"names the answer: {written!r}"
    for word in dict.fromkeys(_telling(question)):
        if (other := _shared_stem(word, answer)) is not None:
            return f"{word!r} shares a stem with {other!r}"
    for acronym in _ACRONYM.findall(question):
        if acronym.lower() in answer.initials:
            return f"{acronym!r} spells the answer's initials"
    for surface in named:
        if shared := _initials(surface) & answer.acronyms:
            return f"the initials of {surface!r} spell {min(shared).upper()!r}"
    if answer.pairs and (common := answer.pairs & _pairs(question)):
        return f"shares {min(common)!r}"
    return None


def _telling(text: str) -> list[str]:
    """Words of five letters or more that are not generic; British spellings as American ones."""
    words = (word.replace("ae", "e").replace("oe", "e") for word in _WORD.findall(fold(text)))
    return [word for word in words if len(word) >= STEM and not _is_generic(word)]


@lru_cache(maxsize=100_000)
def _is_generic(word: str) -> bool:
    return any(word.removesuffix(ending) in GENERIC for ending in ("", "s", "es", "d", "ed", "ing", "ly"))


def _shared_stem(word: str, answer: Answer) -> str | None:
    for other in answer.stems.get(word[:STEM], ()):
        shared = _shared_start(word, other)
        prefix = next((len(p) for p in PREFIXES if word.startswith(p) and other.startswith(p)), 0)
        if not prefix or shared >= prefix + BEYOND_PREFIX:
            return other
    for others in answer.stems.values():
        for other in others:
            if other in word or word in other:
                return other
    return None


def _shared_start(first: str, second: str) -> int:
    length = 0
    for a, b in zip(first, second, strict=False):
        if a != b:
            break
        length += 1
    return length


def _initials(name: str) -> frozenset[str]:
    """Initials of a name of three words or more, with and without its small words."""
    words = _WORD.findall(fold(name))
    spelled = {"".join(word[0] for word in kept) for kept in (words, [w for w in words if w not in SMALL_WORDS])}
    return frozenset(initials for initials in spelled if len(initials) >= 3)


def _pairs(text: str) -> frozenset[str]:
    """Two neighbouring Chinese characters each, of what is left between generic words."""
    if text.isascii():
        return frozenset()
    runs = _CHINESE.findall(_GENERIC_ZH.sub(" ", text))
    return frozenset(run[i : i + 2] for run in runs for i in range(len(run) - 1))
