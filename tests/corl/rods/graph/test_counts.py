"""`corl rods graph`: counts a reader can take in, and the sums that must come out."""

from pathlib import Path

import pytest

from corl.cli import main
from corl.rods.graph import load_graph
from corl.rods.graph.counts import describe_graph

NODES = """name\ttype\tname_zh\trarity\tgeneric
moss fever\tdisease\t苔藓热\trare\t
brook gout\tdisease\t\tcommon\t
chills\tsymptom\t寒战\t\t1
aqualin\tdrug\t\t\t
"""
EDGES = """head\trelation\ttail\tstrength\tsource
moss fever\thas_symptom\tchills\tS\tunsourced
brook gout\thas_symptom\tchills\tW\tBrook gout@12
aqualin\tindicated_for\tmoss fever\tS\t
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "bog").mkdir()
    (tmp_path / "bog" / "nodes.tsv").write_text(NODES, encoding="utf-8")
    (tmp_path / "bog" / "edges.tsv").write_text(EDGES, encoding="utf-8")
    (tmp_path / "bog" / "aliases.tsv").write_text("name\talias\tlang\nmoss fever\tbog ague\ten\n", encoding="utf-8")
    return tmp_path / "bog"


def test_the_tables(folder: Path, capsys) -> None:
    main(["rods", "graph", str(folder)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("graph bog, hash ")
    assert lines[1:] == [
        "4 nodes: 2 with a Chinese name, 1 aliases, 1 generic, 0 without an edge",
        "3 edges: 2 strong, 1 weak, 1 with a source",
        "",
        "type     nodes  zh  common  uncommon  rare  median degree",
        "disease      2   1       1         0     1            1.5",
        "symptom      1   1       0         0     0              2",
        "drug         1   0       0         0     0              1",
        "",
        "relation           edges  S  W",
        "has_symptom            2  1  1",
        "treated_with_drug      1  1  0",
    ]


def test_columns_add_up_and_line_up_on_a_larger_graph() -> None:
    graph = load_graph("synthetic:2000")
    lines = describe_graph(graph)
    first, second = (index for index, line in enumerate(lines) if not line)
    nodes, edges = lines[first + 1 : second], lines[second + 1 :]
    assert sum(int(line.split()[1]) for line in nodes[1:]) == len(graph)
    assert [sum(int(line.split()[column]) for line in edges[1:]) for column in (1, 2, 3)] == [
        len(graph.heads), graph.strong_edges.sum(), (~graph.strong_edges).sum()
    ]  # fmt: skip
    for table in (nodes, edges):
        assert len({len(line) for line in table}) == 1


@pytest.mark.parametrize("name, message", [("nowhere", "no such folder"), ("synthetic:x", "write synthetic:NODES")])
def test_a_wrong_graph_is_one_line_and_exit_2(name: str, message: str, capsys) -> None:
    with pytest.raises(SystemExit) as end:
        main(["rods", "graph", name])
    assert end.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert message in told
    assert told.count("\n") == 1
