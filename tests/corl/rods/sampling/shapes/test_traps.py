"""Known ways of making a question with two right answers or none; each fixture also shows that it would happen."""

import numpy as np
import pytest

from corl.rods.graph import relation_of, step_of
from corl.rods.sampling.draws import SHAPES
from corl.rods.sampling.evidence import draw_clues
from corl.rods.sampling.shapes import draw_questions

DISEASES = [f"illness {letter}" for letter in "ABCDEFGH"]


def ask(sources, shape, count=400):
    indices = np.arange(count)
    return draw_questions(sources, shape, indices, np.zeros_like(indices))


def questions(sources, shape, names, count=400):
    """(entity, clue names, asked relation, answer, wrong options) of each question."""
    draws, out = ask(sources, shape, count), []
    for row in range(len(draws)):
        clues = {names[node] for node in draws.clue_nodes[row].tolist() if node >= 0}
        step = int(draws.asked_step[row])
        wrong = {names[node] for node in draws.distractors[row].tolist()}
        asked = relation_of(step) if step >= 0 else None
        out.append((names[draws.entity[row]], clues, asked, names[draws.answer[row]], wrong))
    assert out, f"no {shape} question at all"
    return out


def together(found, one, other):
    """Questions with both as options, one of them right."""
    pair = {one, other}
    return [q for q in found if pair <= q[4] | {q[3]} and q[3] in pair]


@pytest.fixture
def clinic(sheet):
    """Eight illnesses that share symptoms pairwise; each has a drug of its own, in a class of its own."""
    sheet.nodes("disease", *DISEASES)
    for i, name in enumerate(DISEASES):
        for k in (1, 2, 4):
            low, high = sorted([i, i ^ k])
            sheet.nodes("symptom", f"symptom {low}{high}").edge(name, "has_symptom", f"symptom {low}{high}")
        sheet.nodes("drug", f"drug {i}").nodes("drug_class", f"class {i}")
        sheet.edge(name, "treated_with_drug", f"drug {i}").edge(f"drug {i}", "in_drug_class", f"class {i}")
    return sheet


def names_of(graph):
    return list(graph.names)


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("turned", [False, True])
def test_subtype_is_no_wrong_option(clinic, make_sources, steps, turned):
    """Trap 9: a disease and its subtype, one or two steps apart, either way."""
    a, b = DISEASES[0], DISEASES[1]
    graph = clinic.graph()
    assert together(questions(make_sources(graph, options=3), "star", names_of(graph)), a, b)
    path = [a, b] if steps == 1 else [a, "between", b]
    for high, low in zip(path, path[1:], strict=False):
        clinic.nodes("disease", "between").edge(*((low, "has_subtype", high) if turned else (high, "has_subtype", low)))
    graph = clinic.graph()
    assert not together(questions(make_sources(graph, options=3), "star", names_of(graph)), a, b)


def test_what_treats_a_subtype_is_no_wrong_option(clinic, make_sources):
    """Trap 9: what belongs to the subtype belongs to the disease, though no edge says so."""
    a, b = DISEASES[0], DISEASES[1]

    def wrong_for_a(graph):
        found = questions(make_sources(graph, options=3), "star_tail", names_of(graph))
        return set().union(*(q[4] for q in found if q[0] == a and q[2][0] == "treated_with_drug"))

    assert "drug 1" in wrong_for_a(clinic.graph())
    clinic.edge(b, "has_subtype", a, strong=False)
    assert "drug 1" not in wrong_for_a(clinic.graph())


def test_member_of_the_right_class_is_no_wrong_option(clinic, make_sources):
    """Trap 9: "penicillins" treat it, so amoxicillin is not wrong."""
    a = DISEASES[0]

    def wrong_for_a(graph):
        found = questions(make_sources(graph, options=3), "star_tail", names_of(graph))
        return set().union(*(q[4] for q in found if q[0] == a and q[3] == "drug 0"))

    assert "drug 1" in wrong_for_a(clinic.graph())
    clinic.edge(a, "treated_with_drug", "class 1", strong=False)
    assert "drug 1" not in wrong_for_a(clinic.graph())


