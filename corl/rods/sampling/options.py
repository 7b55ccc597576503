"""Wrong options: from a pool of candidates, the set that proves the question and does not betray the answer.

n questions, M candidates, T candidate sets, O options, F features.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from corl.rods.graph import Graph, Ints
from corl.rods.sampling.draws import Draws
from corl.rods.sampling.keyed import uniform
from corl.rods.sampling.rarity import stated_rarity

if TYPE_CHECKING:
    from corl.rods.sampling.sources import Sources

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

FEATURES = ("length", "words", "degree", "aliases", "rarity")  # of an option, without its question
_WEIGHTS = (1.0, 0.5, 1.0, 1.0, 2.0)  # words follow length, and rarity is what answers are drawn by
SETS = 48  # tried a question
ENDS = 2.0  # how much likelier the lowest and the highest rank are as targets, since they are missed more often
CLOSENESS = 1.5  # ranks that a set of full closeness may be off its targets more than one of none
# Twice the answer's rank in every feature, in one word of six-bit fields: a sum of words is the sums of all fields.
_FIELD = 63
_SHIFTS: Ints = 1 << (6 * np.arange(len(FEATURES), dtype=np.int64))


@dataclass(frozen=True, slots=True)
class Pool:
    """Candidates, each row's at the front."""

    nodes: Ints  # [n, M], -1 behind the last
    via: Ints  # [n, M]
    satisfied: Ints  # [n, M] bit k: the candidate, or its `via`, satisfies clue k
    cover: Ints  # [n, M] bit k: what the proof needs of some option, and this one gives
    closeness: Floats  # [n, M] in [0, 1]

    def take(self, rows: Ints | Bools) -> "Pool":
        return Pool(self.nodes[rows], self.via[rows], self.satisfied[rows], self.cover[rows], self.closeness[rows])


@dataclass(frozen=True, slots=True)
class Chosen:
    """[n, O - 1] each."""

    nodes: Ints
    via: Ints
    satisfied: Ints


def option_features(graph: Graph, lang: str) -> Floats:
    """[N, F] what can be told of an option without reading its question, in the order of FEATURES."""
    return _features(graph, lang, stated_rarity(graph))


def both_features(graph: Graph) -> tuple[Floats, Floats]:
    """option_features in English and in Chinese."""
    rarity = stated_rarity(graph)
    return _features(graph, "en", rarity), _features(graph, "zh", rarity)


def _features(graph: Graph, lang: str, rarity: Floats) -> Floats:
    names = [graph.name_in(node, lang) or graph.names[node] for node in range(len(graph))]
    aliases = graph.aliases_zh if lang == "zh" else graph.aliases_en
    words, listed = [len(name.split()) for name in names], [len(texts) for texts in aliases]
    columns = ([len(name) for name in names], words, graph.degrees, listed, rarity)
    return np.stack([np.asarray(column, np.float64) for column in columns], axis=1)


def gold_ranks(sources: "Sources", draws: Draws) -> Ints:
    """[n, F] the answer's rank among its options, 0 lowest; among equals a keyed one."""
    less, equal = _standing(sources, draws.lang, draws.answer, draws.distractors)
    slots = draws.index[:, None] * len(FEATURES) + np.arange(len(FEATURES))
    return less.sum(1) + (uniform(sources.seed, "rank.tie", slots) * (equal.sum(1) + 1)).astype(np.int64)


