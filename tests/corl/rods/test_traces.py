"""Traces show the asked path, and grading accepts every one of them."""

from dataclasses import replace

import pytest

from corl.cli import main
from corl.data.items import Item, read_traces, write_items
from corl.grading import grade
from corl.rods.embedded_items import embedded_items
from corl.rods.traces import distilled, templated_trace, trace

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


def test_each_item_gets_the_best_trace_it_has_the_facts_for():
    proven = replace(
        PUBLISHED,
        id="rods:g:1",
        meta={
            "shape": "star", "clues": [{"path": [["has_symptom", "out"]], "node": "cough"}], "asked": None,
            "excluded": None, "contrast": None, "masked": [], "path": ["no", "longer read"],
            "option_nodes": {"A": "yes", "B": "no", "C": "maybe"},
            "options_evidence": {"A": {"shared": [], "violated": [0], "via": None}},
        },
    )  # fmt: skip
    assert [made.teacher for made in distilled([proven, ITEMS[0], PUBLISHED])] == [
        "proof", "embedded-graph", "template",
    ]  # fmt: skip


def test_the_command_writes_them_or_nothing(tmp_path, capsys):
    items, out = tmp_path / "items.jsonl", tmp_path / "traces.jsonl"
    write_items(items, [PUBLISHED, ITEMS[0]])
    main(["rods", "distill", str(items), "--out", str(out)])
    assert read_traces(out) == list(distilled([PUBLISHED, ITEMS[0]]))
    before = out.read_bytes()
    write_items(items, [ITEMS[0], replace(PUBLISHED, meta={"shape": "star"})])
    with pytest.raises(SystemExit) as stopped:
        main(["rods", "distill", str(items), "--out", str(out)])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith("error: item 'pubmedqa:1'")
    assert out.read_bytes() == before


def test_a_broken_proof_is_no_template():
    with pytest.raises(ValueError, match="pubmedqa:1"):
        list(distilled([replace(PUBLISHED, meta={"shape": "star"})]))
