"""Rare or not by the written definition, scores that rank within a type, and the weights seeds are drawn by."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corl.rods.graph import NODE_TYPES, RARITIES, RELATION_IDS, Graph, from_arrays
from corl.rods.sampling.rarity import rare_nodes, rarity_scores, seed_weights

COMMON, UNCOMMON, RARE = range(len(RARITIES))


def graph_of(types: list[str], edges: list[tuple[int, str, int, bool]], rarity: dict[int, int] | None = None) -> Graph:
    stated = np.full(len(types), -1, np.int8)
    for node, level in (rarity or {}).items():
        stated[node] = level
    ends = tuple(
        np.array(column, np.int64)
        for column in ([e[0] for e in edges], [RELATION_IDS[e[1]] for e in edges], [e[2] for e in edges])
    )
    names = [f"node {number}" for number in range(len(types))]
    return from_arrays("g", names, types, ends, strong=np.array([e[3] for e in edges], bool), rarity=stated)  # type: ignore[arg-type]


def rare_by_definition(graph: Graph, node: int) -> bool:
    """Straight from the words, one node at a time."""
    if (graph.rarity < 0).all():
        peers = [other for other in range(len(graph)) if graph.types[other] == graph.types[node]]
        return bool(graph.degrees[node] <= np.median([graph.degrees[other] for other in peers]))
    if graph.rarity[node] >= 0:
        return bool(graph.rarity[node] == RARE)
    linked = set()
    for head, tail, strong in zip(graph.heads, graph.tails, graph.strong_edges, strict=True):
        if strong and node in (head, tail):
            other = int(tail if head == node else head)
            if NODE_TYPES[graph.types[other]] == "disease" and graph.rarity[other] >= 0:
                linked.add(other)
    return 2 * sum(graph.rarity[other] == RARE for other in linked) > len(linked)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    size = draw(st.integers(2, 9))
    types = draw(st.lists(st.sampled_from(["disease", "drug", "symptom"]), min_size=size, max_size=size))
    node = st.integers(0, size - 1)
    edge = st.tuples(
        node, st.sampled_from(["has_symptom", "treated_with_drug", "differential_of"]), node, st.booleans()
    )
    edges = draw(st.lists(edge, max_size=25))
    levels = draw(st.dictionaries(node, st.sampled_from([COMMON, UNCOMMON, RARE]), max_size=size))
    return graph_of(types, edges, levels)


@settings(max_examples=150, deadline=None)
@given(graphs())
def test_rare_as_defined(graph: Graph) -> None:
    assert rare_nodes(graph).tolist() == [rare_by_definition(graph, node) for node in range(len(graph))]


def test_half_of_the_diseases_rare_is_not_more_than_half() -> None:
    types = ["disease", "disease", "drug"]
    edges = [(0, "treated_with_drug", 2, True), (1, "treated_with_drug", 2, True)]
    assert not rare_nodes(graph_of(types, edges, {0: RARE, 1: COMMON}))[2]
    assert rare_nodes(graph_of(types, edges, {0: RARE, 1: RARE}))[2]
    twice = [*edges, (0, "has_complication", 2, True)]  # two edges to one disease count it once
    assert not rare_nodes(graph_of(types, twice, {0: RARE, 1: COMMON}))[2]
    weak = [(0, "treated_with_drug", 2, True), (1, "treated_with_drug", 2, False)]
    assert rare_nodes(graph_of(types, weak, {0: RARE, 1: COMMON}))[2]


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_scores_lie_in_the_unit_range_and_average_to_the_middle_within_a_type(graph: Graph) -> None:
    for mentions in (None, np.arange(len(graph))):
        scores = rarity_scores(graph, mentions)
        assert ((scores >= 0) & (scores <= 1)).all()
        for kind in np.unique(graph.types):
            assert scores[graph.types == kind].mean() == pytest.approx(0.5)


def test_stated_rarity_degree_and_mentions_each_raise_the_score() -> None:
    types = ["disease", "disease", "symptom"]
    edges = [(0, "has_symptom", 2, True), (1, "has_symptom", 2, True)]
    scores = rarity_scores(graph_of(types, edges, {0: COMMON, 1: RARE}))
    assert scores.tolist() == [0.25, 0.75, 0.5]  # level in degree, apart in what is stated
    busy = [*edges, (0, "has_sign", 2, True)]
    assert rarity_scores(graph_of(types, busy)).tolist() == [0, 1, 0.5]
    assert rarity_scores(graph_of(types, edges), np.array([7, 0, 0])).tolist() == [0.25, 0.75, 0.5]


def test_a_node_without_a_statement_takes_that_of_its_diseases() -> None:
    types = ["disease", "disease", "drug", "drug"]
    edges = [(0, "treated_with_drug", 2, True), (1, "treated_with_drug", 3, True)]
    scores = rarity_scores(graph_of(types, edges, {0: COMMON, 1: RARE}))
    assert scores[3] > scores[2]


def test_weights_are_cumulative_mixed_and_leave_out_what_has_no_strong_edge() -> None:
    types = ["disease", "disease", "disease", "symptom"]
    edges = [(0, "has_symptom", 3, True), (1, "has_symptom", 3, True), (2, "has_symptom", 3, False)]
    graph = graph_of(types, edges)
    scores = np.array([0.1, 0.3, 0.9, 0.5])
    weights = seed_weights(graph, scores, 1.0)
    assert weights["disease"].tolist() == pytest.approx([0.25, 1, 1])
    assert seed_weights(graph, scores, 0.0)["disease"].tolist() == pytest.approx([0.5, 1, 1])
    assert seed_weights(graph, scores, 0.5)["disease"].tolist() == pytest.approx([0.375, 1, 1])
    assert weights["gene"].size == 0
    assert set(weights) == set(NODE_TYPES)
