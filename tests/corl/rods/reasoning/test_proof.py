"""The proof in words: right in form, drawn from the item's meta alone, naming what it must."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from corl.config.rods import RodsSample
from corl.data.items import Item, read_traces, write_traces
from corl.grading import grade
from corl.rods.graph import load_graph
from corl.rods.reasoning import chinese, english, proof_trace
from corl.rods.sampling.draws import SHAPES
from corl.rods.sampling.naming import OptionNames
from corl.rods.sampling.rarity import rare_nodes, rarity_scores, seed_weights
from corl.rods.sampling.records import Batch, Records
from corl.rods.sampling.shapes import draw_questions
from corl.rods.sampling.sources import Sources
from corl.rods.sampling.wording import Wording

SYMPTOM = ["has_symptom", "out"]
META = {
    "shape": "star_tail",
    "hops": 2,
    "clues": [{"path": [SYMPTOM], "node": "salt craving"}, {"path": [["has_sign", "out"]], "node": "tan skin"}],
    "asked": {"relation": "treated_with_drug", "direction": "out"},
    "excluded": None,
    "contrast": None,
    "answer_type": "drug",
    "masked": ["Addison disease"],
    "surfaces": {},
    "option_nodes": {"A": "insulin", "B": "fludrocortisone", "C": "iron"},
    "options_evidence": {
        "A": {"shared": [], "violated": [0, 1], "via": "type 1 diabetes"},
        "C": {"shared": [1], "violated": [0], "via": "pica"},
    },
}
ITEM = Item(
    "rods:g:1", "rods:g", "en", None, "Which drug is given?",
    {"A": "insulin", "B": "fludrocortisone", "C": "iron"}, "B", "moderate", META,
)  # fmt: skip
NAMED = {"clues": [{"path": [], "node": "gout"}], "masked": []}


@pytest.fixture(scope="module")
def sampled():
    """Items of every shape and language, straight from the embedded graph."""
    graph, settings = load_graph("embedded"), RodsSample()
    rarity, rare = rarity_scores(graph), rare_nodes(graph)
    sources = Sources(graph, settings, 5, seed_weights(graph, rarity, 0.7))
    wording = Wording(graph, 5)
    records = Records(graph, settings, 5, rare, rarity, OptionNames(graph).texts)
    found = []
    for shape in SHAPES:
        indices = np.arange(400)
        draws = draw_questions(sources, shape, indices, indices % 2)
        draws = draws.take(np.arange(min(len(draws), 60)))
        asked = [wording.question(draws, row) for row in range(len(draws))]
        lines, _ = records.lines(Batch(draws, asked, np.arange(len(draws)) % 4))
        found += [_item(line) for line in lines]
    return found


def _item(line):
    return Item(**json.loads(line))


def with_meta(**changes):
    return replace(ITEM, meta=META | changes)


def thought(item):
    return proof_trace(item).completion.split("</think>")[0].removeprefix("<think>")


def test_every_shape_and_language_is_graded_correct(sampled):
    seen = set()
    for item in sampled:
        made = proof_trace(item)
        verdict = grade(made.completion, item.options, item.answer)
        assert (verdict.format_ok, verdict.correct) == (True, True), made.completion
        assert (made.item, made.teacher, made.label_conditioned) == (item, "proof", False)
        broken = None if item.meta["shape"] == "exception" else True
        assert made.checks == {"answer": True, "bridges": True, "violated_clue": broken}, made
        seen.add((item.meta["shape"], item.lang))
    assert seen == {(shape, lang) for shape in SHAPES for lang in ("en", "zh")}


def test_cold_start_reads_them(sampled, tmp_path):
    traces = [proof_trace(item) for item in sampled]
    write_traces(tmp_path / "traces.jsonl", traces)
    assert read_traces(tmp_path / "traces.jsonl") == traces


def test_they_are_short_whole_and_in_one_language(sampled):
    for item in sampled:
        text = thought(item)
        assert not re.search(r"[{}]|  |\bNone\b", text), text
        if item.lang == "zh":
            assert 80 <= len(text) <= 420, len(text)
            names = [*item.options.values(), *item.meta["surfaces"].values()]
            for name in sorted(names, key=len, reverse=True):
                text = text.replace(name, "")
            assert not re.search("[a-z]{2,}", text), text
            assert not re.search("[,;:?!]", text), text
        else:
            assert 55 <= len(text.split()) <= 200, len(text.split())
            assert not re.search("[\u3000-\u9fff\uff00-\uffef]", text), text


def test_they_name_the_bridges_the_violated_clue_and_the_doubt(sampled):
    doubts = english.PARTS["unsure"] + chinese.PARTS["unsure"]
    for item in sampled:
        text, meta = thought(item), item.meta
        surfaces = meta["surfaces"]
        assert all(surfaces[name].casefold() in text.casefold() for name in meta["masked"])
        assert any(doubt in text for doubt in doubts)
        closest = max(meta["options_evidence"].items(), key=lambda e: (e[1].get("excluded", 0) and not e[1]["violated"],
                      len(e[1]["shared"]), -ord(e[0])))  # fmt: skip
        assert item.options[closest[0]].casefold() in text.casefold()
        for clue in closest[1]["violated"][:2]:
            if meta["clues"][clue]["path"]:
                assert surfaces[meta["clues"][clue]["node"]].casefold() in text.casefold()
        assert not re.search("given answer|labell?ed|correct answer is|标准答案|已给出", text)
        ending = text[-len(item.options[item.answer]) - 12 :]
        assert item.options[item.answer] in ending, ending


def test_they_differ_from_item_to_item():
    texts = {thought(replace(ITEM, id=f"rods:g:{number}")) for number in range(200)}
    assert len(texts) > 150
    assert thought(ITEM) == thought(replace(ITEM, question="Which agent?"))


def test_the_story_of_a_tail():
    text = thought(ITEM)
    order = ["salt craving", "iron (C)", "insulin (A)", "Addison disease"]
    places = [text.lower().index(part.lower()) for part in order]
    assert places == sorted(places)
    assert "pica" in text.lower() and "type 1 diabetes" in text.lower()
    assert text.rstrip(".").endswith("B, fludrocortisone")


def test_an_option_ruled_out_by_the_condition_comes_first():
    excluded = {"relation": "contraindicated_in", "direction": "out", "node": "kidney failure"}
    evidence = {
        "A": {"shared": [], "violated": [0], "via": "pica", "excluded": False},
        "C": {"shared": [], "violated": [], "via": "gout", "excluded": True},
    }
    for number in range(20):
        item = replace(
            with_meta(shape="constraint", excluded=excluded, options_evidence=evidence, **NAMED), id=f"x:{number}"
        )
        text = thought(item)
        assert text.count("kidney failure") >= 2
        assert text.lower().index("iron (c)") < text.index("kidney failure") < text.lower().index("insulin (a)")
        assert "None" not in text


def test_an_option_excluded_but_also_of_another_entity_is_no_treatment_of_the_named_one():
    excluded = {"relation": "contraindicated_in", "direction": "out", "node": "kidney failure"}
    evidence = {
        "A": {"shared": [], "violated": [0], "via": "lupus", "excluded": True},
        "C": {"shared": [], "violated": [0], "via": "pica", "excluded": False},
    }
    text = thought(with_meta(shape="constraint", excluded=excluded, options_evidence=evidence, **NAMED))
    assert "lupus" in text


def test_two_options_of_one_source_fall_together():
    evidence = {letter: {"shared": [1], "violated": [0], "via": "pica"} for letter in "AC"}
    text = thought(with_meta(options_evidence=evidence))
    assert "insulin" in text.lower() and "iron" in text.lower()
    assert text.count("salt craving") == 3  # told, found missing, found


def test_without_wrong_options_evidence_there_is_no_hypothesis():
    made = proof_trace(with_meta(options_evidence={}))
    assert made.checks["violated_clue"] is False


def test_a_chinese_item_needs_chinese_texts():
    with pytest.raises(ValueError, match="no Chinese text for 'salt craving'"):
        proof_trace(replace(ITEM, lang="zh"))
    surfaces = {"salt craving": "嗜盐", "tan skin": "皮肤变黑", "Addison disease": "艾迪生病", "pica": "异食癖"}
    item = replace(with_meta(surfaces=surfaces | {"type 1 diabetes": "1型糖尿病"}), lang="zh")
    assert "艾迪生病" in thought(item)


def test_surfaces_are_optional_in_english():
    meta = {key: value for key, value in META.items() if key != "surfaces"}
    assert "Addison disease" in thought(replace(ITEM, meta=meta))


BROKEN = [
    {"clues": None},
    {"clues": []},
    {"clues": [{"path": [["has_fever", "out"]], "node": "x"}]},
    {"clues": [{"path": [["has_sign", "sideways"]], "node": "x"}]},
    {"clues": [{"path": [["has_sign"]], "node": "x"}]},
    {"option_nodes": {}},
    {"options_evidence": {"A": {"shared": [9], "violated": [], "via": None}}},
    {"options_evidence": {"Z": {"shared": [], "violated": [0], "via": None}}},
    {"asked": {"relation": "cures", "direction": "out"}},
    {"masked": []},
    {"asked": "treated_with_drug"},
]


@pytest.mark.parametrize("change", BROKEN, ids=[str(change)[:40] for change in BROKEN])
def test_meta_that_holds_no_proof_is_one_clear_error(change):
    with pytest.raises(ValueError, match="item 'rods:g:1'"):
        proof_trace(with_meta(**change))


def test_a_tail_without_its_entity_says_so():
    with pytest.raises(ValueError, match="meta.masked names no entity"):
        proof_trace(with_meta(masked=[]))


@pytest.mark.parametrize("missing", sorted(set(META) - {"surfaces", "hops", "answer_type"}))
def test_a_missing_key_is_named(missing):
    with pytest.raises(ValueError, match="rods:g:1"):
        proof_trace(replace(ITEM, meta={key: value for key, value in META.items() if key != missing}))


@pytest.mark.parametrize("words", [english, chinese], ids=["en", "zh"])
def test_every_sentence_has_five_variants(words):
    assert set(english.PARTS) == set(chinese.PARTS)
    for kind, variants in words.PARTS.items():
        assert len(set(variants)) >= 5, kind
        for variant in variants:
            assert variant == variant.strip() and variant[-1] in ".?。？", variant
            assert bool(re.search("[\u4e00-\u9fff]", variant)) == (words is chinese)
