"""Every relation has phrases in both directions and both languages, and they make whole sentences."""

import re
from string import Formatter

import pytest

from corl.rods.graph.schema import NODE_TYPES, RELATIONS
from corl.rods.wording import CHINESE, ENGLISH, Told, all_steps, choose, clauses, marks, name_told, opposite, phrases
from corl.rods.wording.language import type_between

CJK = re.compile("[\u3000-\u303f\u3400-\u9fff\uff00-\uffef]")
LATIN = re.compile("[A-Za-z]")
LANGUAGES = [pytest.param(ENGLISH, id="en"), pytest.param(CHINESE, id="zh")]
ASKING = {"下列", "列哪", "哪种", "哪类", "哪个", "一项"}  # words that a question needs
SLOTS = {"clues", "noun", "a", "A", "which", "Which", "ask", "x", "b", "B", "out"}


def slots(text):
    return [name for _, name, _, _ in Formatter().parse(text) if name is not None]


def assert_clean(text, language):
    assert "{" not in text and "}" not in text
    assert "  " not in text and text == text.strip()
    for left, right in ("()", "[]", "“”", "（）"):
        assert text.count(left) == text.count(right)
    assert not (LATIN if language is CHINESE else CJK).search(text), text


def test_every_step_of_the_closed_list_has_three_phrases_in_both_languages():
    steps = all_steps()
    assert len(steps) == sum(1 if rule.symmetric else 2 for rule in RELATIONS.values())
    for step in steps:
        for language in (ENGLISH, CHINESE):
            found = language.predicate(step)
            assert len({phrase.text for phrase in found}) >= 3, step
            assert language.predicate(opposite(opposite(step))) == found


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_phrase_of_every_step_is_clean_and_takes_one_list(language):
    names = {"en": ["first thing", "second thing", "third thing"], "zh": ["甲项", "乙项", "丙项"]}[language.code]
    for key, options in language.predicates.items():
        for phrase in options:
            assert slots(phrase.text) == ["n"], (key, phrase)
            for size in (1, 2, 3):
                text = phrase.text.format(n=language.join_names(names[:size]))
                assert_clean(text, language)
                assert all(name in text for name in names[:size])


@pytest.mark.parametrize("language", LANGUAGES)
def test_phrases_of_a_step_are_no_other_steps_phrases(language):
    """`goes along with` reads the same either way; nothing else may say two different things."""
    owners = {}
    for key, options in language.predicates.items():
        for phrase in options:
            owners.setdefault(phrase.text, set()).add((RELATIONS[key[0]].symmetric or key[1], key[0]))
    kin = [{"has_symptom", "has_sign", "has_lab_finding", "has_imaging_finding"}, {"treated_by", "treated_with_drug"}]
    kin.append({"in_drug_class", "has_subtype"})
    for text, steps in owners.items():
        relations = {relation for _, relation in steps}
        assert len(relations) == 1 or any(relations <= family for family in kin), (text, steps)


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_word_stands_in_every_phrase_so_that_any_can_be_avoided(language):
    for table in (language.predicates, language.frames):
        for key, options in table.items():
            common = frozenset.intersection(*(phrase.marks for phrase in options)) - ASKING
            assert not common, (key, common)
    for kind, options in language.asking.items():
        if len(options) > 1:
            shared = frozenset.intersection(*(phrase.marks for phrase in options))
            assert shared <= ASKING, (kind, shared)


@pytest.mark.parametrize("language", LANGUAGES)
def test_frames_hold_known_slots_and_nothing_of_the_other_language(language):
    assert set(ENGLISH.frames) == set(CHINESE.frames)
    for name, frames in language.frames.items():
        for frame in frames:
            assert set(slots(frame.text)) <= SLOTS, frame
            filler = "thing" if language is ENGLISH else "某"
            text = frame.text.format_map(dict.fromkeys(SLOTS, filler))
            assert_clean(text.strip(), language)
            assert text.strip()[-1] in (".:?" if language is ENGLISH else "。：？")
        assert len(frames) >= (2 if name == "named" else 4), name
    needed = {"star": {"clues"}, "intro": {"clues"}, "named": {"x", "clues"}, "tail": {"ask"}}
    needed |= {"compare": {"ask", "b|B"}, "exception": {"ask"}, "constraint": {"ask", "out"}}
    for name, wanted in needed.items():
        for frame in language.frames[name]:
            held = set(slots(frame.text))
            assert all(held & set(one.split("|")) for one in wanted), frame


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_type_has_a_noun_and_a_way_to_ask_for_it(language):
    for kind in (*NODE_TYPES, "thing", "finding"):
        for phrase in language.nouns[kind]:
            assert_clean(language.some(phrase.text), language)
            assert_clean(language.this(phrase.text), language)
    for kind in (*NODE_TYPES, "thing"):
        assert language.asking[kind]