def test_class_asked(sheet, make_sources):
    """Trap 9: a weak class of the drug is no wrong option where its class is asked."""
    for i in range(8):
        sheet.nodes("drug", f"drug {i}").nodes("drug_class", f"class {i}").edge(
            f"drug {i}", "in_drug_class", f"class {i}"
        )
        for k in (1, 2, 4):
            low, high = sorted([i, i ^ k])
            sheet.nodes("protein", f"protein {low}{high}").edge(f"drug {i}", "targets", f"protein {low}{high}")

    def wrong_for_0(graph):
        found = questions(make_sources(graph, options=3), "star_tail", names_of(graph))
        assert all(q[2] == ("in_drug_class", "out") for q in found)
        return set().union(*(q[4] for q in found if q[0] == "drug 0"))

    assert "class 1" in wrong_for_0(sheet.graph())
    sheet.edge("drug 0", "in_drug_class", "class 1", strong=False)
    assert "class 1" not in wrong_for_0(sheet.graph())


def test_shared_name_is_no_wrong_option(clinic, make_sources):
    """Trap 9: two nodes that one text may mean."""
    a, b = DISEASES[0], DISEASES[1]
    clinic.aliases[a] = ["The Shakes"]
    clinic.aliases[b] = ["the shakes"]
    graph = clinic.graph()
    found = questions(make_sources(graph, options=3), "star", names_of(graph))
    assert found
    assert not [q for q in found if {a, b} <= q[4] | {q[3]}]


@pytest.mark.parametrize("shape", SHAPES)
def test_differential_is_no_feature(shape, clinic, make_sources):
    """Traps 9 and 12: that two diseases must be told apart says nothing about what they share."""
    for name in DISEASES[1:]:
        clinic.edge(name, "differential_of", DISEASES[0])
    clinic.nodes("disease", "stranger").edge("stranger", "differential_of", *DISEASES)
    clinic.nodes("symptom", "other").edge("stranger", "has_symptom", "other")
    graph = clinic.graph()
    draws = ask(make_sources(graph, options=3), shape)
    differential = step_of("differential_of")
    assert not (draws.clue_steps == differential).any()
    assert not (draws.asked_step == differential).any()
    assert not (draws.distractors == graph.ids["stranger"]).any()
    if shape == "star":
        assert (draws.satisfied > 0).all()
        assert len(draws) > 20


@pytest.mark.parametrize("strong", [True, False])
def test_treats_and_is_contraindicated(clinic, make_sources, strong):
    """Trap 10: a pair that stands in both is neither key, nor clue, nor wrong option."""
    a = DISEASES[0]
    graph = clinic.graph()
    found = questions(make_sources(graph, options=3), "star_tail", names_of(graph))
    assert any((q[0], q[3]) == (a, "drug 0") for q in found)
    clinic.nodes("disease", "other").edge("drug 1", "contraindicated_in", "other")
    clinic.edge("drug 0", "contraindicated_in", a, strong=strong)
    graph = clinic.graph()
    sources = make_sources(graph, options=3)
    for shape in SHAPES:
        draws = ask(sources, shape)
        drug, disease = graph.ids["drug 0"], graph.ids[a]
        for node, other in ((drug, disease), (disease, drug)):
            mine = draws.entity == node
            assert not (mine & (draws.asked_step >= 0) & (draws.answer == other)).any()
            assert not (draws.distractors[mine] == other).any()
            clue = (draws.clue_nodes == other) & (draws.clue_steps[:, :, 1] < 0) & (draws.clue_steps[:, :, 0] >= 0)
            assert not (mine[:, None] & clue).any()


def test_generic_nodes_say_nothing(clinic, make_sources):
    """Trap 11: neither clue nor option nor bridge."""
    symptom, drug = "symptom 01", "drug 1"

    def used(graph, node):
        sources, number = make_sources(graph, options=3), graph.ids[node]
        parts = [(d.clue_nodes, d.answer, d.distractors) for d in (ask(sources, shape) for shape in SHAPES)]
        return any((part == number).any() for three in parts for part in three)

    assert used(clinic.graph(), symptom)
    assert used(clinic.graph(), drug)
    clinic.generic |= {symptom, drug}
    assert not used(clinic.graph(), symptom)
    assert not used(clinic.graph(), drug)


def test_hubs_are_not_passed_through(clinic, make_sources):
    """Trap 11: what everything is linked to links nothing."""
    clinic.nodes("disease", "hub")
    clinic.edge("hub", "has_symptom", *[f"symptom {pair}" for pair in ("01", "23", "45", "67")])
    clinic.nodes("drug", *[f"more {i}" for i in range(12)])
    for i in range(12):
        clinic.edge("hub", "treated_with_drug", f"more {i}")
    graph = clinic.graph()
    hub = graph.ids["hub"]

    def passes(quantile):
        sources = make_sources(graph, options=3, hub_quantile=quantile)
        assert bool(sources.hubs[hub]) == (quantile < 1)
        draws = [ask(sources, shape) for shape in SHAPES]
        assert sum(map(len, draws)) > 100
        return any((d.entity == hub).any() or (d.via == hub).any() or (d.distractors == hub).any() for d in draws)

    assert passes(1.0)
    assert not passes(0.98)


