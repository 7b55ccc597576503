"""The embedded graph is complete and consistent; a wrong line of a graph file is named."""

from collections import Counter

import pytest

from corl.rods.chain_graph import EMBEDDED, NODE_TYPES, RELATIONS, Graph, embedded_graph, load_graph

NODES = "# a comment\nname\ttype\ncough\tfinding\nasthma\tdisease\nalbuterol\tdrug\ntremor\teffect\n"
EDGES = (
    "head\trelation\ttail\tsource\ncough\tsuggests\tasthma\tbook\n"
    "asthma\ttreated_with\talbuterol\tbook\nalbuterol\tcan_cause\ttremor\tbook\n"
)


@pytest.fixture(scope="module")
def graph() -> Graph:
    return embedded_graph()


def test_embedded_graph_has_24_names_a_type_and_150_facts(graph):
    assert Counter(graph.types.values()) == dict.fromkeys(NODE_TYPES, 24)
    assert len(graph.edges) == 150
    assert {edge.source for edge in graph.edges} == {"unsourced"}


def test_every_node_has_every_edge_that_its_place_in_the_chain_needs(graph):
    for name, node_type in graph.types.items():
        assert graph.tails(name) or node_type == NODE_TYPES[-1], name
        assert graph.heads(name) or node_type == NODE_TYPES[0], name


def test_every_edge_joins_the_types_of_its_relation(graph):
    for edge in graph.edges:
        assert (graph.types[edge.head], graph.types[edge.tail]) == RELATIONS[edge.relation]


def test_no_name_is_part_of_another_and_all_are_plain_text(graph):
    names = [name.lower() for name in graph.types]
    assert not [(a, b) for a in names for b in names if a in b and a != b]
    assert len(set(names)) == 96
    assert all(name.isascii() and not name.isdigit() for name in names)


def test_both_files_say_that_nobody_reviewed_them():
    for file in ("nodes.tsv", "edges.tsv"):
        assert "not clinically reviewed" in (EMBEDDED / file).read_text().splitlines()[0]


@pytest.mark.parametrize(
    ("start", "hops", "end"),
    [
        ("jaw claudication", 1, {"giant cell arteritis"}),
        ("jaw claudication", 2, {"prednisone", "methotrexate"}),
        ("polyuria", 3, {"lactic acidosis", "diarrhea"}),
        ("orange urine", 1, set()),
    ],
)
def test_reach_follows_facts_forwards(graph, start, hops, end):
    assert graph.reach(start, hops) == end


def write(folder, nodes=NODES, edges=EDGES):
    (folder / "nodes.tsv").write_text(nodes)
    (folder / "edges.tsv").write_text(edges)
    return folder


def test_hash_follows_the_content_not_the_order(tmp_path):
    first = load_graph(write(tmp_path)).hash
    lines = EDGES.splitlines(keepends=True)
    assert load_graph(write(tmp_path, edges="".join([lines[0], *reversed(lines[1:])]))).hash == first
    assert load_graph(write(tmp_path, edges="".join(lines[:-1]))).hash != first


@pytest.mark.parametrize(
    ("nodes", "edges", "message"),
    [
        (NODES + "flu\tillness\n", EDGES, r"nodes\.tsv, line 7: unknown type 'illness'"),
        (NODES + "asthma\tdrug\n", EDGES, r"nodes\.tsv, line 7: node 'asthma' stands here twice"),
        (NODES + "flu\n", EDGES, r"nodes\.tsv, line 7: .* needs 2"),
        (NODES + " \tdrug\n", EDGES, r"nodes\.tsv, line 7: .* needs 2"),
        ("name,type\n", EDGES, r"nodes\.tsv, line 1: columns"),
        ("# only a comment\n", EDGES, r"nodes\.tsv is empty"),
        (NODES, EDGES + "cough\tcures\tasthma\tbook\n", r"edges\.tsv, line 5: unknown relation 'cures'"),
        (NODES, EDGES + "cough\tsuggests\tflu\tbook\n", r"edges\.tsv, line 5: tail 'flu' is no node"),
        (NODES, EDGES + "asthma\tsuggests\tasthma\tbook\n", r"edges\.tsv, line 5: head 'asthma' has type disease"),
        (NODES, EDGES + "asthma\ttreated_with\ttremor\tbook\n", r"edges\.tsv, line 5: tail 'tremor' has type effect"),
        (NODES, EDGES + "cough\tsuggests\tasthma\tother\n", r"edges\.tsv, line 5: .* stands here twice"),
    ],
    ids=[
        "type",
        "repeated node",
        "missing field",
        "blank",
        "columns",
        "no columns",
        "relation",
        "no node",
        "domain",
        "range",
        "repeated edge",
    ],  # fmt: skip
)
def test_a_wrong_line_is_named(tmp_path, nodes, edges, message):
    with pytest.raises(ValueError, match=message):
        load_graph(write(tmp_path, nodes, edges))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"nodes\.tsv cannot be read"):
        load_graph(tmp_path)
