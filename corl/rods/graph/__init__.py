"""The typed medical graph: its closed schema, its files, its arrays."""

from corl.rods.graph.graph import (
    RELATION_IDS,
    RELATION_NAMES,
    STEPS,
    TYPE_IDS,
    Adjacency,
    Graph,
    Ints,
    from_arrays,
    from_tables,
    relation_of,
    reverse,
    step_of,
)
from corl.rods.graph.opening import EMBEDDED, load_graph
from corl.rods.graph.schema import ADMINISTRATIVE, FINDINGS, INVERSES, NODE_TYPES, RARITIES, RELATIONS, Relation
from corl.rods.graph.synthetic import synthetic_graph
from corl.rods.graph.tables import UNSOURCED, Edge, Node, Tables, read_tables

__all__ = [
    "ADMINISTRATIVE",
    "EMBEDDED",
    "FINDINGS",
    "INVERSES",
    "NODE_TYPES",
    "RARITIES",
    "RELATIONS",
    "RELATION_IDS",
    "RELATION_NAMES",
    "STEPS",
    "TYPE_IDS",
    "UNSOURCED",
    "Adjacency",
    "Edge",
    "Graph",
    "Ints",
    "Node",
    "Relation",
    "Tables",
    "from_arrays",
    "from_tables",
    "load_graph",
    "read_tables",
    "relation_of",
    "reverse",
    "step_of",
    "synthetic_graph",
]
