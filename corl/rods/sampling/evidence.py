"""Which entities satisfy which clues: clues drawn for a block of entities, and the masks of all who share one.

n questions, K clues at most. A mask's bit k says that clue k holds.
"""

from dataclasses import dataclass

import numpy as np

from corl.rods.graph import STEPS, Ints
from corl.rods.sampling.draws import MAX_CLUES
from corl.rods.sampling.grammar import CLUE_STEPS, SEED_TYPES, back
from corl.rods.sampling.keyed import uniform
from corl.rods.sampling.ragged import order_by, rank_within, starts
from corl.rods.sampling.sources import Bools, Floats, Sources


@dataclass(frozen=True, slots=True)
class Clues:
    """Clues of one step each; -1 where a question has fewer."""

    nodes: Ints  # [n, K]
    steps: Ints  # [n, K] from the entity to the node

    @property
    def full(self) -> Ints:
        """[n] the mask of an entity that satisfies them all."""
        return ((self.nodes >= 0) << np.arange(self.nodes.shape[1])).sum(1)

    def take(self, rows: Ints | Bools) -> "Clues":
        return Clues(self.nodes[rows], self.steps[rows])


@dataclass(frozen=True, slots=True)
class Evidence:
    """Every (question, entity) with a clue in common, sorted; masks on strong and weak edges of the whole graph."""

    row: Ints
    entity: Ints
    mask: Ints

    def take(self, keep: Bools | Ints) -> "Evidence":
        return Evidence(self.row[keep], self.entity[keep], self.mask[keep])


def draw_seeds(sources: Sources, stage: str, indices: Ints, kinds: list[str]) -> tuple[Ints, Ints]:
    """A node of the wanted type for each index, by the seed weights: (rows, nodes), without hubs and generic ones."""
    shot = uniform(sources.seed, f"{stage}.seed", indices)
    seeds = np.full(len(indices), -1, np.int64)
    names = np.array(kinds)
    for kind in sorted(set(kinds)):
        nodes, weights = sources.nodes_of[kind], sources.weights.get(kind)
        rows = np.flatnonzero(names == kind)
        if nodes.size and weights is not None and weights[-1] > 0:
            at = np.searchsorted(weights, shot[rows] * weights[-1], side="right")
            seeds[rows] = nodes[np.minimum(at, nodes.size - 1)]
    rows = np.flatnonzero(seeds >= 0)
    rows = rows[~sources.blunt[seeds[rows]]]
    return rows, seeds[rows]


def seed_kinds(sources: Sources, stage: str, indices: Ints) -> list[str]:
    """The type of each question's entity: disease or drug, as far as the graph has them."""
    there = [(kind, share) for kind, share in SEED_TYPES if sources.nodes_of[kind].size]
    if not there:
        return ["disease"] * len(indices)
    bounds = np.cumsum([share for _, share in there])
    which = np.searchsorted(bounds, uniform(sources.seed, f"{stage}.kind", indices) * bounds[-1], side="right")
    return [there[min(at, len(there) - 1)][0] for at in which.tolist()]


def race(sources: Sources, stage: str, keys: Ints, weights: Floats) -> Floats:
    """[0, 1) per key; in ascending order they are a weighted draw without replacement (exponential clocks)."""
    clock = -np.log1p(-uniform(sources.seed, stage, keys)) / weights
    return clock / (1 + clock)


