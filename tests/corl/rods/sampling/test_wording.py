"""Questions in words: every shape, both languages, real facts; nothing left over, nothing given away."""

import re

import numpy as np
import pytest

from corl.config.rods import RodsSample
from corl.rods.graph import NODE_TYPES, RELATION_IDS, from_tables, load_graph
from corl.rods.graph.tables import Node, Tables
from corl.rods.sampling.draws import SHAPES
from corl.rods.sampling.leak import Leaks
from corl.rods.sampling.rarity import rarity_scores, seed_weights
from corl.rods.sampling.shapes import draw_questions
from corl.rods.sampling.sources import Sources
from corl.rods.sampling.wording import Wording
from corl.rods.wording import all_steps

GRAPH = load_graph("embedded")
WORDING = Wording(GRAPH, 3)
SYMPTOM, SIGN, LAB = ("has_symptom", "out"), ("has_sign", "out"), ("has_lab_finding", "out")
TREATED = ("treated_with_drug", "out")
ADDISON = {
    "entity": "Addison disease",
    "clues": [([SYMPTOM], "salt craving"), ([SYMPTOM], "weight loss"), ([LAB], "high serum potassium")],
    "answer": "Addison disease",
    "distractors": ["gout", "Wilson disease", "acromegaly"],
    "shape": "star",
}
FLUDRO = ADDISON | {
    "shape": "star_tail",
    "asked": TREATED,
    "answer": "fludrocortisone",
    "distractors": ["allopurinol", "penicillamine", "colchicine"],
}
CJK = re.compile("[\u3000-\u303f\u3400-\u9fff\uff00-\uffef]")


def proven(shape, count=400, start=0):
    weights = seed_weights(GRAPH, rarity_scores(GRAPH), 0.7)
    indices = np.arange(start, start + count)
    return draw_questions(Sources(GRAPH, RodsSample(), 3, weights), shape, indices, indices % 2)


@pytest.fixture(scope="module")
def drawn():
    found = {shape: proven(shape) for shape in SHAPES}
    return {shape: draws.take(np.flatnonzero(~Leaks(GRAPH).leaking(draws))) for shape, draws in found.items()}


def questions(hand_draws, row, count=60):
    draws = hand_draws(GRAPH, *[row | {"index": index} for index in range(count)])
    return [WORDING.question(draws, at) for at in range(count)]


def test_a_star_names_its_clues_and_varies(hand_draws):
    asked = questions(hand_draws, ADDISON)
    assert len(set(asked)) > 20
    for text in asked:
        assert "salt craving and weight loss" in text and "high serum potassium" in text
        assert "addison" not in text.lower()
        assert text[0].isupper() and text.endswith("?")


def test_a_tail_asks_for_the_type_of_its_options(hand_draws):
    for text in questions(hand_draws, FLUDRO):
        assert re.search("[Ww]hich (drug|medicine|agent) is (used to treat|indicated for|given for) ", text), text


def test_options_of_several_types_are_asked_for_without_one(hand_draws):
    row = FLUDRO | {"distractors": ["allopurinol", "penicillamine", "corticosteroid"]}
    assert {NODE_TYPES[GRAPH.types[GRAPH.ids[n]]] for n in row["distractors"]} == {"drug", "drug_class"}
    for text in questions(hand_draws, row):
        assert "hich of the following" in text


def test_chinese_is_chinese_throughout(hand_draws):
    for row in (ADDISON, FLUDRO):
        for text in questions(hand_draws, row | {"lang": 1}):
            assert "嗜盐" in text or GRAPH.names_zh[GRAPH.ids["salt craving"]] in text
            assert not re.search("[A-Za-z]{2,}", text), text
            assert not re.search("[,.?;:()]", text), text
            assert text.endswith("？")