def test_common_clues_are_barred(clinic, make_sources):
    """Trap 11: a clue of too many edges."""
    clinic.edge(DISEASES[2], "has_symptom", "symptom 01").edge(DISEASES[3], "has_symptom", "symptom 01")
    graph = clinic.graph()
    node = graph.ids["symptom 01"]
    degree = int(graph.degrees[node])
    for most, there in ((degree, True), (degree - 1, False)):
        draws = [ask(make_sources(graph, options=3, clue_degree=most), shape) for shape in SHAPES]
        assert any((d.clue_nodes == node).any() for d in draws) == there


def test_turned_round(clinic, make_sources):
    """Trap 12: two diseases that cause each other: one of the edges is the wrong way round, so neither is asked for."""
    a, b = DISEASES[0], DISEASES[1]
    for i, name in enumerate(DISEASES):
        clinic.nodes("disease", f"root {i}").edge(name, "caused_by", f"root {i}")

    def asked(graph):
        found = questions(make_sources(graph, options=3), "star_tail", names_of(graph), 1500)
        return {(q[0], q[3]) for q in found if q[2] == ("caused_by", "out")}

    clinic.edge(a, "caused_by", b)
    before = asked(clinic.graph())
    assert (a, b) in before
    assert not {(b, a)} & before  # direction: a is caused by b, and not b by a
    clinic.edge(b, "caused_by", a, strong=False)
    assert (a, b) not in asked(clinic.graph())


def test_kindred_relation_is_no_violation(clinic, make_sources):
    """Trap 12: the same finding as a sign there and as a symptom here is shared, whatever the graph calls it."""
    a, b = DISEASES[0], DISEASES[1]

    def wrong(graph):
        found = questions(make_sources(graph, options=3), "star", names_of(graph))
        return [q for q in found if q[0] == a and b in q[4]]

    assert wrong(clinic.graph())
    for pair in ("02", "04"):
        clinic.edge(b, "has_sign", f"symptom {pair}", strong=False)
    assert not wrong(clinic.graph())


def test_unknown_is_not_violated(clinic, make_sources):
    """Open world: an entity the graph has no list for fails no clue of that list."""
    a, b = DISEASES[0], DISEASES[1]
    for name in (a, DISEASES[2]):
        clinic.nodes("lab_finding", "count").edge(name, "has_lab_finding", "count")
    graph = clinic.graph()
    sources = make_sources(graph, options=3)
    draws = ask(sources, "star", 2000)
    step = step_of("has_lab_finding")
    number = graph.ids[b]
    for row in np.flatnonzero((draws.distractors == number).any(1)):
        steps = draws.clue_steps[row, :, 0]
        slot = np.flatnonzero(draws.distractors[row] == number)[0]
        violated = [k for k in range(5) if steps[k] >= 0 and not draws.satisfied[row, slot] >> k & 1]
        assert any(steps[k] != step for k in violated)
    assert (draws.distractors == number).any()


def test_open_relations_make_no_exception(embedded, make_sources):
    draws = ask(make_sources(embedded, seed=4), "exception", 1500)
    assert {relation_of(step)[0] for step in np.unique(draws.asked_step)} <= {
        "in_drug_class",
        "inheritance",
        "caused_by",
    }
    assert len(np.unique(draws.asked_step)) >= 3


def test_a_class_forbids_its_members(clinic, make_sources):
    """Constraint: a drug whose class is contraindicated in the condition is no answer."""
    a = DISEASES[0]
    clinic.nodes("disease", "asthma").nodes("drug", "good", "bad", "doubtful").nodes("drug_class", "blockers")
    clinic.edge(a, "treated_with_drug", "good", "bad", "doubtful").edge("bad", "contraindicated_in", "asthma")

    def answers(graph):
        draws = ask(make_sources(graph, options=3), "constraint")
        assert (draws.excluded_node == graph.ids["asthma"]).all()
        return {graph.names[node] for node in draws.answer[draws.entity == graph.ids[a]].tolist()}

    assert {"good", "doubtful"} <= answers(clinic.graph())
    clinic.edge("doubtful", "in_drug_class", "blockers").edge("blockers", "contraindicated_in", "asthma", strong=False)
    assert "good" in answers(clinic.graph())
    assert "doubtful" not in answers(clinic.graph())


