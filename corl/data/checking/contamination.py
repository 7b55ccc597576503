"""Whether a question is one of a reference set's, whole or for the most part.

A single common run of 13 words, the rule of several published decontaminations, is not one: in 16 % of MedQA's dev
questions such a run (vital signs, "the most appropriate next step ..") also stands in one of 300 test questions, none
of which is the same. Hence

    exact    the same stem and the same options, in any order
    ngram    common runs of 13 words cover half of the shorter stem, and either 26 words or 13 and most of the options

Stems of fewer than 13 words are found by the first rule alone: "True about X is" asks something else with other
options.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from corl.data.checking.fingerprint import NGRAM, Section, Stem
from corl.data.checking.near_duplicates import most_in_common

LONG = 2 * NGRAM  # covered words that are evidence whatever the options
SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Hit:
    """The reference question nearest to one. covered: its words in common runs; share: of the shorter stem."""

    section: int
    line: int
    evidence: str  # "exact" or "ngram"
    covered: int
    share: float
    same_options: bool


class Reference:
    """The questions of all sections, indexed by their hashes."""

    def __init__(self, sections: Sequence[Section]) -> None:
        self.sections = list(sections)
        self._stems = [stem for section in sections for stem in section.stems]
        self._places = [(k, line) for k, section in enumerate(sections) for line in section.lines]
        owners = [np.full(len(stem.ngrams), row, np.int64) for row, stem in enumerate(self._stems)]
        grams = np.concatenate([np.empty(0, np.uint64), *(stem.ngrams for stem in self._stems)])
        order = np.argsort(grams, kind="stable")
        self._grams = grams[order]
        self._owners = np.concatenate([np.empty(0, np.int64), *owners])[order]
        self._by_stem: dict[int, list[int]] = {}
        self._by_question: dict[int, list[int]] = {}
        for row, stem in enumerate(self._stems):
            self._by_stem.setdefault(stem.stem, []).append(row)
            if stem.has_context:
                self._by_question.setdefault(stem.question, []).append(row)

    def hits(self, stem: Stem) -> list[Hit]:
        """At most one hit a section, the strongest, in the order of the sections."""
        best: dict[int, tuple[tuple[bool, float], Hit]] = {}
        exact = self._exact(stem)
        for row, covered in {**dict.fromkeys(exact, 0), **self._covered(stem)}.items():
            section, line = self._places[row]
            same = most_in_common(stem.options, self._stems[row].options)
            shorter = min(stem.words, self._stems[row].words)
            share = min(1.0, covered / shorter) if shorter else 0.0
            if row in exact:
                hit = Hit(section, line, "exact", covered, share, True)
            elif share >= SHARE and (covered >= LONG or same):
                hit = Hit(section, line, "ngram", covered, share, same)
            else:
                continue
            rank = (row in exact, share)
            if section not in best or rank > best[section][0]:
                best[section] = rank, hit
        return [best[section][1] for section in sorted(best)]

    def _exact(self, stem: Stem) -> set[int]:
        """Rows with the same options and the same stem; where one side has no context the question alone counts."""
        rows = [*self._by_stem.get(stem.stem, ())]
        if stem.has_context:
            rows += [row for row in self._by_stem.get(stem.question, ()) if not self._stems[row].has_context]
        else:
            rows += self._by_question.get(stem.stem, ())
        return {row for row in rows if self._stems[row].options == stem.options}

    def _covered(self, stem: Stem) -> dict[int, int]:
        """By row, how many of the stem's words stand in runs that the row has too."""
        if not len(stem.ngrams) or not len(self._grams):
            return {}
        first, last = (np.searchsorted(self._grams, stem.ngrams, side) for side in ("left", "right"))
        covered: dict[int, int] = {}
        end_of: dict[int, int] = {}
        for place in np.flatnonzero(last > first).tolist():
            for row in self._owners[first[place] : last[place]].tolist():
                covered[row] = covered.get(row, 0) + place + NGRAM - max(place, end_of.get(row, 0))
                end_of[row] = place + NGRAM
        return covered
