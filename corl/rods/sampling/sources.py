"""What questions are drawn from: a graph, settings, a seed and seed weights, with what follows from them kept."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from corl.config.rods import RodsSample
from corl.rods.graph import NODE_TYPES, RELATION_IDS, RELATIONS, STEPS, Adjacency, Graph, Ints, step_of
from corl.rods.sampling.grammar import KIN_RELATION, kin_step
from corl.rods.sampling.options import both_features
from corl.rods.sampling.rarity import rare_nodes

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

KINDRED_STEP = 0  # the one step of Sources.relatives
# The second fact, read between the same two nodes, makes the first one doubtful: no clue and no key rests on either.
_CONTRADICTIONS = (  # relation, other relation, whether the other one stands the other way round
    ("treated_with_drug", "contraindicated_in", True),
    ("treated_by", "contraindicated_in", True),
    ("prevented_by", "contraindicated_in", True),
    ("caused_by", "caused_by", True),
    ("has_complication", "has_complication", True),
    ("has_complication", "caused_by", False),
    ("has_complication", "has_risk_factor", False),
    ("has_subtype", "has_subtype", True),
)


@dataclass(frozen=True, eq=False)
class Sources:
    graph: Graph
    settings: RodsSample
    seed: int
    weights: dict[str, Floats]  # per node type: cumulative seed weights, aligned with graph.of_type(type)

    @cached_property
    def nodes_of(self) -> dict[str, Ints]:
        """Node numbers by type."""
        return {kind: self.graph.of_type(kind) for kind in NODE_TYPES}

    @cached_property
    def hubs(self) -> Bools:
        """[N] nodes of too high a degree to be passed through."""
        degrees = self.graph.degrees
        return degrees > np.quantile(degrees, self.settings.hub_quantile) if degrees.size else np.zeros(0, bool)

    @cached_property
    def blunt(self) -> Bools:
        """[N] nodes that say too little to be a clue, and too much to be an option."""
        return self.hubs | self.graph.generic

    @cached_property
    def rare(self) -> Bools:
        """[N] rare nodes."""
        return rare_nodes(self.graph)

    @cached_property
    def appeal(self) -> Floats:
        """[N] weights for drawing answers and what leads to them: few edges and rare preferred."""
        return np.where(self.rare, 3.0, 1.0) / np.sqrt(np.maximum(self.graph.degrees, 1))

    @cached_property
    def solid(self) -> Adjacency:
        """What clues and keys rest on: strong edges that nothing in the graph, weak edges included, contradicts."""
        graph = self.graph
        keep = graph.strong_edges.copy()
        for relation, other, turned in _CONTRADICTIONS:
            for named, against in ((relation, other), (other, relation)):
                rows = np.flatnonzero(keep & (graph.relations == RELATION_IDS[named]))
                ends = (graph.tails[rows], graph.heads[rows]) if turned else (graph.heads[rows], graph.tails[rows])
                keep[rows[graph.any.has(ends[0], step_of(against), ends[1])]] = False
        functional = np.array([rule.functional for rule in RELATIONS.values()])[graph.relations]
        keep[functional & (graph.any.slices(graph.heads, 2 * graph.relations)[1] > 1)] = False
        return Adjacency(len(graph), graph.heads[keep], graph.relations[keep], graph.tails[keep])

    @cached_property
    def kin(self) -> Adjacency:
        """Strong and weak edges with each relation replaced by its family's, see grammar.kin_step."""
        graph = self.graph
        return Adjacency(len(graph), graph.heads, KIN_RELATION[graph.relations], graph.tails)

    @cached_property
    def relatives(self) -> Adjacency:
        """Nodes that a careful reader may take for one another: a subtype within two steps, a class and its member,
        nodes that share a name."""
        graph = self.graph
        every = np.arange(len(graph))
        child, grandchild = _two_steps(graph.any, every, step_of("has_subtype"))
        drugs, classes = graph.any.expand(every, step_of("in_drug_class"))
        one, other = _namesakes(graph)
        low = np.concatenate([child, drugs, one])
        high = np.concatenate([grandchild, classes, other])
        apart = low != high
        heads, tails = np.concatenate([low, high])[np.tile(apart, 2)], np.concatenate([high, low])[np.tile(apart, 2)]
        return Adjacency(len(graph), heads, np.full(heads.size, KINDRED_STEP // 2), tails)

    @cached_property
    def features(self) -> tuple[Floats, Floats]:
        """[N, F] option features in English and in Chinese."""
        return both_features(self.graph)

    @cached_property
    def edges_by_step(self) -> tuple[Ints, Ints, Ints]:
        """Solid edges sorted by step: first edge of each step [STEPS + 1], node, target."""
        rows = self.solid.keys // len(self.graph)
        order = np.argsort(rows % STEPS, kind="stable")
        first = np.searchsorted((rows % STEPS)[order], np.arange(STEPS + 1))
        return first, (rows // STEPS)[order], self.solid.targets[order].astype(np.int64)

    def pick_edges(self, steps: Ints, uniform: Floats) -> tuple[Ints, Ints, Bools]:
        """A solid edge of each step: (node, target, whether there is one)."""
        first, nodes, targets = self.edges_by_step
        at = np.maximum(steps, 0)
        count = np.where(steps >= 0, first[at + 1] - first[at], 0)
        edge = np.minimum(first[at] + (uniform * count).astype(np.int64), max(nodes.size - 1, 0))
        if not nodes.size:
            return np.zeros_like(steps), np.zeros_like(steps), np.zeros(steps.shape, bool)
        return nodes[edge], targets[edge], count > 0

    def related(self, one: Ints, other: Ints) -> Bools:
        """Whether the two may be taken for one another, see relatives."""
        return (one == other) | self.relatives.has(one, KINDRED_STEP, other)

    def holds_kin(self, nodes: Ints, steps: Ints, targets: Ints) -> Bools:
        """Whether each node has the target under the step or a kindred one, strongly or weakly."""
        return self.kin.has(nodes, kin_step(steps), targets)


def _two_steps(adjacency: Adjacency, nodes: Ints, step: int) -> tuple[Ints, Ints]:
    """(node, target) of one and of two steps."""
    owner, middle = adjacency.expand(nodes, step)
    again, far = adjacency.expand(middle, step)
    return np.concatenate([nodes[owner], nodes[owner[again]]]), np.concatenate([middle, far])


def _namesakes(graph: Graph) -> tuple[Ints, Ints]:
    """Pairs of nodes that share a name or an alias, in either language, whatever the case."""
    holders: dict[str, list[int]] = {}
    for node, name in enumerate(graph.names):
        for text in (name, graph.names_zh[node], *graph.aliases_en[node], *graph.aliases_zh[node]):
            if text:
                holders.setdefault(text.casefold(), []).append(node)
    pairs = [(nodes[0], other) for nodes in holders.values() if len(nodes) > 1 for other in nodes[1:]]
    pairs += [(a, b) for nodes in holders.values() if len(nodes) > 2 for a in nodes[1:] for b in nodes if a < b]
    both = np.array(sorted(set(pairs)), np.int64).reshape(-1, 2)
    return both[:, 0], both[:, 1]