def test_a_named_disease_with_a_condition(hand_draws):
    row = {
        "shape": "constraint",
        "entity": "gout",
        "clues": [([], "gout")],
        "asked": TREATED,
        "excluded": (("contraindicated_in", "out"), "kidney failure"),
        "answer": "allopurinol",
        "distractors": ["colchicine", "salmeterol", "riluzole"],
    }
    for text in questions(hand_draws, row):
        assert "gout" in text and "kidney failure" in text and "colchicine" not in text
    for text in questions(hand_draws, row | {"lang": 1}):
        assert GRAPH.names_zh[GRAPH.ids["gout"]] in text and GRAPH.names_zh[GRAPH.ids["kidney failure"]] in text


def test_a_named_entity_may_have_further_clues(hand_draws):
    row = FLUDRO | {"clues": [([], "Addison disease"), ([SYMPTOM], "salt craving")]}
    for text in questions(hand_draws, row):
        assert "Addison disease" in text and "salt craving" in text


def test_an_exception_is_asked_in_the_negative(hand_draws):
    row = {
        "shape": "exception",
        "entity": "autosomal recessive inheritance",
        "clues": [([], "autosomal recessive inheritance")],
        "asked": ("inheritance", "in"),
        "answer": "Fabry disease",
        "distractors": ["Gaucher disease", "Pompe disease", "Wilson disease"],
    }
    for text in questions(hand_draws, row):
        assert re.search("EXCEPT|but one|NOT", text) and "autosomal recessive inheritance" in text
    for text in questions(hand_draws, row | {"lang": 1}):
        assert re.search("除|只有一项|唯独", text)


def test_a_comparison_names_the_contrast(hand_draws):
    row = FLUDRO | {"shape": "compare", "contrast": "Cushing syndrome"}
    for text in questions(hand_draws, row):
        assert "Cushing syndrome" in text


def test_one_draw_reads_the_same_in_any_block(hand_draws):
    rows = [ADDISON | {"index": 5}, FLUDRO | {"index": 9}, ADDISON | {"index": 77, "lang": 1}]
    block = hand_draws(GRAPH, *rows)
    together = [WORDING.question(block, at) for at in range(3)]
    fresh = [Wording(GRAPH, 3).question(hand_draws(GRAPH, row), 0) for row in rows]
    again = [WORDING.question(block.take(np.array([2, 0, 1])), at) for at in range(3)]
    assert together == fresh == [again[1], again[2], again[0]]
    assert [Wording(GRAPH, 4).question(block, at) for at in range(3)] != together


@pytest.mark.parametrize("step", all_steps(), ids=lambda step: "-".join(step))
@pytest.mark.parametrize("lang", [0, 1], ids=["en", "zh"])
def test_every_relation_makes_questions_as_clue_and_as_what_is_asked(hand_draws, step, lang):
    edges = np.flatnonzero(GRAPH.relations == RELATION_IDS[step[0]])
    if not edges.size:
        pytest.skip("no such edge in the embedded graph")
    edge = edges[0]
    head, tail = GRAPH.names[GRAPH.heads[edge]], GRAPH.names[GRAPH.tails[edge]]
    entity, node = (head, tail) if step[1] == "out" else (tail, head)
    kind = GRAPH.types[GRAPH.ids[entity]]
    others = [GRAPH.names[n] for n in np.flatnonzero(GRAPH.types == kind)[:4].tolist()]
    star = {"shape": "star", "entity": entity, "clues": [([step], node)], "answer": entity, "lang": lang}
    tail_kind = GRAPH.types[GRAPH.ids[node]]
    options = [GRAPH.names[n] for n in np.flatnonzero(GRAPH.types == tail_kind)[:4].tolist()]
    ask = {"shape": "exception", "entity": entity, "clues": [([], entity)], "asked": step, "answer": node, "lang": lang}
    asked = [star | {"distractors": [o for o in others if o != entity][:3]}]
    asked.append(ask | {"distractors": [o for o in options if o != node][:3]})
    for row in asked:
        if len(row["distractors"]) < 3:
            continue
        told = node if row["shape"] == "star" else entity
        for text in questions(hand_draws, row, 12):
            assert_whole(text, lang)
            assert _named(told, text, lang), (told, text)


