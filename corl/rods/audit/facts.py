"""What the graph says about a set of clues, in plain sets: the audit's own reading of the edge list.

Nothing here knows how questions were made. A step is (relation, "out" | "in"): out, the node asked about is the head.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from corl.rods.graph import NODE_TYPES, RARITIES, RELATION_IDS, RELATIONS, Graph

Step = tuple[str, str]
Nodes = frozenset[int]
_NOTHING: Nodes = frozenset()
SUBTYPE_STEPS = 2


def turned(step: Step) -> Step:
    """The step seen from its other end."""
    return step[0], "in" if step[1] == "out" else "out"


class _Rows:
    """What stands at the other end of each (node, step); rows become sets when they are first asked for."""

    def __init__(self, graph: Graph, keep: np.ndarray) -> None:
        heads, relations, tails = graph.heads[keep], graph.relations[keep], graph.tails[keep]
        both = np.array([rule.symmetric for rule in RELATIONS.values()], bool)[relations]
        near = np.concatenate([heads, tails, tails[both], heads[both]])
        far = np.concatenate([tails, heads, heads[both], tails[both]])
        inward = np.repeat([0, 1, 0, 1], [heads.size, heads.size, both.sum(), both.sum()])
        codes = self._code(near, np.concatenate([relations, relations, relations[both], relations[both]]), inward)
        order = np.argsort(codes, kind="stable")
        self._codes, self._far = codes[order], far[order]
        self._sets: dict[int, Nodes] = {}

    @staticmethod
    def _code(node, relation, inward):  # type: ignore[no-untyped-def]
        return (node * len(RELATIONS) + relation) * 2 + inward

    def __call__(self, node: int, step: Step) -> Nodes:
        code = self._code(node, RELATION_IDS[step[0]], int(step[1] == "in"))
        if (known := self._sets.get(code)) is None:
            known = self._sets[code] = self._between(code, code + 1)
        return known

    def around(self, node: int) -> Nodes:
        """What stands at the other end of any edge."""
        return self._between(self._code(node, 0, 0), self._code(node + 1, 0, 0))

    def _between(self, first: int, last: int) -> Nodes:
        start, stop = self._codes.searchsorted(first), self._codes.searchsorted(last)
        return frozenset(self._far[start:stop].tolist()) if stop > start else _NOTHING


class Facts:
    """Questions to a graph. `strong=True` asks strong edges alone, else strong and weak ones."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._any = _Rows(graph, np.ones(graph.heads.size, bool))
        self._strong = _Rows(graph, graph.strong_edges)
        self._rare: dict[int, bool] = {}
        self._rarity: dict[int, float] = {}
        self._types = [NODE_TYPES[kind] for kind in graph.types.tolist()]
        self._relatives: dict[int, Nodes] = {}

    def type_of(self, node: int) -> str:
        return self._types[node]

    def at(self, node: int, step: Step, *, strong: bool = False) -> Nodes:
        """Where one step leads."""
        return (self._strong if strong else self._any)(node, step)

    def holders(self, path: Sequence[Step], node: int, *, strong: bool = False) -> Nodes:
        """Every entity from which `path` ends at `node`; of an empty path the node itself."""
        reached: Nodes = frozenset([node])
        for step in reversed(path):
            back = turned(step)
            rows = [self.at(place, back, strong=strong) for place in reached]
            reached = rows[0] if len(rows) == 1 else _NOTHING.union(*rows)
        return reached

    def stands(self, node: int, asked: Step, entities: Nodes, *, strong: bool = False) -> bool:
        """Whether some entity has `node` at the end of the asked step."""
        return not self.at(node, turned(asked), strong=strong).isdisjoint(entities)

    def relatives(self, node: int) -> Nodes:
        """Broader and narrower nodes: up to two steps of has_subtype either way, a drug's classes, a class's drugs."""
        if (known := self._relatives.get(node)) is None:
            found: set[int] = set()
            for direction in ("out", "in"):
                frontier: Nodes = frozenset([node])
                for _ in range(SUBTYPE_STEPS):
                    frontier = _NOTHING.union(*(self.at(place, ("has_subtype", direction)) for place in frontier))
                    found |= frontier
                found |= self.at(node, ("in_drug_class", direction))
            known = self._relatives[node] = frozenset(found - {node})
        return known

    def rare(self, node: int) -> bool:
        """Whether the node counts as a rare answer.

        A stated rarity decides. Else: more than half of the diseases on its strong edges that state one are rare; in a
        graph that states none, its degree is at most the median degree of its type.
        """
        if (known := self._rare.get(node)) is None:
            stated = self.graph.rarity[node]
            if stated >= 0:
                known = bool(RARITIES[stated] == "rare")
            elif not self._any_stated:
                known = bool(self.graph.degrees[node] <= self._median_degree[self.type_of(node)])
            else:
                linked = self._linked_rarities(node)
                known = 2 * sum(rarity == "rare" for rarity in linked) > len(linked)
            self._rare[node] = known
        return known

    def rarity(self, node: int) -> float:
        """0 common .. 1 rare, for comparing options: the node's own, else the mean of its diseases, else 0.5."""
        if (known := self._rarity.get(node)) is None:
            stated = int(self.graph.rarity[node])
            ranks = [stated] if stated >= 0 else [RARITIES.index(rarity) for rarity in self._linked_rarities(node)]
            known = self._rarity[node] = sum(ranks) / len(ranks) / (len(RARITIES) - 1) if ranks else 0.5
        return known

    def _linked_rarities(self, node: int) -> list[str]:
        diseases = [other for other in self._strong.around(node) if self.type_of(other) == "disease"]
        return [RARITIES[self.graph.rarity[other]] for other in diseases if self.graph.rarity[other] >= 0]

    @cached_property
    def _any_stated(self) -> bool:
        return bool((self.graph.rarity >= 0).any())

    @cached_property
    def _median_degree(self) -> dict[str, float]:
        kinds = {NODE_TYPES[index]: self.graph.types == index for index in np.unique(self.graph.types)}
        return {name: float(np.median(self.graph.degrees[mask])) for name, mask in kinds.items()}
