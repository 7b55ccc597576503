"""The edges that a question rests on, with their sources, and the nodes hidden between them."""

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence

import numpy as np

from corl.rods.graph import RELATION_NAMES, RELATIONS, UNSOURCED, Adjacency, Graph, step_of

Place = tuple[int, int, int]  # an edge as walked: node, step, node
_SYMMETRIC = {step_of(name) // 2 for name, rule in RELATIONS.items() if rule.symmetric}


class EdgeTable:
    """Edges by their ends, read in either direction.

    Sorted arrays, not a dict: forked workers share them, where a dict of a million edges is copied by being read.
    """

    __slots__ = ("_graph", "_size", "_keys", "_numbers", "_heads", "_tails", "_relations", "_strengths")

    def __init__(self, graph: Graph) -> None:
        keys = (graph.heads * len(RELATIONS) + graph.relations) * len(graph) + graph.tails
        order = np.argsort(keys, kind="stable")
        self._graph, self._size = graph, len(graph)
        # Items of an array become plain numbers faster than those of numpy.
        self._heads, self._tails = (array("q", ends.tobytes()) for ends in (graph.heads, graph.tails))
        self._relations = array("q", graph.relations.tobytes())
        self._strengths = array("b", graph.strong_edges.tobytes())
        self._keys = array("q", keys[order].tobytes())
        self._numbers = array("q", order.astype(np.int64).tobytes())

    def number(self, place: Place) -> int | None:
        """The edge's number; None where the graph has none."""
        node, step, other = place
        relation = step // 2
        number = self._at(other, relation, node) if step % 2 else self._at(node, relation, other)
        return self._at(other, relation, node) if number is None and relation in _SYMMETRIC else number

    def rows(self, places: Sequence[Place]) -> list[dict[str, str]]:
        """Each edge that is there, once, in order."""
        names, sources, numbers = self._graph.names, self._graph.sources, [self.number(place) for place in places]
        return [
            {
                "head": names[self._heads[number]],
                "relation": RELATION_NAMES[self._relations[number]],
                "tail": names[self._tails[number]],
                "strength": "S" if self._strengths[number] else "W",
                "source": sources[number],
            }
            for number in dict.fromkeys(number for number in numbers if number is not None)
        ]

    def _at(self, head: int, relation: int, tail: int) -> int | None:
        key = (head * len(RELATIONS) + relation) * self._size + tail
        at = bisect_left(self._keys, key)
        return self._numbers[at] if at < len(self._keys) and self._keys[at] == key else None


def licence(provenance: Sequence[dict[str, str]]) -> str | None:
    """Share-alike and attribution where an edge names the page it was read from; nothing else needs one."""
    pages = dict.fromkeys(edge["source"].split("#")[0] for edge in provenance if edge["source"] != UNSOURCED)
    return f"CC BY-SA, facts from {'; '.join(pages)}" if pages else None


def hidden_between(strong: Adjacency, start: int, path: Sequence[int], end: int, shown: set[int]) -> list[int]:
    """The nodes passed from start to end along the path, by a way that avoids the `shown` ones where there is one."""
    if len(path) < 2:
        return []
    first: list[int] | None = None
    for way in _ways(strong, start, path, end):
        first = first or way
        if not shown & set(way):
            return way
    assert first is not None, f"no strong way from {start} to {end} along {path}"
    return first


def _ways(strong: Adjacency, start: int, path: Sequence[int], end: int) -> Iterator[list[int]]:
    targets = strong.of(start, path[0]).astype(np.int64)
    if len(path) == 2:
        for target in targets[strong.has(targets, path[1], np.full_like(targets, end))].tolist():
            yield [target]
        return
    for target in targets.tolist():
        for rest in _ways(strong, target, path[1:], end):
            yield [target, *rest]
