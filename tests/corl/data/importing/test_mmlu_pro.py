import json

import pytest


def row(k, **change):
    return {
        "question_id": k,
        "question": f"Which gene is number {k}?",
        "options": ["Bb bb", "bb bb", "N/A", "None"],
        "answer": "B",
        "answer_index": 1,
        "cot_content": "",
        "category": "biology",
        "src": "made-up",
        **change,
    }


ROWS = [row(1), row(2, category="health"), row(3, category="law", options=["x"] * 10, answer="J", answer_index=9)]


@pytest.mark.parametrize(("category", "ids"), [(None, [1, 2, 3]), ("health", [2]), ("Biology ", [1]), ("law", [3])])
def test_all_rows_or_a_category(imported, category, ids):
    items, report = imported("mmlu_pro", *ROWS, category=category)
    assert [item.id for item in items] == [f"mmlu_pro:{k}" for k in ids]
    assert (report.read, report.written, report.not_selected) == (3, len(ids), 3 - len(ids))


def test_an_item(imported):
    (item, *_, last), _ = imported("mmlu_pro", *ROWS)
    assert item.options == {"A": "Bb bb", "B": "bb bb", "C": "N/A", "D": "None"} and item.answer == "B"
    assert item.meta == {"category": "biology", "src": "made-up", "flags": ["none_option"]}
    assert last.answer == "J" and last.meta["flags"] == ["duplicate_options"]


def test_a_category_that_is_not_there(tmp_path, refused):
    (tmp_path / "source").write_text(json.dumps(ROWS))
    refused(
        "mmlu_pro",
        "category='medicine' is not there; the source has biology, health, law",
        tmp_path / "source",
        category="medicine",
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"answer": "E", "answer_index": 4}, "no usable gold ('E' names no option)"),
        ({"answer_index": 0}, "no usable gold (answer is B, answer_index 0)"),
        ({"answer": None, "answer_index": None}, "no usable gold (None names no option)"),
        ({"options": []}, "fewer than two options (0)"),
        ({"options": None}, "fewer than two options (0)"),
    ],
)
def test_rows_that_are_dropped(imported, change, reason):
    items, report = imported("mmlu_pro", row(1), row(2, **change))
    assert len(items) == 1 and [(drop.row, drop.reason) for drop in report.dropped] == [(2, reason)]


@pytest.mark.parametrize("options", ["one, two", [["x"], ["y"]], {"A": "x", "B": "y"}, 3])
def test_options_of_another_shape_are_refused(tmp_path, refused, options):
    (tmp_path / "source").write_text(json.dumps([row(1), row(2, options=options)]))
    refused("mmlu_pro", "row 2: no layout of mmlu_pro", tmp_path / "source")
