import csv
import io
import json

import pytest

NAMES = ["Question", "Options", "Answer", "Explanation", "Medical Discipline"]


def row(k=1, options="A 发热\nB 头痛 头晕\nC 皮疹\nD 以上都对\nE ", answer="B"):
    return [f"第{k}题，患者最先出现的症状是", options, answer, "见教材。", "内科"]


def as_table(*rows):
    text = io.StringIO(newline="")
    csv.writer(text).writerows([NAMES, *rows])
    return text.getvalue()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_encodings_and_separators(tmp_path, imported, encoding, newline):
    options = "A 发热\nB 头痛 头晕\nC 皮疹\nD NA"
    (tmp_path / "file").write_bytes(as_table(row(options=options.replace("\n", newline))).encode(encoding))
    (item,), report = imported("cmexam", source=tmp_path / "file")
    assert item.options == {"A": "发热", "B": "头痛 头晕", "C": "皮疹", "D": "NA"}
    assert (item.answer, item.lang, item.question) == ("B", "zh", "第1题，患者最先出现的症状是")
    assert not report.repaired


@pytest.mark.parametrize(("answer", "gold"), [("ACD", "A,C,D"), ("DA", "A,D"), ("B", "B"), ("A,C", "A,C"), ("Ｂ", "B")])
def test_several_answers(tmp_path, imported, answer, gold):
    (tmp_path / "file").write_text(as_table(row(answer=answer)))
    (item,), report = imported("cmexam", source=tmp_path / "file")
    assert item.answer == gold
    assert [repair.change[:20] for repair in report.repaired] == ["option E has no text"]


def test_rows_that_are_dropped(tmp_path, imported):
    rows = [
        row(1),
        row(2, answer=""),
        row(3, answer="F"),
        row(4, options="无"),
        row(5, options=""),
        row(6, answer="nan"),
    ]
    (tmp_path / "file").write_text(as_table(*rows))
    items, report = imported("cmexam", source=tmp_path / "file")
    assert len(items) == 1 and [drop.row for drop in report.dropped] == [2, 3, 4, 5, 6]


def test_the_hubs_copy(tmp_path, imported):
    options = [{"key": letter, "value": text} for letter, text in zip("ABC", ["甲", "乙", "丙"], strict=True)]
    (tmp_path / "file").write_text(json.dumps([{"Question": "哪个？", "Options": options, "Answer": "C"}]))
    (item,), _ = imported("cmexam", source=tmp_path / "file")
    assert item.options == {"A": "甲", "B": "乙", "C": "丙"} and item.answer == "C"


def test_options_of_another_shape_are_refused(tmp_path, refused):
    (tmp_path / "file").write_text(json.dumps([{"Question": "哪个？", "Options": 3, "Answer": "C"}]))
    refused("cmexam", "row 1: no layout of cmexam", tmp_path / "file")
