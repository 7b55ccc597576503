"""What of a list is an entity: the traps of links, parentheses, labels, stop words and list syntax."""

import pytest

from corl.rods.extraction.box import BREAK
from corl.rods.extraction.list_items import ListItem, convert_variants, split_list


def targets(value: str, subject: str = "") -> list[str]:
    return [item.target for item in split_list(value, subject=subject) if item.target]


def texts(value: str, subject: str = "") -> list[str]:
    return [item.text for item in split_list(value, subject=subject)]


def test_a_link_inside_a_phrase_is_not_the_object() -> None:
    (item,) = split_list("Failure to make vandol after [[sunrise]]")
    assert (item.text, item.target) == ("Failure to make vandol after sunrise", "")
    assert targets("[[Moxin]] therapy, low [[glarn pressure]]") == []


@pytest.mark.parametrize(
    ("value", "target", "whole"),
    [
        ("[[Glarn]]", "Glarn", True),
        ("[[moxin]]s", "Moxin", True),
        ("''[[Vibbela (genus)|Vibbela]]'' (a type of [[wort]])", "Vibbela (genus)", True),
        ("[[Spleel]] ([[CYX3]]-mediated)", "Spleel", True),
        ("Routine [[glarn test]]", "Glarn test", False),
        ("severe [[glarn]]", "Glarn", False),
    ],
)
def test_whole_items_are_links_and_a_word_of_degree_makes_them_weak(value: str, target: str, whole: bool) -> None:
    (item,) = split_list(value)
    assert (item.target, item.whole) == (target, whole)


def test_adjacent_links_are_one_thing() -> None:
    (item,) = split_list("[[Zeta-1 receptor|\u03b61 receptor]] [[receptor antagonist|blocker]]")
    assert (item.text, item.target) == ("\u03b61 receptor blocker", "")


def test_parentheses_explain_or_abbreviate() -> None:
    assert split_list("[[Glarnic vandol hyperplasia]] (GVH)") == [
        ListItem("Glarnic vandol hyperplasia", "Glarnic vandol hyperplasia", True, "GVH")
    ]
    assert split_list("Weak defence ([[Zed/Yed]])")[0] == ListItem("Weak defence")
    assert texts("Rho(D) glarn globulin, glarn (old, rare)") == ["Rho(D) glarn globulin", "glarn"]


def test_an_article_about_the_subject_is_not_its_cause() -> None:
    assert targets("[[Heritability of glarnism|Genetic]] factors, [[Causes of glarnism|toxic]]", "Glarnism") == []
    assert targets("[[Vandolism]]", "Glarnism") == ["Vandolism"]


@pytest.mark.parametrize(
    "nothing",
    ["None", "'''Mother''': None", "Unknown", "Variable", "others", "Usually none", "Initially none",
     "Often unknown", "Various", "N/A",
     "Based on symptoms", "Depends on the cause", "Other causes", "no known cure", "Varies by type", "[[None]]"],
)  # fmt: skip
def test_words_that_name_nothing(nothing: str) -> None:
    dropped: list[str] = []
    assert split_list(nothing, dropped=dropped) == []
    assert len(dropped) == 1


def test_tests_behind_based_on_are_kept_when_they_are_links() -> None:
    assert texts("Based on symptoms, [[glarn test]]") == ["glarn test"]
    assert texts("Based on the history and [[glarn test]]") == []
    assert texts("Based on [[glarn test]] and [[vandol scan]]") == ["glarn test", "vandol scan"]


def test_labels_qualify() -> None:
    items = split_list(f"'''Baby''': [[Low glarn]], [[vandol]]{BREAK}'''Mother:''' [[moxin]]{BREAK}Late: wobble")
    assert [(item.text, item.note) for item in items] == [
        ("Low glarn", "Baby"), ("vandol", "Baby"), ("moxin", "Mother"), ("wobble", "Late")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("glarn, vandol; moxin", ["glarn", "vandol", "moxin"]),
        (f"glarn{BREAK}vandol{BREAK}{BREAK}moxin", ["glarn", "vandol", "moxin"]),
        ("White patches or glarn discharge, wobbly", ["White patches", "glarn discharge", "wobbly"]),
        ("Glarn, vandol, and moxin", ["Glarn", "vandol", "moxin"]),
        ("[[Glarn]] and [[vandol]]", ["Glarn", "vandol"]),
        ("[[Glarn, acute|Glarn]], vandol (old, new)", ["Glarn", "vandol"]),
        ("genetic and environmental factors", ["genetic and environmental factors"]),
        ("[[Glarn genetics|Genetic]] and environmental factors", ["Genetic and environmental factors"]),
        ("Pain in [[glarn]] and [[vandol]]", ["Pain in glarn and vandol"]),
        ("trouble seeing and hearing", ["trouble seeing and hearing"]),
        ("2,3-glarnol, 1,000 vandols a day", ["2,3-glarnol", "1,000 vandols a day"]),
        ("\u767c\u71d2\u3001\u54b3\u55fd\uff0c\u982d\u75db", ["\u767c\u71d2", "\u54b3\u55fd", "\u982d\u75db"]),
        ("glarn, which may last for days", ["glarn"]),
        ("glarn, a sentence that goes on for far too long to be the name of anything", ["glarn"]),
        ("[[NHS about \u00a310, glarn", ["glarn"]),
        ("[[File:Glarn.jpg]], [[:Category:Glarn]], [[es:Glarn]]", ["File:Glarn.jpg", "Category:Glarn", "es:Glarn"]),
        ("", []),
        ("...", []),
    ],
)
def test_list_syntax(value: str, expected: list[str]) -> None:
    assert texts(value) == expected


def test_no_link_to_other_namespaces_wikis_or_sections() -> None:
    assert (
        targets("[[File:Glarn.jpg]], [[:Category:Glarn]], [[es:Glarn]], [[wikt:glarn|glarn]], [[Glarn#Signs|x]]") == []
    )


def test_more_of_a_trouble_is_not_a_symptom_of_its_own() -> None:
    value = "Trouble with [[Social glarn|glarn]], [[Spoken vandol|verbal]] and [[wordless vandol]], and moxin"
    assert texts(value) == ["Trouble with glarn", "moxin"]


def test_chinese_variants_are_chosen() -> None:
    assert convert_variants("-{zh-hans:\u4fe1\u606f;zh-hant:\u8cc7\u8a0a}-\u7cfb") == "\u4fe1\u606f\u7cfb"
    assert convert_variants("-{\u4e00}-") == "\u4e00"
