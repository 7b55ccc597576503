"""A typed graph of medical facts, read from two small TSV files.

nodes.tsv: name, type. edges.tsv: head, relation, tail, source. Lines that start with "#" are comments; the first other
line holds the column names. A relation joins one type of node to one other, so a fact in the wrong place is an error.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

NODE_TYPES = ("finding", "disease", "drug", "effect")
RELATIONS = {  # relation: (type of its head, type of its tail); in this order they form a chain
    "suggests": ("finding", "disease"),
    "treated_with": ("disease", "drug"),
    "can_cause": ("drug", "effect"),
}
EMBEDDED = Path(__file__).parent / "embedded_chains"


@dataclass(frozen=True, slots=True)
class Edge:
    head: str
    relation: str
    tail: str
    source: str


@dataclass(frozen=True, slots=True)
class Graph:
    """Checked nodes and edges in file order; `hash` names the content, whatever the order of the lines."""

    name: str
    types: dict[str, str]  # node name -> type
    edges: tuple[Edge, ...]
    hash: str = field(init=False)
    _tails: dict[str, list[str]] = field(init=False, repr=False)
    _heads: dict[str, list[str]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        tails: dict[str, list[str]] = {name: [] for name in self.types}
        heads: dict[str, list[str]] = {name: [] for name in self.types}
        for edge in self.edges:
            tails[edge.head].append(edge.tail)
            heads[edge.tail].append(edge.head)
        rows = [*self.types.items(), *((edge.head, edge.relation, edge.tail) for edge in self.edges)]
        content = "\n".join(sorted("\t".join(row) for row in rows))
        object.__setattr__(self, "hash", hashlib.sha256(content.encode()).hexdigest()[:16])
        object.__setattr__(self, "_tails", tails)
        object.__setattr__(self, "_heads", heads)

    def of_type(self, node_type: str) -> list[str]:
        """Names of all nodes of a type."""
        return [name for name, its_type in self.types.items() if its_type == node_type]

    def tails(self, head: str) -> list[str]:
        """What a node leads to; a node's type allows one outgoing relation only."""
        return self._tails[head]

    def heads(self, tail: str) -> list[str]:
        """What leads to a node."""
        return self._heads[tail]

    def reach(self, start: str, hops: int) -> set[str]:
        """Every node at the end of a path of exactly `hops` facts from `start`."""
        reached = {start}
        for _ in range(hops):
            reached = {tail for head in reached for tail in self._tails[head]}
        return reached


def embedded_graph() -> Graph:
    """The teaching graph that comes with the package: 96 nodes, 150 facts without sources, not clinically reviewed."""
    return load_graph(EMBEDDED)


def load_graph(folder: str | Path) -> Graph:
    """Read `folder`/nodes.tsv and `folder`/edges.tsv; the folder's name is the graph's.

    Raises ValueError naming file and line for an unreadable file, wrong columns, an empty field, an unknown type or
    relation, an edge whose end is no node or has the wrong type, and a node or edge that stands there twice.
    """
    folder = Path(folder)
    types: dict[str, str] = {}
    for where, (name, node_type) in _rows(folder / "nodes.tsv", ("name", "type")):
        if node_type not in NODE_TYPES:
            raise ValueError(f"{where}: unknown type {node_type!r}; use one of {', '.join(NODE_TYPES)}")
        if name in types:
            raise ValueError(f"{where}: node {name!r} stands here twice; remove one line")
        types[name] = node_type

    edges: dict[tuple[str, str, str], Edge] = {}
    for where, (head, relation, tail, source) in _rows(folder / "edges.tsv", ("head", "relation", "tail", "source")):
        if relation not in RELATIONS:
            raise ValueError(f"{where}: unknown relation {relation!r}; use one of {', '.join(RELATIONS)}")
        for role, name, wanted in zip(("head", "tail"), (head, tail), RELATIONS[relation], strict=True):
            if name not in types:
                raise ValueError(f"{where}: {role} {name!r} is no node; add it to nodes.tsv or correct the name")
            if types[name] != wanted:
                raise ValueError(f"{where}: {role} {name!r} has type {types[name]}; {relation} needs a {wanted}")
        if (head, relation, tail) in edges:
            raise ValueError(f"{where}: {head!r} {relation} {tail!r} stands here twice; remove one line")
        edges[head, relation, tail] = Edge(head, relation, tail, source)
    return Graph("embedded" if folder == EMBEDDED else folder.name, types, tuple(edges.values()))


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[str, list[str]]]:
    """("file, line n", fields) of every row below the column names."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read ({error}); give a folder with nodes.tsv and edges.tsv") from error
    header_seen = False
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        where, fields = f"{path}, line {number}", line.split("\t")
        if not header_seen:
            if tuple(fields) != columns:
                raise ValueError(f"{where}: columns are {fields}; the first line must be {', '.join(columns)} (tabs)")
            header_seen = True
            continue
        if len(fields) != len(columns) or any(not text or text != text.strip() for text in fields):
            raise ValueError(f"{where}: {line!r} needs {len(columns)} filled, trimmed fields: {', '.join(columns)}")
        yield where, fields
    if not header_seen:
        raise ValueError(f"{path} is empty; the first line must be {', '.join(columns)} (tabs)")
