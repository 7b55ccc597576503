import json
from pathlib import Path

import pytest

from corl.data.importing import import_dataset
from corl.data.items import read_items

REAL = Path(__file__).parents[5] / "shared" / "data"
FIVE = {
    "question": " A child limps after a fall. Which bone is broken?",
    "answer": "Tibia",
    "options": {"E": "Ulna", "A": "Femur ", "B": "Tibia", "C": "Fibula", "D": "None"},
    "meta_info": "step1",
    "answer_idx": "B",
    "metamap_phrases": ["child"],
}
CUT = {
    "id": 3,
    "question": "Which nerve is hurt?",
    "context": ["A man cannot lift his foot.", "He fell."],
    "context_len": 2,
    "options": {"A": "Ulnar", "B": "Peroneal", "C": "Median", "D": "Radial"},
    "answer": "Peroneal",
    "answer_idx": "B",
    "explanation": "",
    "facts": ["1. He is a man."],
}


def imported(tmp_path, *rows, array=False):
    source = tmp_path / "rows.txt"
    source.write_text(json.dumps(rows) if array else "".join(json.dumps(row) + "\n" for row in rows))
    report = import_dataset("medqa", source, tmp_path / "items.jsonl")
    return read_items(tmp_path / "items.jsonl"), report


@pytest.mark.parametrize("array", [False, True])
def test_both_layouts(tmp_path, array):
    (five, cut), report = imported(tmp_path, FIVE, CUT, array=array)
    assert five.question == "A child limps after a fall. Which bone is broken?"
    assert five.options == {"A": "Femur", "B": "Tibia", "C": "Fibula", "D": "None", "E": "Ulna"}
    assert (five.context, five.answer, five.lang, five.source) == (None, "B", "en", "medqa")
    assert five.meta == {"meta_info": "step1", "flags": ["none_option"]}
    assert len(five.id) == len("medqa:") + 16
    assert cut.id == "medqa:3" and cut.context is None and cut.answer == "B" and cut.meta == {"flags": []}
    assert cut.question == "A man cannot lift his foot. He fell. Which nerve is hurt?"
    assert (report.read, report.written, report.repaired) == (2, 2, ())


def test_a_lone_row_is_a_file(tmp_path):
    assert [item.id for item in imported(tmp_path, CUT)[0]] == ["medqa:3"]


def test_a_missing_letter_closes_up_and_the_gold_follows(tmp_path):
    (item,), report = imported(
        tmp_path, {**CUT, "options": {"A": "Ulnar", "C": "Median", "D": "Peroneal"}, "answer_idx": "D"}
    )
    assert (item.options, item.answer) == ({"A": "Ulnar", "B": "Median", "C": "Peroneal"}, "C")
    assert [(repair.row, repair.id) for repair in report.repaired] == [(1, "medqa:3")]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"question": None}, "no question"),  # sentences alone are no question
        ({"question": " "}, "no question"),
        ({"options": None}, "fewer than two options (0)"),
        ({"options": {"A": "Ulnar"}, "answer_idx": "A", "answer": "Ulnar"}, "fewer than two options (1)"),
        ({"answer_idx": "E"}, "no usable gold ('E' names no option)"),
        ({"answer_idx": None}, "no usable gold (None names no option)"),
        ({"answer_idx": ""}, "no usable gold ('' names no option)"),
        ({"answer_idx": 1}, "no usable gold (1 names no option)"),
        ({"answer_idx": "C"}, "no usable gold (answer_idx is C, but answer is the text of another option)"),
    ],
)
def test_rows_that_are_dropped(tmp_path, change, reason):
    items, report = imported(tmp_path, {**CUT, **change}, {**CUT, "id": 4})
    assert [item.id for item in items] == ["medqa:4"]
    assert [(drop.row, drop.id, drop.reason) for drop in report.dropped] == [(1, "medqa:3", reason)]


@pytest.mark.parametrize(
    "change",
    [
        {"answer": "D", "answer_idx": "D", "options": {"A": "B", "B": "C", "C": "D", "D": "E"}},
        {"answer": "E", "answer_idx": "D", "options": {"A": "B", "B": "C", "C": "D", "D": "E"}},
        {"answer": "Peroneal nerve"},
        {"answer": None},
        {"answer_idx": " B "},
    ],
)
def test_an_answer_text_that_contradicts_nothing_keeps_the_row(tmp_path, change):
    (item,), _ = imported(tmp_path, {**CUT, **change})
    assert item.answer == change.get("answer_idx", "B").strip()


@pytest.mark.parametrize(
    "change", [{"options": ["x", "y"]}, {"options": {"a": "x", "b": "y"}}, {"context": "one text"}]
)
def test_other_layouts_are_refused(tmp_path, change):
    with pytest.raises(ValueError, match="row 1: no layout of medqa that is known"):
        imported(tmp_path, {**CUT, **change})


@pytest.mark.parametrize(
    ("file", "count"), [("medqa_dev/all_dev_good.jsonl", 1272), ("medqa/phrases_no_exclude_test.jsonl", 300)]
)
def test_the_real_files(tmp_path, file, count):
    if not (REAL / file).is_file():
        pytest.skip("the real sets are not here")
    rows = [json.loads(line) for line in (REAL / file).read_text(encoding="utf-8").splitlines()]
    report = import_dataset("medqa", REAL / file, tmp_path / "items.jsonl", strict=True)
    items = read_items(tmp_path / "items.jsonl")
    assert (report.read, report.written, len(items), report.repaired) == (count, count, count, ())
    for row, item in zip(rows, items, strict=True):
        assert item.answer == row["answer_idx"] and item.options[item.answer] == row["answer"].strip()
        assert item.question.endswith(row["question"].strip())
        assert all(sentence.strip() in item.question for sentence in row.get("context", []))
        assert list(item.options.values()) == [row["options"][letter].strip() for letter in "ABCD"]
