"""Which drawn questions a file takes: in order of their index, each once, within the bounds that the audit holds it to.

The choice depends on the draws and on the number of items wanted, never on who drew them or when.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from corl.config.rods import RodsSample
from corl.rods.graph import Ints
from corl.rods.sampling.draws import Draws
from corl.rods.sampling.keyed import random_words, uniform

Words = NDArray[np.uint64]
Floats = NDArray[np.float64]
# Room above an even share, so that the last items do not wait for the one rank that is still open.
RANK_SLACK, RANK_ROOM = 0.08, 4
# Deviations an item by which the answers may lie above or below their options on average: what a classifier that sees
# the options alone has to learn from. Ranks do not bound it where most options are level, as in being rare or not. An
# exact balance would tell too: an answer that leans one way would say that the others lean the other way.
LEAN_SLACK, LEAN_ROOM = 0.03, 6.0


@dataclass(frozen=True, slots=True)
class Candidates:
    """What the choice looks at, one row a proven question in order of the index. F features."""

    same: Words  # [n] equal for questions that ask the same of the same clues, whatever language and options
    reading: Words  # [n] equal for questions that may read the same, see `readings`
    answer: Ints  # [n]
    rare: NDArray[np.bool_]  # [n] the answer is rare
    ranks: Ints  # [n, F] the answer's rank among the options by each feature
    leans: Floats  # [n, any] how far the answer lies above the mean of the options, in their deviations

    def __len__(self) -> int:
        return len(self.same)

    def take(self, rows: Ints) -> "Candidates":
        """The rows at these positions."""
        return Candidates(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


@dataclass(slots=True)
class Selection:
    """The choice so far; `take` extends it. `rejected` counts by reason what it passed over.

    Rare answers and the answers' ranks are bounded in every prefix, not in the whole alone: were the ranks that come
    often taken first, the last items would have to have the seldom ones by all features at once. So only
    `answer_items`, how often an answer may stand, depends on the number of items.
    """

    options: int
    rare_share: float
    answer_items: int
    items: int  # full when it has so many
    count: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    _common: int = 0
    _same: set[int] = field(default_factory=set)
    _readings: set[int] = field(default_factory=set)
    _answers: Counter[int] = field(default_factory=Counter)
    _ranks: dict[int, int] = field(default_factory=dict)
    _leans: list[float] = field(default_factory=list)

    @staticmethod
    def of(items: int, settings: RodsSample) -> "Selection":
        return Selection(settings.options, settings.rare_share, most_of_one_answer(items, settings), items)

    @property
    def full(self) -> bool:
        return self.count == self.items

    def take(self, candidates: Candidates) -> list[int]:
        """The rows taken, in order; stops when the selection is full."""
        features, taken = candidates.ranks.shape[1], []
        ranks = candidates.ranks * features + np.arange(features)
        common_bound, rank_bound = self._bounds()
        self._leans = self._leans or [0.0] * candidates.leans.shape[1]
        columns = (candidates.same, candidates.reading, candidates.answer, candidates.rare, ranks, candidates.leans)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        for row, (same, reading, answer, rare, places, leans) in enumerate(rows):
            if self.full:
                break
            if same in self._same:
                self.rejected["same_question"] += 1
            elif reading in self._readings:
                self.rejected["same_text"] += 1
            elif self._answers[answer] >= self.answer_items:
                self.rejected["answer_share"] += 1
            elif not rare and self._common >= common_bound:
                self.rejected["common_answer"] += 1
            elif max([self._ranks.get(place, 0) for place in places]) >= rank_bound:
                self.rejected["answer_rank"] += 1
            elif not self._balances(leans):
                self.rejected["answer_lean"] += 1
            else:
                taken.append(row)
                self.count += 1
                self._same.add(same)
                self._readings.add(reading)
                self._answers[answer] += 1
                self._common += not rare
                self._leans = [total + lean for total, lean in zip(self._leans, leans, strict=True)]
                for place in places:
                    self._ranks[place] = self._ranks.get(place, 0) + 1
                common_bound, rank_bound = self._bounds()
        return taken

    def _balances(self, leans: list[float]) -> bool:
        """Whether the total stays within its room by each measure."""
        room = LEAN_ROOM + LEAN_SLACK * self.count
        return all(abs(total + lean) <= room for total, lean in zip(self._leans, leans, strict=True))

    def _bounds(self) -> tuple[int, int]:
        """How many common answers, and how many answers of one rank, there may be among one item more than now."""
        count = self.count + 1
        rank = math.floor(count / self.options * (1 + RANK_SLACK)) + RANK_ROOM
        return count - math.ceil(self.rare_share * count - 1e-9), rank


def most_of_one_answer(items: int, settings: RodsSample) -> int:
    """Items that one answer may stand in."""
    return max(1, math.floor(settings.answer_share * items + 1e-9))


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to look for questions before saying that there are no more.

    Looking ends with the first of: as many blocks as the number of items warrants, and `window` blocks in a row that
    brought less than `fresh` new questions a draw. The second does not depend on the number of items and the first
    grows with it, so whatever a smaller file would have looked at, a larger one has looked at too.
    """

    block: int = 4096  # draws
    least: int = 64  # blocks
    draws_per_item: int = 64
    window: int = 8  # blocks
    fresh: float = 1 / 16

    def blocks(self, items: int) -> int:
        return self.least + math.ceil(items * self.draws_per_item / self.block)


