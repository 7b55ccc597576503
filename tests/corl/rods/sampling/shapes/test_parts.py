"""The parts that shapes are made of: ragged rows, sources, clues and their proof, walks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corl.rods.graph import NODE_TYPES, RELATION_NAMES, RELATIONS, relation_of, step_of
from corl.rods.sampling import grammar
from corl.rods.sampling.evidence import Clues, Evidence, compact, draw_clues, draw_seeds, gather, remaining
from corl.rods.sampling.proof import barred, reach, select_clues
from corl.rods.sampling.ragged import distinct, is_in, order_by, pad, rank_within, row_or, starts
from corl.rods.sampling.shapes.pools import POOL, Candidates, make_pool
from corl.rods.sampling.walk import hop, pick_end, pick_step, walkers

groups_of = st.lists(st.integers(0, 6), max_size=40).map(lambda values: np.array(sorted(values), np.int64))


@given(groups_of)
def test_ragged(groups):
    runs = [(g, np.flatnonzero(groups == g)) for g in sorted(set(groups.tolist()))]
    assert starts(groups).tolist() == [int(at[0]) for _, at in runs]
    assert rank_within(groups).tolist() == [k for _, at in runs for k in range(len(at))]
    values = 1 << (np.arange(groups.size) % 5)
    wanted = [int(np.bitwise_or.reduce(values[groups == g], initial=0)) for g in range(7)]
    assert row_or(groups, values, 7).tolist() == wanted
    at, count = pad(groups, 7, 3)
    for g in range(7):
        rows = np.flatnonzero(groups == g)[:3].tolist()
        assert at[g, : count[g]].tolist() == rows
    assert at.shape == (7, 3)
    score = ((np.arange(groups.size) * 7) % 11) / 11
    assert order_by(groups, score).tolist() == np.lexsort((score, groups)).tolist()
    assert distinct(groups[::-1]).tolist() == sorted(set(groups.tolist()))
    assert is_in(distinct(groups), np.arange(7)).tolist() == [g in groups for g in range(7)]


def test_grammar_fits_the_schema():
    """Every step can be taken from the type it is listed under, every chain from its start to its end."""

    def types(step):
        rule = RELATIONS[step[0]]
        return (rule.domain, rule.range) if step[1] == "out" else (rule.range, rule.domain)

    for table in (grammar.CLUES, grammar.ASKED):
        for kind, steps in table.items():
            assert kind in NODE_TYPES
            assert len(set(steps)) == len(steps)
            assert all(kind in types(step)[0] for step in steps)
    for kind, first, middle, asked in grammar.CHAINS:
        assert all(kind in types(step)[0] for step in first)
        reached = {kind}
        for step in middle:
            assert reached & set(types(step)[0])
            reached = set(types(step)[1])
        assert all(reached & set(types(step)[0]) for step in asked)
    assert {len(chain[2]) + 2 for chain in grammar.CHAINS} == {2, 3, 4}
    assert all(
        relation_of(grammar.kin_step(np.array([step_of(*step)]))[0])[1] == step[1] for step in grammar.ASKED["drug"]
    )


def test_solid_edges(sheet, make_sources):
    """Nothing rests on an edge that another edge, a weak one too, speaks against."""
    sheet.nodes("disease", *"abcdefg").nodes("drug", "x", "y").nodes("mechanism", "m", "n").nodes("symptom", "s")
    sheet.edge("a", "treated_with_drug", "x", "y").edge("x", "contraindicated_in", "a", strong=False)
    sheet.edge("y", "contraindicated_in", "b").edge("b", "treated_by", "y", strong=False)
    sheet.edge("a", "caused_by", "c", "d").edge("c", "caused_by", "a", strong=False)
    sheet.edge("e", "has_complication", "d", "g").edge("e", "has_risk_factor", "s").edge("e", "caused_by", "g")
    sheet.edge("a", "inheritance", "m").edge("a", "inheritance", "n", strong=False).edge("b", "inheritance", "m")
    sheet.edge("f", "has_symptom", "s", strong=False)
    graph = sheet.graph()
    solid = make_sources(graph).solid
    kept = solid.has(graph.heads, 2 * graph.relations, graph.tails)
    ends = zip(graph.heads[kept], graph.relations[kept], graph.tails[kept], strict=True)
    edges = {(graph.names[h], RELATION_NAMES[r], graph.names[t]) for h, r, t in ends}
    assert edges == {
        ("a", "treated_with_drug", "y"),
        ("a", "caused_by", "d"),
        ("e", "has_complication", "d"),
        ("e", "has_risk_factor", "s"),
        ("b", "inheritance", "m"),
    }


def test_relatives(sheet, make_sources):
    sheet.nodes("disease", *"abcde", "twin").nodes("drug", "x", "y").nodes("drug_class", "k")
    sheet.edge("a", "has_subtype", "b", "e").edge("b", "has_subtype", "c").edge("c", "has_subtype", "d", strong=False)
    sheet.edge("x", "in_drug_class", "k").edge("y", "in_drug_class", "k")
    sheet.aliases["twin"] = ["E"]
    graph = sheet.graph()
    sources = make_sources(graph)
    pairs = {
        (graph.names[i], graph.names[j])
        for i in range(len(graph))
        for j in range(len(graph))
        if i < j and sources.related(np.array([i]), np.array([j]))[0]
    }
    assert pairs == {
        ("a", "b"), ("a", "c"), ("a", "e"), ("b", "c"), ("b", "d"), ("c", "d"), ("e", "twin"), ("x", "k"), ("y", "k"),
    }  # fmt: skip


def triangle(sheet):
    """a, b, c share findings pairwise; p, q, r; only a has all of p, q."""
    sheet.nodes("disease", *"abcd").nodes("symptom", *"pqrs")
    return sheet.edge("a", "has_symptom", *"pqs").edge("b", "has_symptom", *"pr").edge("c", "has_symptom", *"qrs")


def test_clues_of(sheet, make_sources):
    graph = triangle(sheet).edge("d", "has_symptom", "r", strong=False).graph()
    sources, names = make_sources(graph), np.array(graph.names)
    rows = np.arange(3000)
    a = np.full(3000, graph.ids["a"])
    clues = draw_clues(sources, "t", rows, a, np.full(3000, 2))
    assert set(names[clues.nodes[:, :2]].ravel()) == set("pqs")
    assert (clues.nodes[:, 2:] == -1).all()
    assert (clues.nodes[:, 0] != clues.nodes[:, 1]).all()
    barred_nodes = np.full((3000, 1), graph.ids["p"])
    clues = draw_clues(sources, "t", rows, a, np.full(3000, 5), barred=barred_nodes)
    assert {tuple(sorted(names[row[row >= 0]])) for row in clues.nodes} == {("q", "s")}
    asked = np.full(3000, step_of("has_symptom"))
    assert (draw_clues(sources, "t", rows, a, np.full(3000, 5), asked=asked).nodes == -1).all()
    d = np.full(3000, graph.ids["d"])
    assert (draw_clues(sources, "t", rows, d, np.full(3000, 5)).nodes == -1).all()


def test_rare_or_common_clues(sheet, make_sources):
    sheet.nodes("disease", *(f"i{k}" for k in range(41))).nodes("symptom", "common", "seldom")
    for k in range(41):
        sheet.edge(f"i{k}", "has_symptom", "common")
    graph = sheet.edge("i0", "has_symptom", "seldom").edge("i1", "has_symptom", "seldom").graph()
    sources, rows = make_sources(graph), np.arange(2000)
    entity, common = np.zeros(2000, np.int64), rows % 2 == 0
    first = draw_clues(sources, "t", rows, entity, np.full(2000, 1), common=common).nodes[:, 0]
    share = (first == graph.ids["common"])[common].mean(), (first == graph.ids["common"])[~common].mean()
    assert abs(share[0] - np.sqrt(41) / (np.sqrt(41) + np.sqrt(2))) < 0.05
    assert abs(share[1] - np.sqrt(2) / (np.sqrt(41) + np.sqrt(2))) < 0.05


def test_evidence(sheet, make_sources):
    graph = triangle(sheet).edge("d", "has_symptom", "q", strong=False).graph()
    ids, step = graph.ids, step_of("has_symptom")
    nodes = np.array([[ids["p"], ids["q"], -1], [ids["s"], -1, -1]])
    clues = Clues(nodes, np.where(nodes >= 0, step, -1))
    evidence = gather(make_sources(graph), clues)
    listed = [(r, graph.names[e], m) for r, e, m in zip(evidence.row, evidence.entity, evidence.mask, strict=True)]
    assert listed == [(0, "a", 3), (0, "b", 1), (0, "c", 2), (0, "d", 2), (1, "a", 1), (1, "c", 1)]
    assert remaining(clues, evidence).tolist() == [[2, 1, -1], [2, -1, -1]]
    kept, left = compact(clues, np.array([2, 1]), evidence)
    assert kept.nodes.tolist() == [[ids["q"], -1, -1], [ids["s"], -1, -1]]
    assert [(r, graph.names[e], m) for r, e, m in zip(left.row, left.entity, left.mask, strict=True)] == [
        (0, "a", 1), (0, "c", 1), (0, "d", 1), (1, "a", 1), (1, "c", 1),
    ]  # fmt: skip


@given(
    st.sets(st.integers(1, 31), max_size=12), st.integers(1, 31), st.integers(2, 5), st.booleans(), st.integers(0, 2)
)
def test_selected_clues_are_needed(make_sources, sheet_graph, masks, full, count, alone, spare):
    """Against the definition, on any pattern of masks; and a set is found whenever there is one."""
    sources = make_sources(sheet_graph)
    held = np.array(sorted({mask & full for mask in masks} - {0}), np.int64)
    nodes = np.where((full >> np.arange(5)) & 1, 0, -1)[None]
    rivals = Evidence(np.zeros_like(held), np.arange(held.size), held)
    kept = int(select_clues(
        sources, "t", np.array([3]), Clues(nodes, nodes), rivals, np.array([count]), spare=spare, alone=alone
    )[0])  # fmt: skip

    def good(chosen):
        bits = [1 << k for k in range(5) if chosen >> k & 1]
        shut_out = [sum((mask & chosen) == chosen & ~bit for mask in held.tolist()) for bit in bits]
        fits = chosen & full == chosen and 2 <= len(bits) <= count
        fits &= all(shut_out) and sum(shut_out) >= len(bits) + spare
        return fits and (not alone or sum(mask & chosen == chosen for mask in held.tolist()) == 1)

    possible = [chosen for chosen in range(32) if good(chosen)]
    assert (kept in possible) if possible else kept == 0
    assert not kept or kept.bit_count() == max(chosen.bit_count() for chosen in possible)


def test_seeds_follow_weights(sheet, make_sources):
    graph = sheet.nodes("disease", *"abc").nodes("drug", "x").edge("a", "differential_of", "b").graph()
    sources = make_sources(graph)
    sources.weights["disease"][:] = [1.0, 1.0, 4.0]
    rows, nodes = draw_seeds(sources, "t", np.arange(4000), ["disease"] * 3999 + ["gene"])
    assert rows.tolist() == list(range(3999))
    shares = np.bincount(nodes, minlength=3) / 3999
    assert shares[1] == 0
    assert abs(shares[0] - 0.25) < 0.03


def test_reach_stops_at_crowds(sheet, make_sources):
    sheet.nodes("disease", *(f"i{k}" for k in range(450))).nodes("symptom", "crowd", "few").nodes("drug", "x")
    for k in range(450):
        sheet.edge(f"i{k}", "has_symptom", "crowd", strong=False)
    graph = sheet.edge("i1", "has_symptom", "few").edge("i1", "treated_with_drug", "x").graph()
    steps = np.array([[step_of("has_symptom", "in"), step_of("treated_with_drug")]] * 2)
    rows, nodes, small = reach(make_sources(graph), np.array([graph.ids["crowd"], graph.ids["few"]]), steps)
    assert small.tolist() == [False, True]
    assert list(zip(rows.tolist(), nodes.tolist(), strict=True)) == [(1, graph.ids["x"])]


def test_barred(sheet, make_sources):
    """What belongs to the entity or a relative, under the asked or a kindred relation, with the relatives of that."""
    sheet.nodes("disease", "a", "sub", "far").nodes("drug", *"uvwxyz").nodes("drug_class", "k").nodes("symptom", "s")
    sheet.edge("a", "treated_with_drug", "u").edge("a", "treated_by", "v", strong=False).edge("a", "has_subtype", "sub")
    sheet.edge("sub", "treated_with_drug", "w").edge("a", "treated_with_drug", "k").edge("x", "in_drug_class", "k")
    sheet.edge("far", "treated_with_drug", "y").edge("z", "contraindicated_in", "a")
    graph = sheet.graph()
    keys = barred(
        make_sources(graph), np.array([0]), np.array([graph.ids["a"]]), np.array([step_of("treated_with_drug")]),
        np.array([[graph.ids["s"], -1]]),
    )  # fmt: skip
    assert {graph.names[key] for key in keys.tolist()} == {"a", "sub", "u", "v", "w", "k", "x", "s"}


def test_walks(sheet, make_sources):
    graph = triangle(sheet).edge("d", "has_symptom", "p", strong=False).graph()
    sources, rows = make_sources(graph), np.arange(500)
    a, d = np.full(500, graph.ids["a"]), np.full(500, graph.ids["d"])
    step, none = np.full(500, step_of("has_symptom")), np.full(500, -1)
    assert {graph.names[end] for end in pick_end(sources, "t", rows, a, step)} == set("pqs")
    assert (pick_end(sources, "t", rows, d, step) == -1).all()
    assert (pick_end(sources, "t", rows, a, none) == -1).all()
    shot = rows / 500
    assert {graph.names[end] for end in hop(sources.solid, a, step, shot)} == set("pqs")
    assert (hop(sources.solid, none, step, shot) == -1).all()
    assert (hop(sources.solid, d, step, shot) == -1).all()
    table = np.tile([step_of("has_sign"), step_of("has_symptom"), -1], (500, 1))
    assert (pick_step(sources, "t", rows, a, table) == step).all()
    assert (pick_step(sources, "t", rows, d, table) == -1).all()


@pytest.mark.parametrize("length", [0, 1, 2])
def test_walkers_pass_no_hub(sheet, make_sources, length):
    """Neither on the way nor at the end of it."""
    triangle(sheet).nodes("drug", *"xyz").nodes("drug_class", "k", "l").nodes("protein", "u")
    for disease, drug, group in (("a", "x", "k"), ("b", "y", "l"), ("c", "z", "k")):
        sheet.edge(disease, "treated_with_drug", drug).edge(drug, "in_drug_class", group)
    hub = ("b", "y", "l")[length]
    more = {
        "b": ("differential_of", "disease"),
        "y": ("interacts_with", "drug"),
        "l": ("contraindicated_in", "disease"),
    }
    relation, kind = more[hub]
    sheet.nodes(kind, *(f"more {k}" for k in range(20))).edge(hub, relation, *(f"more {k}" for k in range(20)))
    graph = sheet.graph()
    steps = [step_of("treated_with_drug"), step_of("in_drug_class")]
    middle = np.tile(np.array(steps[:length], np.int64), (200, 1))
    asked = np.full(200, ([*steps, step_of("in_drug_class", "in")])[length])

    def ends(quantile):
        a, start = np.full(200, graph.ids["a"]), np.full((200, 1), step_of("has_symptom"))
        sources = make_sources(graph, hub_quantile=quantile)
        via, answer = walkers(sources, "t", np.arange(200), a, start, middle, asked, 6, 4)
        assert ((via < 0) == (answer < 0)).all()
        return {graph.names[node] for node in np.unique(via[via >= 0])}

    assert hub in ends(1.0)
    assert ends(0.99)
    assert hub not in ends(0.99)


def test_pool(sheet_graph, make_sources):
    """A candidate stands once, linked through the closest entity, with all that it covers; kinds of cover in turns."""
    count = 60
    rows = np.zeros(count + 3, np.int64)
    node = np.array([7, 7, 7, *range(10, 10 + count)])
    found = Candidates(rows, node, np.array([1, 2, 3, *[4] * count]), np.array([1, 3, 2, *[0] * count]))
    close, cover = np.array([0.2, 0.9, 0.4, *[0.0] * count]), np.array([1, 0, 2, *[4] * count])
    pool = make_pool(make_sources(sheet_graph), "t", np.array([5, 6]), found, cover, close)
    assert pool.nodes.shape == (2, POOL)
    assert (pool.nodes[1] == -1).all()
    assert (pool.nodes[0] >= 0).all()
    assert len(set(pool.nodes[0].tolist())) == POOL
    at = np.flatnonzero(pool.nodes[0] == 7)
    assert at.size == 1
    assert [part[0, at[0]] for part in (pool.via, pool.satisfied, pool.cover, pool.closeness)] == [2, 3, 3, 0.9]
