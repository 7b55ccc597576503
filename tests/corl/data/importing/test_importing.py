import json

import pytest

from corl.data.importing import PLANNED, import_dataset
from corl.data.importing.rows import Row, items_from, read_json
from corl.data.items import read_items


def row(number, question="Which?", options=("w", "x", "y"), answer="B", **rest):
    return Row(number=number, question=question, options=list(options), answer=answer, **rest)


def test_rows_become_items_in_source_order_and_the_counts_add_up():
    rows = [
        row(1, native_id=7, context=" seen ", meta={"part": 1}),
        row(2, question="  "),
        row(3, selected=False),
        row(4, options=["w", None, " "]),
        row(5, answer="D"),
        row(6, answer=None),
        row(7, bad_gold="two golds"),
        row(8, question=" Why? ", options=[" w ", "x"], answer="A,B", lang="zh"),
    ]
    items, report = items_from("toy", rows)
    assert [(item.id, item.context, item.question, item.lang) for item in items] == [
        ("toy:7", "seen", "Which?", "en"),
        (items[1].id, None, "Why?", "zh"),
    ]
    assert items[0].meta == {"part": 1, "flags": []}
    assert (items[1].options, items[1].answer) == ({"A": "w", "B": "x"}, "A,B")
    assert (report.read, report.written, report.not_selected, report.repaired) == (8, 2, 1, ())
    assert [(drop.row, drop.reason) for drop in report.dropped] == [
        (2, "no question"),
        (4, "fewer than two options (1)"),
        (5, "no usable gold ('D' names no option)"),
        (6, "no usable gold (None names no option)"),
        (7, "no usable gold (two golds)"),
    ]
    assert all(drop.id.startswith("toy:") for drop in report.dropped)


@pytest.mark.parametrize(
    ("options", "answer", "expected", "gold", "changes"),
    [
        (["w", "x", None], "B", {"A": "w", "B": "x"}, "B", ["option C has no text"]),
        (["w", " ", "y", "z"], "A,D", {"A": "w", "B": "y", "C": "z"}, "A,C", ["option B has no text"]),
        (["w", float("nan"), "y"], "C", {"A": "w", "B": "y"}, "B", ["option B has no text"]),
        (["w", 2, 0.5], "C", {"A": "w", "B": "2", "C": "0.5"}, "C", ["option B is a number", "option C is a number"]),
    ],
)
def test_an_option_without_text_goes_and_the_gold_moves_with_its_option(options, answer, expected, gold, changes):
    (item,), report = items_from("toy", [row(4, options=options, answer=answer)])
    assert (item.options, item.answer) == (expected, gold)
    assert [(repair.row, repair.id) for repair in report.repaired] == [(4, item.id)] * len(changes)
    assert all(repair.change.startswith(said) for repair, said in zip(report.repaired, changes, strict=True))


def test_gold_on_an_option_without_text_is_no_gold():
    items, report = items_from("toy", [row(1, options=["w", "x", ""], answer="C")])
    assert not items and report.dropped[0].reason == "no usable gold ('C' names no option)"


def test_flags_list_what_is_kept():
    rows = [
        row(1, options=["w", "w ", "y"], answer="C"),
        row(2, options=["None", "x"]),
        row(3, question="Another?", options=["none", "None"]),
        row(4, question="Another?", context="of another patient", options=["a None", "W", "w"]),
    ]
    flags = [item.meta["flags"] for item in items_from("toy", rows)[0]]
    repeated = "repeated_stem"
    assert flags == [["duplicate_options", repeated], [repeated, "none_option"], ["none_option"], []]


def test_ids_are_native_or_a_digest_and_repeats_are_numbered():
    rows = [row(1, native_id=0), row(2, native_id="0"), row(3, native_id="0-2"), row(4), row(5), row(6, answer="A")]
    rows += [row(7, options=["w", "x", "z"]), row(8, native_id=float("nan"), question="Other?")]
    ids = [item.id for item in items_from("toy", rows)[0]]
    assert ids[:3] == ["toy:0", "toy:0-2", "toy:0-2-2"]
    digest = ids[3].removeprefix("toy:")
    assert len(digest) == 16 and int(digest, 16)
    assert ids[4:6] == [f"toy:{digest}-2", f"toy:{digest}-3"]  # the gold is no part of an id
    assert len(set(ids)) == len(ids)
    assert ids[3] == items_from("toy", [row(1)])[0][0].id


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"a": 1}\n\n{"a": 2}\n', [{"a": 1}, {"a": 2}]),
        ('[{"a": 1},\n {"a": 2}]', [{"a": 1}, {"a": 2}]),
        ('\ufeff{\n "k": {"a": 1}\n}', {"k": {"a": 1}}),
        ('{"a": "x\u2028y"}\n{"a": NaN}', None),
    ],
)
def test_json_is_read_by_its_content(tmp_path, content, expected):
    (tmp_path / "file.csv").write_text(content, encoding="utf-8")
    found = read_json(tmp_path / "file.csv")
    assert found == expected if expected else found[0]["a"] == "x\u2028y"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b'{"a": 1}\n{"a"\n', "line 2: not JSON"),
        (b"<html>", "line 1: not JSON"),
        (b"\xff", "not UTF-8"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, content, said):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match=f"file.*{said}"):
        read_json(tmp_path / "file")
    with pytest.raises(ValueError, match="cannot be read"):
        read_json(tmp_path)


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
    }


@pytest.mark.parametrize(
    ("name", "rows", "choices", "said"),
    [
        ("nosuch", [medqa_row()], {}, "unknown set 'nosuch'; known are medqa, pubmedqa, medmcqa"),
        *[(name, [medqa_row()], {}, f"importing {name} is not yet possible; there is medqa") for name in PLANNED],
        ("medqa", [medqa_row()], {"split": "test", "cop_base": 0}, "medqa has no choice of cop_base, split"),
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