@dataclass(slots=True)
class Supply:
    """How many questions the draws so far held; says when there is no point in drawing more."""

    effort: Effort
    seen: set[int] = field(default_factory=set)
    history: list[int] = field(default_factory=list)  # distinct questions after each block

    def add(self, candidates: Candidates) -> None:
        self.seen.update(candidates.same.tolist())
        self.history.append(len(self.seen))

    def ended(self, items: int) -> bool:
        """Whether a file of so many items gets no further block."""
        window, blocks = self.effort.window, len(self.history)
        if blocks >= self.effort.blocks(items):
            return True
        new = self.history[-1] - self.history[-1 - window] if blocks > window else math.inf
        return new < self.effort.fresh * window * self.effort.block


def most_items(pool: Sequence[Candidates], below: int, settings: RodsSample, effort: Effort) -> int:
    """The most items, fewer than `below`, that a file can have; `pool` is all that looking for `below` items found.

    The choice is the same for all numbers of items in which an answer may stand equally often, so one choice tells for
    all of them. They are tried from the largest down, since a larger file may be possible where a smaller one, whose
    answers may stand less often, is not.
    """
    if not pool or below <= 1:
        return 0
    answers = _items_by_answer(pool)
    limit = min(below - 1, int(answers.sum()))
    while limit >= 1:
        often = most_of_one_answer(limit, settings)
        least = _first_items(often, settings)
        next_limit = least - 1
        if int(np.minimum(answers, often).sum()) >= least:
            counts = _counts_by_block(Selection.of(limit, settings), pool)
            for items in range(min(limit, counts[-1]), least - 1, -1):
                if counts[min(len(pool), effort.blocks(items)) - 1] >= items:
                    return items
            # Answers that may stand less often hardly make more items: without this a huge `below` tries every step.
            next_limit = min(next_limit, counts[-1] * 5 // 4 + 16)
        limit = next_limit
    return 0


def _counts_by_block(selection: Selection, pool: Sequence[Candidates]) -> list[int]:
    counts = []
    for block in pool:
        selection.take(block)
        counts.append(selection.count)
    return counts


def _items_by_answer(pool: Sequence[Candidates]) -> Ints:
    """How many distinct questions each answer has."""
    _, first = np.unique(np.concatenate([block.same for block in pool]), return_index=True)
    answers = np.concatenate([block.answer for block in pool])[first]
    return np.unique(answers, return_counts=True)[1]


def _first_items(often: int, settings: RodsSample) -> int:
    """The smallest number of items in which an answer may stand so often."""
    items = 1 if often == 1 else max(1, math.ceil(often / settings.answer_share) - 1)
    while most_of_one_answer(items, settings) < often:
        items += 1
    return items


def same_question(draws: Draws) -> Words:
    """[n] a key of shape, clues in any order, asked, excluded, contrast and answer."""
    parts = (draws.shape, draws.asked_step, draws.excluded_step, draws.excluded_node, draws.contrast, draws.answer)
    return _keys(draws.clue_nodes, draws.clue_steps, parts)


def readings(draws: Draws, namesake: Ints) -> Words:
    """[n] a key of language and all that the stem says, with namesakes taken for one node.

    The answer is none of it: of two stems that say the same, one is enough whatever they ask for.
    """
    namesake = np.append(namesake, -1)  # -1 stands for no node
    contrast, excluded = namesake[draws.contrast], namesake[draws.excluded_node]
    parts = (draws.lang, draws.shape, draws.asked_step, draws.excluded_step, excluded, contrast)
    return _keys(namesake[draws.clue_nodes], draws.clue_steps, parts)


def letters(seed: int, count: int, options: int) -> Ints:
    """[count] the answer's place, 0 for A: each run of `options` items has every place once, in a keyed order."""
    runs = -(-count // options)
    keys = np.stack([uniform(seed, "letters", np.arange(runs), slot) for slot in range(options)], axis=1)
    return np.argsort(keys, axis=1, kind="stable").reshape(-1)[:count]


def _keys(clue_nodes: Ints, clue_steps: Ints, parts: Sequence[Ints]) -> Words:
    clues = np.zeros(clue_nodes.shape, np.uint64)
    for slot, column in enumerate([clue_nodes, *np.moveaxis(clue_steps, 2, 0)]):
        clues = random_words(0, "clue", _chained(clues, column), slot)
    clues.sort(axis=1)
    key = np.zeros(len(clue_nodes), np.uint64)
    for slot, part in enumerate((*clues.T, *parts)):
        key = random_words(0, "question", _chained(key, part), slot)
    return key


def _chained(key: Words, part: NDArray) -> NDArray:
    with np.errstate(over="ignore"):
        return key * np.uint64(0x9E3779B97F4A7C15) ^ part.astype(np.uint64)
