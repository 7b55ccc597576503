import json

import pytest


def row(**change):
    return {
        "graph_idx": 12,
        "question": "Which test comes first?",
        "choices": "A. an x-ray\nB. a blood count\nC. a biopsy\nD. none",
        "answer": "B",
        **change,
    }


@pytest.mark.parametrize(
    "choices",
    [
        row()["choices"],
        "A. an x-ray B. a blood count C. a biopsy D. none",
        {"A": "an x-ray", "B": "a blood count", "C": "a biopsy", "D": "none"},
        ["an x-ray", "a blood count", "a biopsy", "none"],
    ],
)
def test_choices(imported, choices):
    (item,), _ = imported("medkgqa", row(choices=choices))
    assert item.options == {"A": "an x-ray", "B": "a blood count", "C": "a biopsy", "D": "none"}
    assert (item.answer, item.lang, item.meta) == ("B", "en", {"graph_idx": 12, "flags": ["none_option"]})


def test_a_graph_gives_several_items_in_both_languages(imported):
    items, _ = imported("medkgqa", row(), row(question="首选哪项检查？", choices="A. 血常规\nB. 活检", answer=" a "))
    assert [item.lang for item in items] == ["en", "zh"] and items[1].answer == "A"
    assert len({item.id for item in items}) == 2 and items[0].meta["graph_idx"] == items[1].meta["graph_idx"]


def test_the_subgraphs_are_not_read(tmp_path, imported):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "MedKgQA_en.jsonl").write_text(json.dumps(row()))
    (folder / "MedKgQA_graph.jsonl").write_text('{"graph_idx": 12, "nodes": [], "edges": []}\n')
    items, report = imported("medkgqa", source=folder)
    assert len(items) == 1 and set(report.ignored) == {"MedKgQA_graph.jsonl"}


def test_unknown_keys_are_listed(tmp_path, refused):
    (tmp_path / "file").write_text(json.dumps([{"Question": "?", "Choices": "A. x", "Answer": "A", "cot": ""}]))
    refused("medkgqa", "no layout of medkgqa .*the keys found are: Answer, Choices, Question, cot", tmp_path / "file")


def test_choices_that_cannot_be_told_apart_drop_the_row(imported):
    items, report = imported("medkgqa", row(), row(choices="an x-ray or a blood count"), row(answer="an x-ray"))
    assert len(items) == 1 and [drop.row for drop in report.dropped] == [2, 3]
