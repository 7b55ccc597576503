"""The invented graph fits the schema, comes out the same every time and has neighbours to tell apart."""

import numpy as np

from corl.rods.graph import NODE_TYPES, RELATION_NAMES, RELATIONS, load_graph, step_of, synthetic_graph


def test_fits_the_schema_and_repeats() -> None:
    graph = synthetic_graph(3000, 5)
    assert len(set(graph.names)) == len(graph) == 3000
    for head, relation, tail in zip(graph.heads, graph.relations, graph.tails, strict=True):
        rule = RELATIONS[RELATION_NAMES[relation]]
        assert NODE_TYPES[graph.types[head]] in rule.domain and NODE_TYPES[graph.types[tail]] in rule.range
    assert (
        len({*zip(graph.heads.tolist(), graph.relations.tolist(), graph.tails.tolist(), strict=True)})
        == graph.heads.size
    )
    assert synthetic_graph(3000, 5).hash == graph.hash == load_graph("synthetic:3000:5").hash
    assert synthetic_graph(3000, 6).hash != graph.hash


def test_diseases_share_findings() -> None:
    graph = synthetic_graph(5000, 1)
    step = step_of("has_symptom")
    diseases = graph.of_type("disease")
    sharing = [
        sum(
            np.intersect1d(graph.any.of(d, step), graph.any.of(other, step)).size >= 2
            for other in diseases
            if other != d
        )
        for d in diseases[::50].tolist()
    ]
    assert np.median(sharing) >= 2