def draw_clues(
    sources: Sources,
    stage: str,
    indices: Ints,
    entities: Ints,
    count: Ints,
    *,
    barred: Ints | None = None,
    asked: Ints | None = None,
    common: Bools | None = None,
) -> Clues:
    """Up to `count` [n] clues of each entity by keyed weighted choice.

    Rare ones are preferred, or where `common` [n] says so those that many share: it takes more of them to tell who is
    meant. A clue is a solid edge to a node that is no hub, not generic, not in `barred` [n, B], whose degree is at most
    clue_degree, and that another entity shares; none of step `asked` [n], which would be an answer to the question.
    """
    graph, width = sources.graph, CLUE_STEPS.shape[1]
    steps = CLUE_STEPS[graph.types[entities]]  # [n, steps]
    slot = np.flatnonzero(steps.ravel() >= 0)
    flat = steps.ravel()[slot]
    owner, nodes = sources.solid.expand(np.repeat(entities, width)[slot], flat)
    row, step = slot[owner] // width, flat[owner]
    degree = graph.degrees[nodes]
    good = ~sources.blunt[nodes] & (degree <= sources.settings.clue_degree)
    good &= graph.any.slices(nodes, back(step))[1] > 1
    if barred is not None:
        good &= (nodes[:, None] != barred[row]).all(1)
    if asked is not None:
        good &= step != asked[row]
    row, step, nodes, degree = row[good], step[good], nodes[good], degree[good]
    power = -0.5 if common is None else np.where(common[row], 0.5, -0.5)
    weights = degree.astype(np.float64) ** power
    clock = race(sources, f"{stage}.clues", (indices[row] * STEPS + step) * len(graph) + nodes, weights)
    order = order_by(row, clock)
    row, step, nodes = row[order], step[order], nodes[order]
    rank = rank_within(row)
    keep = rank < count[row]
    clues = Clues(np.full((len(indices), MAX_CLUES), -1), np.full((len(indices), MAX_CLUES), -1))
    clues.nodes[row[keep], rank[keep]] = nodes[keep]
    clues.steps[row[keep], rank[keep]] = step[keep]
    for later in range(1, MAX_CLUES):  # one node under two relations would be one clue said twice
        twice = (clues.nodes[:, :later] == clues.nodes[:, later : later + 1]).any(1)
        clues.nodes[twice, later] = clues.steps[twice, later] = -1
    return clues


def gather(sources: Sources, clues: Clues) -> Evidence:
    """All entities that share a clue, with their masks."""
    rows, slots = np.nonzero(clues.nodes >= 0)
    steps = back(clues.steps[rows, slots])
    owner, entity = sources.graph.any.expand(clues.nodes[rows, slots], steps)
    size = len(sources.graph)
    keys = np.sort((rows[owner] * size + entity) * MAX_CLUES + slots[owner])
    groups, bits = keys // MAX_CLUES, 1 << (keys % MAX_CLUES)
    first = starts(groups)
    mask = np.bitwise_or.reduceat(bits, first) if first.size else np.zeros(0, np.int64)
    return Evidence(groups[first] // size, groups[first] % size, mask)


def compact(clues: Clues, kept: Ints, evidence: Evidence) -> tuple[Clues, Evidence]:
    """Only the clues in `kept` [n], moved to the front in their order; entities that share none of them go."""
    width = clues.nodes.shape[1]
    stays = (kept[:, None] >> np.arange(width)) & 1
    order = np.argsort(1 - stays, axis=1, kind="stable")
    nodes, steps, there = (np.take_along_axis(part, order, 1) for part in (clues.nodes, clues.steps, stays))
    mask = np.zeros_like(evidence.mask)
    for place in range(width):
        old = order[evidence.row, place]
        mask |= ((evidence.mask >> old) & there[evidence.row, place]) << place
    clues = Clues(np.where(there == 1, nodes, -1), np.where(there == 1, steps, -1))
    return clues, Evidence(evidence.row, evidence.entity, mask).take(mask > 0)


def violates(sources: Sources, clues: Clues, evidence: Evidence) -> Ints:
    """[M] the clues an entity fails for good: it has a strong edge of the clue's step, none to the clue's node, and
    none of a kindred relation to it either. A clue it merely has no word on is not among them."""
    out = np.zeros_like(evidence.mask)
    for slot in range(clues.nodes.shape[1]):
        node, step = clues.nodes[evidence.row, slot], clues.steps[evidence.row, slot]
        open_to = np.flatnonzero((node >= 0) & ((evidence.mask >> slot) & 1 == 0))
        entity, node, step = evidence.entity[open_to], node[open_to], step[open_to]
        fails = sources.graph.strong.has_step(entity, step)
        rows = np.flatnonzero(fails)
        fails[rows] = ~sources.holds_kin(entity[rows], step[rows], node[rows])
        out[open_to[fails]] |= 1 << slot
    return out


def complete(evidence: Evidence, full: Ints, size: int) -> Ints:
    """[n] how many of the evidence's entities satisfy every clue."""
    return np.bincount(evidence.row[evidence.mask & full[evidence.row] == full[evidence.row]], minlength=size)


def remaining(clues: Clues, evidence: Evidence) -> Ints:
    """[n, K] how many of the evidence's entities satisfy clues 0..k; -1 behind the last clue."""
    out = np.full(clues.nodes.shape, -1, np.int64)
    for slot in range(clues.nodes.shape[1]):
        wanted = (2 << slot) - 1
        count = np.bincount(evidence.row[evidence.mask & wanted == wanted], minlength=len(clues.nodes))
        out[:, slot] = np.where(clues.nodes[:, slot] >= 0, count, -1)
    return out