def choose(
    sources: "Sources", stage: str, indices: Ints, langs: Ints, answers: Ints, pool: Pool, required: Ints
) -> tuple[Chosen, Bools]:
    """(wrong options, whether there is a valid set) for each question.

    A set is valid when its options differ, none may be taken for another (Sources.relatives), and their `cover`
    together has every bit of `required` [n]. Of SETS keyed ones the best is taken: the answer's rank among the options
    lies near a keyed target in every feature, and the options are close to the answer.
    """
    size, slots = len(indices), sources.settings.options - 1
    picks, there = _draw_sets(sources, stage, indices, pool, required, slots)  # [n, T, slots]
    rows = np.arange(size)[:, None, None]
    less, equal = _standing(sources, langs, answers, pool.nodes)
    packed = (2 * less.astype(np.int64) + equal) @ _SHIFTS  # [n, M]
    sums = packed[rows, picks].sum(2)  # [n, T]
    targets = 2 * _targets(sources, stage, indices, slots + 1)
    cost = -CLOSENESS * pool.closeness[rows, picks].mean(2)
    for feature, shift in enumerate(_SHIFTS.tolist()):
        # An option that is level counts as half below. Were it to count as either, such sets would fit most targets.
        off = np.abs(((sums // shift) & _FIELD) - targets[:, feature : feature + 1])
        cost += 0.5 * _WEIGHTS[feature] * off
    cost[~there] = np.inf
    best = cost.argmin(1)
    found = np.isfinite(cost[np.arange(size), best])
    chosen = picks[np.arange(size), best]
    rows = np.arange(size)[:, None]
    taken = Chosen(pool.nodes[rows, chosen], pool.via[rows, chosen], pool.satisfied[rows, chosen])
    for one in range(slots):
        for other in range(one):
            found &= ~sources.related(np.maximum(taken.nodes[:, one], 0), np.maximum(taken.nodes[:, other], 0))
    return taken, found


def _draw_sets(
    sources: "Sources", stage: str, indices: Ints, pool: Pool, required: Ints, slots: int
) -> tuple[Ints, Bools]:
    """Positions in the pool [n, T, slots], and which sets are valid [n, T]. Slot j of set t is drawn among the
    candidates that give one required bit, another bit in the next set, so that few sets miss one."""
    size, width = pool.nodes.shape
    there = pool.nodes >= 0
    bits = int(required.max(initial=0)).bit_length()
    eligible = np.stack([there & ((pool.cover >> bit) & 1 == 1) for bit in range(bits)] + [there], axis=1)
    place = np.argsort(~eligible, axis=2, kind="stable")  # [n, bits + 1, M]
    count = eligible.sum(2)
    asks = (required[:, None] >> np.arange(bits)) & 1  # [n, bits]
    listed = np.concatenate([np.argsort(1 - asks, axis=1, kind="stable"), np.full((size, 1), bits)], axis=1)
    number = asks.sum(1)[:, None, None]
    turn = np.arange(SETS)[None, :, None] + np.arange(slots)[None, None, :]
    free = np.arange(slots)[None, None, :] >= number
    which = np.where(free, bits, turn % np.maximum(number, 1))
    bit = np.where(free, bits, np.take_along_axis(listed[:, None, :], np.minimum(which, bits), 2))
    rows = np.arange(size)[:, None, None]
    keys = indices[:, None, None] * (SETS * slots) + (np.arange(SETS)[:, None] * slots + np.arange(slots))[None]
    at = (uniform(sources.seed, f"{stage}.sets", keys) * count[rows, bit]).astype(np.int64)
    picks = place[rows, bit, np.minimum(at, width - 1)]
    valid = (count[rows, bit] > 0).all(2)
    covered = np.bitwise_or.reduce(pool.cover[rows, picks], axis=2)
    valid &= covered & required[:, None] == required[:, None]
    for one in range(slots):
        for other in range(one):
            valid &= picks[:, :, one] != picks[:, :, other]
    return picks, valid


def _standing(
    sources: "Sources", langs: Ints, answers: Ints, others: Ints
) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """[n, M, F] whether another option lies below the answer, and whether it is level with it."""
    less = np.zeros((*others.shape, len(FEATURES)), np.int8)
    equal = np.zeros_like(less)
    for lang, table in enumerate(sources.features):
        rows = np.flatnonzero(langs == lang)
        own, theirs = table[answers[rows]][:, None, :], table[others[rows]]
        less[rows], equal[rows] = theirs < own, theirs == own
    return less, equal


def _targets(sources: "Sources", stage: str, indices: Ints, options: int) -> Ints:
    """[n, F] a rank for the answer in each feature. Names of more words are longer and rare things have few edges, so
    these pairs share their draw: apart they could seldom both be met."""
    shot = uniform(sources.seed, f"{stage}.rank", indices[:, None] * 3 + np.arange(3))
    bounds = np.cumsum([ENDS, *[1.0] * (options - 2), ENDS])
    rank = np.searchsorted(bounds, shot * bounds[-1], side="right")
    length, degree, aliases = rank.T
    return np.stack([length, length, degree, aliases, options - 1 - degree], axis=1)
