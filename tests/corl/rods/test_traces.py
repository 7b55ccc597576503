"""Traces show the asked path, and grading accepts every one of them."""

from dataclasses import replace

import pytest

from corl.data.items import Item
from corl.grading import grade
from corl.rods.embedded_items import embedded_items
from corl.rods.traces import templated_trace, trace

ITEMS = embedded_items(5, train=8, dev=0, held_out=0).train
PUBLISHED = Item(
    "pubmedqa:1",
    "pubmedqa",
    "en",
    "An abstract.",
    "Does it help?",
    {"A": "yes", "B": "no", "C": "maybe"},
    "B",
    None,
    {},
)
CHINESE = Item(
    "cmexam:1", "cmexam", "zh", None, "首选药物是", {"A": "阿莫西林", "B": "甲硝唑"},
    "A,B", None, {},
)  # fmt: skip


@pytest.mark.parametrize("index", [0, 8, 16], ids=["1 hop", "2 hops", "3 hops"])
def test_a_trace_is_the_asked_path_and_the_options_up_to_the_answer(index):
    item = ITEMS[index]
    made = trace(item)
    path = " -> ".join(item.meta["path"])
    assert len(item.meta["path"]) == index // 8 + 2
    letters = "ABCD"[: "ABCD".index(item.answer) + 1]
    read = "".join(f"\n{letter}. {item.options[letter]}" for letter in letters)
    assert made.completion == f"<think>{path}{read}</think>\n<answer>{item.answer}</answer>"
    assert (made.item, made.teacher, made.checks, made.label_conditioned) == (
        item, "embedded-graph", {"answer": True}, False,
    )  # fmt: skip


def test_a_template_restates_the_options_and_is_marked():
    made = templated_trace(PUBLISHED)
    assert "A. yes; B. no; C. maybe." in made.completion
    assert made.completion.endswith("is: B. no.</think>\n<answer>B</answer>")
    assert made.label_conditioned is True


def test_a_chinese_template_names_every_right_option():
    made = templated_trace(CHINESE)
    assert made.completion.endswith("：A. 阿莫西林；B. 甲硝唑。</think>\n<answer>A,B</answer>")
    assert "best" not in made.completion


def test_every_trace_is_graded_correct():
    for made in [*map(trace, ITEMS), *map(templated_trace, [*ITEMS, PUBLISHED, CHINESE])]:
        verdict = grade(made.completion, made.item.options, made.item.answer)
        assert (verdict.format_ok, verdict.correct) == (True, True), made.completion


def test_an_item_without_a_path_is_refused():
    with pytest.raises(ValueError, match="no meta"):
        trace(PUBLISHED)


def test_a_path_that_contradicts_the_answer_is_refused():
    item = ITEMS[0]
    with pytest.raises(ValueError, match="the path ends at"):
        trace(replace(item, answer="A" if item.answer != "A" else "B"))