@pytest.fixture
def look_alikes(sheet):
    """a shares two of its three symptoms with b, c, d, e each; all have a laboratory finding of their own."""
    sheet.nodes("disease", *"abcde").nodes("symptom", "p", "q", "r").nodes(
        "lab_finding", *(f"lab {x}" for x in "abcde")
    )
    for name, shared in (("a", "pqr"), ("b", "pq"), ("c", "pq"), ("d", "pr"), ("e", "qr")):
        sheet.edge(name, "has_symptom", *shared).edge(name, "has_lab_finding", f"lab {name}")
    return sheet


def contrasts(graph, make_sources):
    draws = ask(make_sources(graph), "compare")
    return draws, {graph.names[node] for node in draws.contrast[draws.entity == graph.ids["a"]].tolist()}


def test_contrast(look_alikes, make_sources):
    """What the question sets the entity apart from is no relative of it, and lacks a clue that the graph would list.

    d and e are no contrasts either: without them nothing but the question's own words would need a clue.
    """
    graph = look_alikes.graph()
    draws, names = contrasts(graph, make_sources)
    assert names == {"b", "c"}
    for row in np.flatnonzero(draws.entity == graph.ids["a"]):
        needed = set("bcde") - {graph.names[draws.contrast[row]]}
        assert {graph.names[node] for node in draws.distractors[row]} == {f"lab {name}" for name in needed}
    look_alikes.edge("b", "has_subtype", "a", strong=False)
    assert contrasts(look_alikes.graph(), make_sources)[1] <= {"c"}


def test_contrast_without_a_list(look_alikes, make_sources):
    look_alikes.nodes("disease", "f").edge("f", "has_symptom", "p", "q", strong=False)
    look_alikes.edge("f", "has_lab_finding", "lab b")
    assert contrasts(look_alikes.graph(), make_sources)[1] == {"b", "c"}
    look_alikes.edge("f", "has_symptom", "p", strong=True)
    assert contrasts(look_alikes.graph(), make_sources)[1] == {"b", "c", "f"}


def test_contrast_is_no_option(sheet, make_sources):
    """Where a disease is asked for among the symptoms of another one."""
    sheet.nodes("disease", *"abcdef", *(f"own {x}" for x in "adef")).nodes("symptom", "p", "q", "r")
    for name, shared in (("a", "pqr"), ("b", "pq"), ("c", "pq"), ("d", "pr"), ("e", "qr"), ("f", "pq")):
        sheet.edge(name, "has_symptom", *shared)
    for name in "adef":
        sheet.edge(name, "has_symptom", f"own {name}")
    graph = sheet.edge("c", "has_symptom", "b").graph()
    draws = ask(make_sources(graph), "compare")
    assert (draws.contrast == graph.ids["b"]).any()
    assert (draws.distractors == graph.ids["b"]).any()
    assert not (draws.distractors == draws.contrast[:, None]).any()


def test_one_finding_is_one_clue(sheet, make_sources):
    """The same node under two relations would be one clue said twice."""
    sheet.nodes("disease", *"abc").nodes("symptom", "p").edge("a", "has_symptom", "p").edge("a", "has_sign", "p")
    graph = sheet.edge("b", "has_sign", "p").edge("c", "has_symptom", "p").graph()
    rows = np.arange(100)
    clues = draw_clues(make_sources(graph), "t", rows, rows * 0, rows * 0 + 5)
    assert ((clues.nodes >= 0).sum(1) == 1).all()
    assert len(np.unique(clues.steps[clues.steps >= 0])) == 2


def test_condition_is_another_one(clinic, make_sources):
    """Constraint: what must not be given in a subtype of the disease itself makes no sense as a condition."""
    a = DISEASES[0]
    clinic.nodes("disease", "asthma", "milder").nodes("drug", "good", "bad").edge("bad", "contraindicated_in", "asthma")
    clinic.edge(a, "treated_with_drug", "good", "bad")
    assert questions(make_sources(clinic.graph(), options=3), "constraint", names_of(clinic.graph()))
    clinic.edge(a, "has_subtype", "milder").edge("milder", "has_subtype", "asthma", strong=False)
    assert not len(ask(make_sources(clinic.graph(), options=3), "constraint"))
