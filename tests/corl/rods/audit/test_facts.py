"""The index against a walk over the plain list of edges."""

from fractions import Fraction
from itertools import product
from statistics import median

import numpy as np
import pytest

from corl.rods.audit.facts import Facts
from corl.rods.graph import NODE_TYPES, RARITIES, RELATION_IDS, RELATIONS, Graph, from_arrays, synthetic_graph
from corl.rods.graph.schema import NODE_TYPES as TYPES

WAYS = ("out", "in")


def random_graph(seed: int, *, stated: bool = True) -> Graph:
    """30 nodes; edges fit domain and range, some symmetric, a third of them weak."""
    rng = np.random.default_rng(seed)
    kinds = ["disease"] * 12 + ["drug"] * 8 + ["drug_class"] * 4 + ["symptom"] * 6
    edges = set()
    while len(edges) < 90:
        head, tail = map(int, rng.integers(30, size=2))
        name = list(RELATIONS)[int(rng.integers(len(RELATIONS)))]
        rule = RELATIONS[name]
        if head == tail or kinds[head] not in rule.domain or kinds[tail] not in rule.range:
            continue
        edges.add((min(head, tail), name, max(head, tail)) if rule.symmetric else (head, name, tail))
    rows = sorted(edges)
    arrays = tuple(np.array(column) for column in zip(*((h, RELATION_IDS[r], t) for h, r, t in rows), strict=True))
    rarity = np.full(30, -1, np.int8)
    if stated:
        rarity[:12] = rng.integers(-1, 3, size=12)
    strong = rng.random(len(rows)) > 0.33
    return from_arrays("random", [f"n{i}" for i in range(30)], kinds, arrays, strong=strong, rarity=rarity)  # type: ignore[arg-type]


def edges_of(graph: Graph, strong: bool) -> set[tuple[int, str, int]]:
    names = list(RELATIONS)
    rows = zip(
        graph.heads.tolist(), graph.relations.tolist(), graph.tails.tolist(), graph.strong_edges.tolist(), strict=True
    )
    found = {(h, names[r], t) for h, r, t, is_strong in rows if is_strong or not strong}
    return found | {(t, r, h) for h, r, t in found if RELATIONS[r].symmetric}


@pytest.mark.parametrize("seed", range(6))
def test_steps_and_paths_are_those_of_the_edge_list(seed: int) -> None:
    graph = random_graph(seed)
    facts = Facts(graph)
    for strong in (False, True):
        edges = edges_of(graph, strong)
        ends = {"out": edges, "in": {(t, r, h) for h, r, t in edges}}

        def walk(x: int, path: tuple[tuple[str, str], ...], ends=ends) -> set[int]:  # type: ignore[no-untyped-def]
            places = {x}
            for relation, way in path:
                places = {t for h, r, t in ends[way] if h in places and r == relation}
            return places

        for node, relation, way in product(range(30), RELATIONS, WAYS):
            assert facts.at(node, (relation, way), strong=strong) == walk(node, ((relation, way),))
        used = sorted({r for _, r, _ in edges})[:6]
        steps = list(product(used, WAYS))
        for path in [
            (),
            *((s,) for s in steps),
            *product(steps[::3], steps),
            *product(steps[::5], steps[::3], steps[::2]),
        ]:
            for node in range(0, 30, 4):
                expected = {x for x in range(30) if node in walk(x, path)}
                assert facts.holders(path, node, strong=strong) == expected


@pytest.mark.parametrize("seed", range(6))
def test_rarity_as_defined(seed: int) -> None:
    graph = random_graph(seed, stated=seed % 3 != 2)
    facts = Facts(graph)
    stated = {node: RARITIES[r] for node, r in enumerate(graph.rarity.tolist()) if r >= 0}
    all_edges = list(zip(graph.heads.tolist(), graph.tails.tolist(), graph.strong_edges.tolist(), strict=True))
    degree = [sum(node in (h, t) for h, t, _ in all_edges) for node in range(30)]
    for node in range(30):
        if node in stated:
            expected = stated[node] == "rare"
        elif stated:
            near = {h + t - node for h, t, strong in all_edges if strong and node in (h, t)}
            linked = [stated[other] for other in near if other in stated]
            expected = bool(linked) and Fraction(linked.count("rare"), len(linked)) > Fraction(1, 2)
        else:
            same = [degree[other] for other in range(30) if graph.types[other] == graph.types[node]]
            expected = degree[node] <= median(same)
        assert facts.rare(node) == expected


def test_relatives_are_two_steps_up_or_down_never_across() -> None:
    # 0 > 1 > 2 > 3, 0 > 4; drug 5 in classes 6 and 7, drug 8 in 6
    kinds = ["disease"] * 5 + ["drug", "drug_class", "drug_class", "drug"]
    rows = [(0, "has_subtype", 1), (1, "has_subtype", 2), (2, "has_subtype", 3), (0, "has_subtype", 4)]
    rows += [(5, "in_drug_class", 6), (5, "in_drug_class", 7), (8, "in_drug_class", 6)]
    edges = tuple(np.array(c) for c in zip(*((h, RELATION_IDS[r], t) for h, r, t in rows), strict=True))
    strong = np.array([False] * 3 + [True] * 4)
    facts = Facts(from_arrays("g", [str(i) for i in range(9)], kinds, edges, strong=strong))  # type: ignore[arg-type]
    assert [set(facts.relatives(node)) for node in range(9)] == [
        {1, 2, 4}, {0, 2, 3}, {0, 1, 3}, {1, 2}, {0}, {6, 7}, {5, 8}, {5}, {6}
    ]  # fmt: skip


def test_types_are_the_schema_s() -> None:
    facts = Facts(synthetic_graph(1000))
    assert {facts.type_of(node) for node in range(1000)} <= set(TYPES) == set(NODE_TYPES)
