"""A graph in numbers: nodes by type, edges by relation and strength."""

import numpy as np

from corl.rods.graph.graph import RELATION_NAMES, Graph
from corl.rods.graph.schema import NODE_TYPES, RARITIES, RELATIONS
from corl.rods.graph.tables import UNSOURCED


def describe_graph(graph: Graph) -> list[str]:
    """Lines for a reader: the whole, then a table of types and one of relations, those with nothing left out."""
    strong = int(graph.strong_edges.sum())
    chinese = sum(map(bool, graph.names_zh))
    aliases = sum(map(len, graph.aliases_en)) + sum(map(len, graph.aliases_zh))
    isolated = int((graph.degrees == 0).sum())
    return [
        f"graph {graph.name}, hash {graph.hash}",
        f"{len(graph)} nodes: {chinese} with a Chinese name, {aliases} aliases, {int(graph.generic.sum())} generic, "
        f"{isolated} without an edge",
        f"{len(graph.heads)} edges: {strong} strong, {len(graph.heads) - strong} weak, "
        f"{sum(source != UNSOURCED for source in graph.sources)} with a source",
        "",
        *_node_table(graph),
        "",
        *_edge_table(graph),
    ]


def _node_table(graph: Graph) -> list[str]:
    header = ("type", "nodes", "zh", *RARITIES, "median degree")
    chinese = np.array([bool(name) for name in graph.names_zh], bool)
    rows = []
    for kind in NODE_TYPES:
        nodes = graph.of_type(kind)
        if nodes.size:
            stated = [int((graph.rarity[nodes] == level).sum()) for level in range(len(RARITIES))]
            median = float(np.median(graph.degrees[nodes]))
            rows.append((kind, nodes.size, int(chinese[nodes].sum()), *stated, f"{median:g}"))
    return _aligned(header, rows)


def _edge_table(graph: Graph) -> list[str]:
    strong = np.bincount(graph.relations[graph.strong_edges], minlength=len(RELATIONS))
    weak = np.bincount(graph.relations[~graph.strong_edges], minlength=len(RELATIONS))
    rows = [
        (name, int(strong[number] + weak[number]), int(strong[number]), int(weak[number]))
        for number, name in enumerate(RELATION_NAMES)
        if strong[number] + weak[number]
    ]
    return _aligned(("relation", "edges", "S", "W"), rows)


def _aligned(header: tuple[str, ...], rows: list[tuple]) -> list[str]:
    """Columns under their header: the first to the left, numbers to the right."""
    table = [header, *[tuple(map(str, row)) for row in rows]]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in table
    ]
