"""What a completion has to be before it is imitated."""

from dataclasses import replace

import pytest

from corl.data.items import Item
from corl.rods.cot.checks import Bounds, check_completion
from corl.rods.cot.checks.style import find_names, has_marker, in_language, leak_phrases, repetition

OPTIONS = {"A": "penicillamine", "B": "propranolol", "C": "levodopa"}
ITEM = Item(
    "i", "s", "en", None, "Tremor and a corneal ring. Which drug?", OPTIONS, "A", None, {"masked": ["Wilson disease"]}
)
THOUGHT = (
    "A corneal ring with tremor suggests Wilson disease, a failure of copper excretion. Propranolol would calm an "
    "essential tremor but leaves copper where it is. A chelator is what the disorder needs, assuming no pregnancy."
)
ZH = replace(ITEM, lang="zh", question="震颤伴角膜环，选用何药？")
ZH_THOUGHT = (
    "角膜环合并震颤提示肝豆状核变性，即铜排泄障碍。普萘洛尔只能缓解原发性震颤，并不能清除铜，因此不符。"
    "假设患者没有怀孕，应使用螯合剂。"
)


def failed(completion: str, item: Item = ITEM, **keywords) -> list[str]:
    return check_completion(item, completion, Bounds(), **keywords)["failed"]


def test_a_sound_completion_passes(written) -> None:
    checks = check_completion(ITEM, written("A", THOUGHT), Bounds())
    assert checks["passed"] and checks["failed"] == [] and checks["marker"] is True
    assert checks["bridges"] == {"named": ["Wilson disease"], "missing": []}


@pytest.mark.parametrize(
    ("letter", "thought", "reason"),
    [
        ("B", THOUGHT, "answer"),
        ("A or B", THOUGHT, "answer"),
        ("A", THOUGHT + " 2 + 2 = 5.", "arithmetic"),
        ("A", THOUGHT + " That is 500 mg = 5 g.", "units"),
        ("A", THOUGHT + " As the given answer says.", "leak"),
        ("A", ZH_THOUGHT + "Wilson disease", "language"),
        ("A", "Wilson disease.", "length"),
        ("A", THOUGHT * 30, "length"),
        ("A", THOUGHT * 3, "repetition"),
        ("A", THOUGHT + "\ufffd", "encoding"),
        ("A", THOUGHT.replace("Wilson disease", "this disease"), "bridges"),
        ("A", THOUGHT + "</think> <think>x", "format"),
    ],
)
def test_each_fault_is_found(written, letter, thought, reason) -> None:
    assert reason in failed(written(letter, thought))


def test_without_tags_the_format_fails_and_the_text_is_checked_all_the_same() -> None:
    assert failed(f"{THOUGHT} 2 + 2 = 5. <answer>A</answer>") == ["format", "arithmetic"]


def test_masked_nodes_are_known_by_every_name(written) -> None:
    other = THOUGHT.replace("Wilson disease", "hepatolenticular degeneration")
    assert failed(written("A", other)) == ["bridges"]
    assert failed(written("A", other), names={"Wilson disease": ("hepatolenticular degeneration",)}) == []
    # Nothing says what a node is called in Chinese: not checked; the item or a graph does: checked.
    assert "bridges" not in check_completion(ZH, written("A", ZH_THOUGHT), Bounds())
    assert failed(written("A", ZH_THOUGHT), ZH, names={"Wilson disease": ("肝豆状核变性",)}) == []
    assert failed(written("A", ZH_THOUGHT), ZH, names={"Wilson disease": ("血色病",)}) == ["bridges"]
    said = replace(ZH, meta=ZH.meta | {"surfaces": {"Wilson disease": "肝豆状核变性"}})
    assert failed(written("A", ZH_THOUGHT), said) == []
    assert failed(written("A", ZH_THOUGHT.replace("肝豆状核", "某种")), said) == ["bridges"]


def test_enough_of_the_masked_nodes_is_enough(written) -> None:
    item = replace(ITEM, meta={"masked": ["Wilson disease", "copper", "essential tremor", "gout", "lupus"]})
    assert failed(written("A", THOUGHT), item) == []
    assert failed(written("A", THOUGHT.replace("essential ", "")), item) == ["bridges"]


@pytest.mark.parametrize(
    "text",
    [
        "The given answer is B.",
        "as labelled, B",
        "According to the answer key",
        "We are told that the correct option is B",
        "the answer is given as B",
        "my previous attempt",
        "the previous answer was wrong",
        "Since the answer must be B",
        "正确答案已给出",
        "根据给定的答案",
        "参考答案为B",
        "上一次的回答有误",
        "题目已给出正确答案",
        "the reviewer wants",
    ],
)
def test_leak_phrases(text: str) -> None:
    assert leak_phrases(f"Hence, {text}, so B")


@pytest.mark.parametrize(
    "text",
    [
        "The correct answer is B.",
        "The answer is therefore B",
        "negative feedback lowers TSH; the feedback loop is intact",
        "the first response to therapy",
        "the drug label",
        "a given option of treatment",
        "因此正确答案是B",
        "故选B，答案为B",
        "提示肝豆状核变性",
    ],
)
def test_phrases_of_ordinary_reasoning(text: str) -> None:
    assert leak_phrases(text) == []


def test_language_by_its_letters() -> None:
    assert in_language(THOUGHT, "en") and not in_language(THOUGHT, "zh")
    assert in_language(ZH_THOUGHT, "zh-CN") and not in_language(ZH_THOUGHT, "en")
    assert in_language(ZH_THOUGHT + "ATP7B, D-penicillamine, MRI", "zh")
    assert in_language(THOUGHT, "de") is None


def test_repetition_counts_what_stood_before() -> None:
    assert repetition(THOUGHT) == 0 and repetition(ZH_THOUGHT) == 0
    assert repetition(THOUGHT * 2) > 0.4 and repetition(ZH_THOUGHT * 2) > 0.4


def test_markers() -> None:
    assert has_marker("It is probably B") and has_marker("这可能是B")
    assert not has_marker("It is B") and not has_marker("就是B")


def test_names_are_found_as_whole_words() -> None:
    assert find_names("Two gouts and ATP7B", ["gout"]) and find_names("患痛风。", ["痛风"])
    assert not find_names("a gouty joint", ["gout"]) and not find_names("nougout", ["gout"])


def test_bounds_are_checked() -> None:
    with pytest.raises(ValueError, match="FEWEST:MOST"):
        Bounds(fewest_words=9, most_words=3)
