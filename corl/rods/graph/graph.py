"""The graph as arrays: compressed rows over numpy, walked in both directions.

N nodes. A step is a relation taken in one direction: step = 2 * relation + (0 out, 1 in); symmetric relations have
the out step only and hold both ways under it. A row is the sorted targets of one (node, step); only rows that are not
empty are kept, so a million nodes with forty steps each cost what their edges cost.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from corl.rods.graph.schema import NODE_TYPES, RARITIES, RELATIONS
from corl.rods.graph.tables import UNSOURCED, Tables

RELATION_NAMES = tuple(RELATIONS)
RELATION_IDS = {name: index for index, name in enumerate(RELATION_NAMES)}
TYPE_IDS = {name: index for index, name in enumerate(NODE_TYPES)}
STEPS = 2 * len(RELATION_NAMES)
assert STEPS < 64, "a node's steps are kept as the bits of one word; bit 63 is that of no step"

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


def step_of(relation: str, direction: str = "out") -> int:
    """The step's number; a symmetric relation has one step, whatever the direction."""
    inward = direction == "in" and not RELATIONS[relation].symmetric
    return 2 * RELATION_IDS[relation] + int(inward)


def relation_of(step: int) -> tuple[str, str]:
    """(relation, "out" or "in") of a step."""
    return RELATION_NAMES[step // 2], "in" if step % 2 else "out"


def reverse(steps: Ints) -> Ints:
    """The steps taken the other way round; symmetric ones stay."""
    symmetric = np.array([RELATIONS[name].symmetric for name in RELATION_NAMES])
    return np.where(symmetric[steps // 2], steps, steps ^ 1)


def _bit(steps: Ints | int) -> NDArray[np.uint64]:
    return np.asarray(np.asarray(steps) & 63).astype(np.uint64)


class Adjacency:
    """Targets of every (node, step), both directions; sorted, so that a membership is one binary search.

    A node's steps are the bits of one word, and its rows lie one after the other in the order of those bits: how many
    bits stand below a step's is where its row is. Node -1 has no step, and nothing has step -1.
    """

    __slots__ = ("num_nodes", "keys", "targets", "steps", "first_rows", "row_starts")

    def __init__(self, num_nodes: int, heads: Ints, relations: Ints, tails: Ints) -> None:
        out = 2 * relations
        nodes = np.concatenate([heads, tails])
        steps = np.concatenate([out, reverse(out)])
        targets = np.concatenate([tails, heads])
        self.num_nodes = num_nodes
        # (node, step, target) as one number: at a million nodes below 2^63 by five orders of magnitude.
        keys = np.sort((nodes * STEPS + steps) * num_nodes + targets)
        # A symmetric edge that the file names both ways would stand here twice.
        self.keys: Ints = keys[np.append(True, keys[1:] != keys[:-1])] if keys.size else keys
        self.targets: NDArray[np.int32] = (
            (self.keys % num_nodes).astype(np.int32) if num_nodes else np.zeros(0, np.int32)
        )
        rows = self.keys // max(num_nodes, 1)
        first = np.flatnonzero(np.concatenate([[True], rows[1:] != rows[:-1]])) if rows.size else np.zeros(0, np.int64)
        row_nodes, row_steps = rows[first] // STEPS, rows[first] % STEPS
        self.steps: NDArray[np.uint64] = np.zeros(num_nodes + 1, np.uint64)  # [N + 1], the last is node -1
        np.bitwise_or.at(self.steps, row_nodes, np.uint64(1) << row_steps.astype(np.uint64))
        self.first_rows: Ints = np.searchsorted(row_nodes, np.arange(num_nodes + 1))
        # One more than the rows have: what no row has is looked up, and thrown away, at row 0.
        self.row_starts: Ints = np.append(first, [rows.size, rows.size]).astype(np.int64)

    def has_step(self, nodes: Ints, steps: Ints | int) -> Bools:
        """Whether each node has any edge of its step."""
        return (self.steps[nodes] >> _bit(steps)) & np.uint64(1) == 1

    def slices(self, nodes: Ints, steps: Ints | int) -> tuple[Ints, Ints]:
        """(start, count) of the targets of each (node, step) in `targets`; count 0 where there is none."""
        nodes, bit = np.broadcast_arrays(nodes, _bit(steps))
        held = self.steps[nodes]
        found = (held >> bit) & np.uint64(1) == 1
        row = self.first_rows[nodes] + np.bitwise_count(held & ((np.uint64(1) << bit) - np.uint64(1)))
        row = np.where(found, row, 0)
        start = self.row_starts[row]
        return start, np.where(found, self.row_starts[row + 1] - start, 0)

    def expand(self, nodes: Ints, steps: Ints | int) -> tuple[Ints, Ints]:
        """(index into `nodes`, target) of every edge of every given (node, step), in order."""
        start, count = self.slices(nodes, steps)
        owner = np.repeat(np.arange(len(start)), count)
        offset = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
        return owner, self.targets[np.repeat(start, count) + offset].astype(np.int64)

    def has(self, nodes: Ints, steps: Ints | int, targets: Ints) -> Bools:
        """Whether each (node, step, target) is an edge."""
        nodes, steps, targets = np.broadcast_arrays(nodes, steps, targets)
        told = self.has_step(nodes, steps) & (targets >= 0)
        rows = np.nonzero(told)  # most have no such step: no search for them
        wanted = (nodes[rows].astype(np.int64) * STEPS + steps[rows]) * self.num_nodes + targets[rows]
        told[rows] = self.keys[np.minimum(np.searchsorted(self.keys, wanted), self.keys.size - 1)] == wanted
        return told

    def of(self, node: int, step: int) -> NDArray[np.int32]:
        """The sorted targets of one (node, step)."""
        start, count = self.slices(np.array([node]), step)
        return self.targets[start[0] : start[0] + count[0]]


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes and edges. Nodes are numbered in file order; `hash` names the content, whatever the order of the lines."""

    name: str
    names: Sequence[str]
    names_zh: Sequence[str]  # "" where there is none
    aliases_en: Sequence[tuple[str, ...]]
    aliases_zh: Sequence[tuple[str, ...]]
    types: NDArray[np.int8]  # [N], indices of NODE_TYPES
    rarity: NDArray[np.int8]  # [N], indices of RARITIES, -1 where none is stated
    generic: Bools  # [N]
    heads: Ints  # [E]
    relations: Ints  # [E], indices of RELATIONS
    tails: Ints  # [E]
    strong_edges: Bools  # [E]
    first_line: Bools  # [E]
    sources: Sequence[str]  # [E]

    @cached_property
    def any(self) -> Adjacency:
        """Strong and weak edges: what vetoes."""
        return Adjacency(len(self), self.heads, self.relations, self.tails)

    @cached_property
    def strong(self) -> Adjacency:
        """Strong edges only: what clues and answers rest on."""
        keep = self.strong_edges
        return Adjacency(len(self), self.heads[keep], self.relations[keep], self.tails[keep])

    @cached_property
    def degrees(self) -> Ints:
        """[N] strong and weak edges at each node, either direction."""
        size = len(self)
        return np.bincount(self.heads, minlength=size) + np.bincount(self.tails, minlength=size)

    @cached_property
    def ids(self) -> dict[str, int]:
        """Node number by name."""
        return {name: index for index, name in enumerate(self.names)}

    @cached_property
    def edge_at(self) -> dict[tuple[int, int, int], int]:
        """Edge number by (head, relation, tail); a symmetric one stands here once, as in the file."""
        triples = zip(self.heads.tolist(), self.relations.tolist(), self.tails.tolist(), strict=True)
        return {triple: index for index, triple in enumerate(triples)}

    @cached_property
    def hash(self) -> str:
        digest = hashlib.sha256()
        order = np.argsort(np.array(self.names, dtype=object), kind="stable")
        for index in order.tolist():
            node = (self.names[index], self.names_zh[index], NODE_TYPES[self.types[index]], str(self.rarity[index]))
            flags = (str(int(self.generic[index])), *sorted(self.aliases_en[index]), *sorted(self.aliases_zh[index]))
            digest.update("\t".join((*node, *flags)).encode() + b"\n")
        # Edges by the rank of their ends' names: the order of the lines is gone, and no line is written out.
        rank = np.argsort(order)
        marks = 2 * self.strong_edges.astype(np.int64) + self.first_line
        edges = np.column_stack([rank[self.heads], self.relations, rank[self.tails], marks])
        digest.update(edges[np.lexsort(edges.T[::-1])].astype("<i8").tobytes())
        return digest.hexdigest()[:16]

    def __len__(self) -> int:
        return len(self.names)

    def of_type(self, node_type: str) -> Ints:
        """Numbers of all nodes of a type."""
        return np.flatnonzero(self.types == TYPE_IDS[node_type])

    def name_in(self, node: int, lang: str) -> str:
        """The node's name in "en" or "zh"; "" where there is no Chinese one."""
        return self.names_zh[node] if lang == "zh" else self.names[node]

    def tails_of(self, name: str, relation: str, direction: str = "out", *, strong: bool = False) -> list[str]:
        """Names at the other end of a node's edges, for readers and tests; the arrays are for work."""
        adjacency = self.strong if strong else self.any
        return [self.names[t] for t in adjacency.of(self.ids[name], step_of(relation, direction)).tolist()]


def from_tables(name: str, tables: Tables) -> Graph:
    """The arrays of checked rows."""
    nodes = list(tables.nodes.values())
    ids = {node.name: index for index, node in enumerate(nodes)}
    edges = list(tables.edges.values())
    return Graph(
        name=name,
        names=[node.name for node in nodes],
        names_zh=[node.name_zh for node in nodes],
        aliases_en=[node.aliases_en for node in nodes],
        aliases_zh=[node.aliases_zh for node in nodes],
        types=np.array([TYPE_IDS[node.type] for node in nodes], np.int8),
        rarity=np.array([RARITIES.index(node.rarity) if node.rarity else -1 for node in nodes], np.int8),
        generic=np.array([node.generic for node in nodes], bool),
        heads=_ints(ids[edge.head] for edge in edges),
        relations=_ints(RELATION_IDS[edge.relation] for edge in edges),
        tails=_ints(ids[edge.tail] for edge in edges),
        strong_edges=np.array([edge.strong for edge in edges], bool),
        first_line=np.array([edge.first_line for edge in edges], bool),
        sources=[edge.source for edge in edges],
    )


def from_arrays(
    name: str,
    names: Sequence[str],
    types: Sequence[str] | NDArray[np.int8],
    edges: tuple[Ints, Ints, Ints],
    *,
    strong: Bools | None = None,
    rarity: NDArray[np.int8] | None = None,
    names_zh: Sequence[str] | None = None,
) -> Graph:
    """A graph of (heads, relations, tails) arrays, all strong unless told; for generators and tests. Not checked."""
    size, (heads, relations, tails) = len(names), edges
    count = len(heads)
    if not isinstance(types, np.ndarray):
        types = np.array([TYPE_IDS[kind] for kind in types], np.int8)
    return Graph(
        name=name,
        names=names,
        names_zh=names_zh if names_zh is not None else [""] * size,
        aliases_en=[()] * size,
        aliases_zh=[()] * size,
        types=types,
        rarity=rarity if rarity is not None else np.full(size, -1, np.int8),
        generic=np.zeros(size, bool),
        heads=heads,
        relations=relations,
        tails=tails,
        strong_edges=strong if strong is not None else np.ones(count, bool),
        first_line=np.zeros(count, bool),
        sources=[UNSOURCED] * count,
    )


def _ints(values: Iterable[int]) -> Ints:
    return np.fromiter(values, np.int64)