def test_all_drawn_questions_are_whole_and_name_their_nodes(drawn):
    seen = 0
    for draws in drawn.values():
        for row in range(len(draws)):
            text, lang = WORDING.question(draws, row), int(draws.lang[row])
            assert_whole(text, lang)
            nodes = [*draws.clue_nodes[row], draws.contrast[row], draws.excluded_node[row]]
            told = WORDING.named(draws, row)
            for node in nodes:
                if node >= 0:
                    assert _named(GRAPH.names[node], text, lang), (GRAPH.names[node], text)
                    assert told[int(node)].casefold() in text.casefold()
            seen += 1
    assert seen > 500


def test_no_drawn_question_gives_its_answer_away(drawn):
    leaks = Leaks(GRAPH)
    for draws in drawn.values():
        texts = [WORDING.question(draws, row) for row in range(len(draws))]
        told = [text for text, answer in zip(texts, draws.answer.tolist(), strict=True) if leaks.in_text(text, answer)]
        assert not told


def test_the_wording_does_not_use_words_of_the_options(hand_draws):
    """`which disease` would point at the only option with that word, or away from it."""
    row = ADDISON | {"distractors": ["gout", "acromegaly", "pheochromocytoma"]}
    for text in questions(hand_draws, row):
        assert "disease" not in text.lower()
    row = ADDISON | {
        "entity": "gout",
        "answer": "gout",
        "distractors": ["Wilson disease", "acromegaly", "Addison disease"],
    }
    for text in questions(hand_draws, row):
        assert "disease" not in text.lower()


def test_inheritance_is_not_asked_for_as_a_mechanism(hand_draws):
    row = {
        "shape": "star_tail",
        "entity": "Gaucher disease",
        "clues": [([SYMPTOM], "bone pain"), ([SIGN], "bruising")],
        "asked": ("inheritance", "out"),
        "answer": "autosomal recessive inheritance",
        "distractors": ["autosomal dominant inheritance", "X-linked inheritance", "mitochondrial inheritance"],
    }
    row["distractors"] = [name if name in GRAPH.ids else "autoimmune reaction" for name in row["distractors"]]
    for text in questions(hand_draws, row):
        assert "hich of the following" in text and "inherit" not in text


def test_a_generic_answer_is_not_named_by_the_template(hand_draws):
    nodes = [Node("disease", "disease"), Node("fever", "symptom")]
    nodes += [Node(name, "disease") for name in ("gout", "measles", "mumps")]
    graph = from_tables("g", Tables(nodes={node.name: node for node in nodes}))
    row = {"shape": "star", "entity": "disease", "clues": [([SYMPTOM], "fever")], "answer": "disease"}
    row["distractors"] = ["gout", "measles", "mumps"]
    made = Wording(graph, 0)
    draws = hand_draws(graph, *[row | {"index": index} for index in range(40)])
    assert not [text for text in (made.question(draws, at) for at in range(40)) if "disease" in text.lower()]
    assert Leaks(graph).leaking(draws).all()  # and the answer says nothing anyway


def assert_whole(text, lang):
    assert "{" not in text and "}" not in text and "  " not in text and "None" not in text
    for left, right in ("()", "[]", "“”", "（）"):
        assert text.count(left) == text.count(right), text
    if lang:
        assert text[-1] == "？" and not re.search("[,;?]", text), text
    else:
        assert text[-1] == "?" and not CJK.search(text), text
        assert not re.search(r" [,.?]|\.\.|\ba [aeio]\w|\ban [^aeiou]", text.split("CT")[0]), text
        assert text[0].isupper() or not text[0].isalpha()


def _named(name, text, lang):
    node = GRAPH.ids[name]
    own = (GRAPH.names_zh[node], *GRAPH.aliases_zh[node]) if lang else (name, *GRAPH.aliases_en[node])
    return any(one.casefold() in text.casefold() for one in own)
