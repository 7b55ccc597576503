"""nodes.tsv, aliases.tsv, edges.tsv: every wrong line is named."""

from pathlib import Path

import pytest

from corl.rods.graph import read_tables

NODES = """name\ttype\tname_zh\trarity\tgeneric
red fever\tdisease\t红热\trare\t0
blue fever\tdisease\t蓝热\t\t
chill\tsymptom\t寒战\t\t1
drumol\tdrug\t鼓醇\t\t0
autosomal mode\tmechanism\t\t\t
X mode\tmechanism\t\t\t
"""
ALIASES = """name\talias\tlang\tkind
red fever\tRF\ten\tacronym
red fever\t赤热\tzh\tsynonym
red fever\tRF\ten\tacronym
"""
EDGES = "head\trelation\ttail\tstrength\tline\tsource\n"


def write(folder: Path, edges: str, nodes: str = NODES, aliases: str | None = ALIASES) -> Path:
    folder.joinpath("nodes.tsv").write_text(nodes)
    folder.joinpath("edges.tsv").write_text(EDGES + edges)
    if aliases is not None:
        folder.joinpath("aliases.tsv").write_text(aliases)
    return folder


def test_rows_as_written(tmp_path: Path) -> None:
    tables = read_tables(write(tmp_path, "red fever\thas_symptom\tchill\tS\t\tRed@12\n"))
    node = tables.nodes["red fever"]
    assert (node.type, node.name_zh, node.rarity, node.generic) == ("disease", "红热", "rare", False)
    assert (node.aliases_en, node.aliases_zh) == (("RF",), ("赤热",))
    assert tables.nodes["chill"].generic
    (edge,) = tables.edges.values()
    assert (edge.head, edge.relation, edge.tail, edge.strong, edge.source) == (
        "red fever", "has_symptom", "chill", True, "Red@12",
    )  # fmt: skip


def test_aliases_may_be_absent(tmp_path: Path) -> None:
    assert read_tables(write(tmp_path, "", aliases=None)).nodes["red fever"].aliases_en == ()


def test_inverse_names_are_read_backwards(tmp_path: Path) -> None:
    tables = read_tables(
        write(tmp_path, "drumol\tindicated_for\tred fever\tS\t\t\nred fever\tis_a\tblue fever\tW\t\t\n")
    )
    assert list(tables.edges) == [
        ("red fever", "treated_with_drug", "drumol"),
        ("blue fever", "has_subtype", "red fever"),
    ]


@pytest.mark.parametrize("order", [("S", "W"), ("W", "S")])
def test_strong_wins_over_weak(tmp_path: Path, order: tuple[str, str]) -> None:
    lines = "".join(f"red fever\thas_symptom\tchill\t{strength}\t\t\n" for strength in order)
    (edge,) = read_tables(write(tmp_path, lines)).edges.values()
    assert edge.strong


def test_a_symmetric_edge_is_one_edge_both_ways(tmp_path: Path) -> None:
    lines = "red fever\tdifferential_of\tblue fever\tS\t\t\nblue fever\tdifferential_of\tred fever\tW\t\t\n"
    (edge,) = read_tables(write(tmp_path, lines)).edges.values()
    assert edge.strong


def test_extracted_columns_make_the_source(tmp_path: Path) -> None:
    write(tmp_path, "")
    (tmp_path / "edges.tsv").write_text(
        "head\trelation\ttail\tstrength\ttitle\trevision\tparameter\n"
        "red fever\thas_symptom\tchill\tS\tRed fever\t717\tsymptoms\n"
    )
    (edge,) = read_tables(tmp_path).edges.values()
    assert edge.source == "Red fever@717#symptoms"


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ("red fever\thas_pain\tchill\tS\t\t\n", r"edges.tsv, line 2: unknown relation 'has_pain'"),
        ("red fever\thas_symptom\tcold\tS\t\t\n", r"line 2: tail 'cold' is no node"),
        (
            "chill\thas_symptom\tred fever\tS\t\t\n",
            r"line 2: head 'chill' has type symptom; has_symptom allows d",
        ),
        ("red fever\thas_symptom\tchill\tX\t\t\n", r"line 2: strength is 'X'"),
        ("red fever\thas_symptom\tchill\tS\t2\t\n", r"line 2: line is '2'"),
        ("red fever\thas_symptom\tchill\tS\n", r"line 2: 4 fields, the first line has 6"),
        ("red fever\tdifferential_of\tred fever\tS\t\t\n", r"'red fever' differential_of itself"),
        ("red fever\t\tchill\tS\t\t\n", r"line 2: relation is ''"),
        ("red fever\thas_symptom\t chill\tS\t\t\n", r"line 2: tail is ' chill'; it must be filled and trimmed"),
        (
            "red fever\tinheritance\tX mode\tS\t\t\nred fever\tinheritance\tautosomal mode\tS\t\t\n",
            r"line 3: 'red fever' inheritance 'autosomal mode', but also 'X mode'",
        ),
    ],
)
def test_a_wrong_edge_is_named(tmp_path: Path, edges: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_tables(write(tmp_path, edges))


@pytest.mark.parametrize(
    ("nodes", "aliases", "message"),
    [
        (NODES + "red fever\tdrug\t\t\t\n", None, r"nodes.tsv, line 8: node 'red fever' stands here twice"),
        (NODES + "green fever\tillness\t\t\t\n", None, r"unknown type 'illness'"),
        (NODES + "green fever\tdisease\t\tseldom\t\n", None, r"unknown rarity 'seldom'"),
        (NODES + "green fever\tdisease\t\t\tyes\n", None, r"generic is 'yes'"),
        ("", None, r"nodes.tsv is empty"),
        ("title\ttype\n", None, r"no column name"),
        (NODES, "name\talias\ngreen fever\tGF\n", r"aliases.tsv, line 2: 'green fever' is no node"),
        (NODES, "name\talias\tlang\nred fever\tRF\tfr\n", r"unknown lang 'fr'"),
    ],
)
def test_a_wrong_node_or_alias_is_named(tmp_path: Path, nodes: str, aliases: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_tables(write(tmp_path, "", nodes, aliases))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nodes.tsv cannot be read \(No such file"):
        read_tables(tmp_path)
    write(tmp_path, "").joinpath("edges.tsv").write_bytes(b"head\trelation\ttail\tstrength\n\xff\xfe\n")
    with pytest.raises(ValueError, match=r"edges.tsv is not UTF-8"):
        read_tables(tmp_path)
