import json

import pytest

from corl.data.importing import DATASETS, import_dataset
from corl.data.items import read_items


def medqa_row(**change):
    return {"question": "Which?", "options": {"A": "w", "B": "x"}, "answer_idx": "A", "answer": "w", **change}


def write_rows(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_report_lies_beside_the_items(tmp_path):
    source = write_rows(tmp_path / "source", medqa_row(id=1), medqa_row(id=2, answer_idx=None))
    report = import_dataset("medqa", source, tmp_path / "out" / "items.jsonl")
    assert [item.id for item in read_items(tmp_path / "out" / "items.jsonl")] == ["medqa:1"]
    assert json.loads((tmp_path / "out" / "items.jsonl.report.json").read_text()) == {
        "read": 2,
        "written": 1,
        "dropped": [{"row": 2, "id": "medqa:2", "reason": report.dropped[0].reason}],
        "repaired": [],
        "not_selected": 0,
        "files": {str(source): 2},
        "ignored": {},
    }


@pytest.mark.parametrize(
    ("name", "rows", "choices", "said"),
    [
        ("nosuch", [medqa_row()], {}, "unknown set 'nosuch'; known are medqa, medmcqa, pubmedqa"),
        ("medqa", [medqa_row()], {"category": "x", "cop_base": 0}, "medqa has no choice of category, cop_base"),
        ("medqa", [medqa_row()], {"split": "test"}, "source is one file and has no splits; leave split=test out"),
        *[
            (name, [{"alpha": 1, "beta": "x"}], {}, f"no layout of {name} that is known .*keys found are: alpha, beta$")
            for name in DATASETS
        ],
        (
            "medqa",
            [medqa_row(), medqa_row(question="")],
            {"strict": True},
            "2 rows read, 1 dropped.*row 2.*no question",
        ),
        ("medqa", [medqa_row(question="")], {}, "no row of medqa survives .*no question"),
        ("medqa", [{"opa": "x", "cop": 1}], {}, "the keys found are: cop, opa"),
        ("medqa", [medqa_row(), medqa_row(options={"1": "x"})], {}, "row 2: no layout of medqa"),
        ("medqa", [medqa_row(), [1]], {}, "row 2: no layout of medqa"),
        ("pubmedqa", [medqa_row(), medqa_row()], {}, "the keys found are: answer, answer_idx, options, question"),
    ],
)
def test_nothing_is_written_when_the_call_or_the_source_is_wrong(tmp_path, name, rows, choices, said):
    source = write_rows(tmp_path / "source", *rows)
    with pytest.raises(ValueError, match=said):
        import_dataset(name, source, tmp_path / "items.jsonl", **choices)
    assert [entry.name for entry in tmp_path.iterdir()] == ["source"]


def test_the_source_is_never_overwritten(tmp_path):
    source = write_rows(tmp_path / "source", medqa_row())
    with pytest.raises(ValueError, match="is the source itself"):
        import_dataset("medqa", source, tmp_path / "." / "source")
    assert json.loads(source.read_text()) == medqa_row()


def test_a_place_without_room_for_the_report_gets_no_items(tmp_path):
    source = write_rows(tmp_path / "source", medqa_row())
    (tmp_path / "items.jsonl.report.json").mkdir()
    with pytest.raises(ValueError, match="items.jsonl.report.json is a folder"):
        import_dataset("medqa", source, tmp_path / "items.jsonl")
    assert not (tmp_path / "items.jsonl").exists()


def test_half_a_character_is_refused_before_anything_is_written(tmp_path):
    source = write_rows(tmp_path / "source", medqa_row(), medqa_row(question="\ud800?"))
    with pytest.raises(ValueError, match="is not JSON .*surrogates not allowed"):
        import_dataset("medqa", source, tmp_path / "items.jsonl")
    assert [entry.name for entry in tmp_path.iterdir()] == ["source"]


def test_a_row_of_ten_megabytes(tmp_path):
    long = "a fever " * 1_300_000
    source = write_rows(tmp_path / "source", medqa_row(question=long), medqa_row())
    assert import_dataset("medqa", source, tmp_path / "items.jsonl").written == 2
    assert read_items(tmp_path / "items.jsonl")[0].question == long.strip()