def test_articles_and_lists():
    assert ENGLISH.some("illness") == "an illness"
    assert ENGLISH.some("drug") == "a drug"
    assert [ENGLISH.join_names(list("abc")[:n]) for n in (1, 2, 3)] == ["a", "a and b", "a, b and c"]
    assert ENGLISH.join_clauses(["a", "b"]) == "a, and b"
    assert [CHINESE.join_names(list("甲乙丙")[:n]) for n in (1, 2, 3)] == ["甲", "甲和乙", "甲、乙和丙"]
    assert CHINESE.join_clauses(["甲", "乙"]) == "甲，乙"


def test_clues_of_one_relation_share_a_list_whatever_their_type():
    told = [
        Told((("has_symptom", "out"),), "fever", "symptom"),
        Told((("caused_by", "out"),), "HFE", "gene"),
        Told((("has_symptom", "out"),), "jaundice", "disease"),
        Told((("caused_by", "out"),), "smoking", "risk_factor"),
    ]
    assert clauses(told, ENGLISH) == [
        "presents with fever and jaundice",
        "results from changes in HFE",  # a gene has phrases of its own
        "is due to smoking",
    ]
    assert clauses(told[:1], CHINESE, start=1) == ["常出现fever"]


def test_a_path_is_one_phrase_from_the_entity_outwards():
    path = (("treated_with_drug", "in"), ("has_symptom", "out"))
    assert clauses([Told(path, "tremor")], ENGLISH) == ["is used to treat a disease that is marked by tremor"]
    assert clauses([Told(path, "震颤")], CHINESE) == ["可用于治疗常出现震颤的疾病"]
    longer = (("in_drug_class", "in"), *path)
    (text,) = clauses([Told(longer, "tremor")], ENGLISH)
    assert text.startswith("includes a drug that") and text.endswith("tremor")


@pytest.mark.parametrize("start", range(6))
def test_a_description_stands_at_the_end_of_the_phrase_that_holds_it(start):
    path = (("in_drug_class", "in"), ("treated_with_drug", "in"), ("has_lab_finding", "out"))
    (text,) = clauses([Told(path, "low iron")], ENGLISH, start=start)
    assert text.count("among its") <= 1


def test_the_entity_is_named_where_a_clue_has_no_path():
    assert name_told([Told((("has_sign", "out"),), "rash"), Told((), "gout")]) == "gout"
    assert name_told([Told((("has_sign", "out"),), "rash")]) is None
    assert clauses([Told((), "gout")], ENGLISH) == []


def test_between_two_steps_the_schema_says_what_stands():
    assert type_between(("treated_with_drug", "out"), ("has_side_effect", "out")) == "drug"
    assert type_between(("has_symptom", "in"), ("caused_by", "out")) == "disease"
    assert type_between(("caused_by", "out"), ("targets", "in")) == "thing"
    assert type_between(("differential_of", "out"), ("has_sign", "out")) == "disease"


def test_choosing_avoids_what_it_can():
    options = phrases(["which disease", "which condition", "which illness"])
    assert choose(options, 4) == "which condition"  # around the end
    assert choose(options, 3, marks("Wilson disease")) == "which condition"
    assert choose(options, 0, marks("disease condition illness"), marks("disease of condition")) == "which illness"
    assert choose(options[:2], 0, marks("disease condition"), marks("disease")) == "which condition"
    # Nothing is free of the last: what shares least with it.
    many = phrases(["disease condition", "condition"])
    assert choose(many, 0, marks("disease condition")) == "condition"
