"""A graph by its name on the command line."""

from pathlib import Path

from corl.rods.graph.graph import Graph, from_tables
from corl.rods.graph.synthetic import synthetic_graph
from corl.rods.graph.tables import read_tables

EMBEDDED = "embedded"
SYNTHETIC = "synthetic:"


def load_graph(name: str | Path) -> Graph:
    """The embedded graph, an invented one ("synthetic:NODES" or "synthetic:NODES:SEED"), or the one in a folder.

    Raises ValueError as corl.rods.graph.tables does, for a folder that is not there and for a wrong synthetic size.
    """
    if str(name).startswith(SYNTHETIC):
        numbers = str(name).removeprefix(SYNTHETIC).split(":")
        if len(numbers) > 2 or not all(number.isdecimal() for number in numbers):
            raise ValueError(f"graph {name}: write synthetic:NODES or synthetic:NODES:SEED")
        return synthetic_graph(*map(int, numbers))
    folder = Path(__file__).parent.parent / EMBEDDED if str(name) == EMBEDDED else Path(name)
    if not folder.is_dir():
        raise ValueError(f"graph {name}: no such folder; give `{EMBEDDED}` or a folder with nodes.tsv and edges.tsv")
    return from_tables(folder.resolve().name, read_tables(folder))
