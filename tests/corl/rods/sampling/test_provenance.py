"""Edges found from either end, their sources, and the hidden nodes of a path."""

from dataclasses import replace

import numpy as np
import pytest

from corl.rods.graph import RELATION_IDS, Graph, from_arrays, step_of
from corl.rods.sampling.provenance import EdgeTable, hidden_between, licence

NODES = {"d": "disease", "e": "disease", "s": "symptom", "m": "drug", "n": "drug", "c": "drug_class"}
EDGES = (
    ("d", "has_symptom", "s", "Moss@3#symptoms"),
    ("e", "has_symptom", "s", "unsourced"),
    ("d", "treated_with_drug", "m", "Fern@7"),
    ("d", "treated_with_drug", "n", "unsourced"),
    ("e", "treated_with_drug", "n", "unsourced"),
    ("m", "in_drug_class", "c", "unsourced"),
    ("n", "in_drug_class", "c", "unsourced"),
    ("e", "differential_of", "d", "unsourced"),
)
D, E, S, M, N, C = range(6)


@pytest.fixture
def graph() -> Graph:
    at = list(NODES)
    ends = [[at.index(e[0]) for e in EDGES], [RELATION_IDS[e[1]] for e in EDGES], [at.index(e[2]) for e in EDGES]]
    heads, relations, tails = (np.array(column, np.int64) for column in ends)
    strong = np.array([e[0] != "e" or e[1] != "has_symptom" for e in EDGES])
    plain = from_arrays("g", at, list(NODES.values()), (heads, relations, tails), strong=strong)
    return replace(plain, sources=[e[3] for e in EDGES])


def test_an_edge_is_found_from_either_end(graph: Graph) -> None:
    table = EdgeTable(graph)
    assert table.number((D, step_of("has_symptom"), S)) == table.number((S, step_of("has_symptom", "in"), D)) == 0
    assert table.number((D, step_of("has_symptom", "in"), S)) is None
    assert table.number((D, step_of("differential_of"), E)) == table.number((E, step_of("differential_of"), D)) == 7
    assert table.number((D, step_of("treated_with_drug"), C)) is None


def test_rows_name_each_edge_once_as_the_file_has_it(graph: Graph) -> None:
    treats, has = step_of("treated_with_drug", "in"), step_of("has_symptom")
    rows = EdgeTable(graph).rows([(M, treats, D), (E, has, S), (D, step_of("treated_with_drug"), M), (M, has, S)])
    assert rows == [
        {"head": "d", "relation": "treated_with_drug", "tail": "m", "strength": "S", "source": "Fern@7"},
        {"head": "e", "relation": "has_symptom", "tail": "s", "strength": "W", "source": "unsourced"},
    ]


def test_only_pages_that_were_read_need_a_licence() -> None:
    assert licence([{"source": "unsourced"}]) is None
    named = [{"source": source} for source in ("Moss@3#symptoms", "unsourced", "Moss@3#causes", "Fern@7")]
    assert licence(named) == "CC BY-SA, facts from Moss@3; Fern@7"


def test_the_way_avoids_what_is_shown_where_it_can(graph: Graph) -> None:
    path = [step_of("treated_with_drug"), step_of("in_drug_class")]
    assert hidden_between(graph.strong, D, path, C, set()) == [M]
    assert hidden_between(graph.strong, D, path, C, {M}) == [N]
    assert hidden_between(graph.strong, D, path, C, {M, N}) == [M]
    longer = [step_of("differential_of"), *path]
    assert hidden_between(graph.strong, D, longer, C, set()) == [E, N]
    assert hidden_between(graph.strong, D, path[:1], M, set()) == hidden_between(graph.strong, D, [], D, set()) == []
