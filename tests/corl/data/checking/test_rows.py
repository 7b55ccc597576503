import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corl.data.checking.rows import read_rows
from corl.data.items import read_items

GOOD = {
    "id": "own:1", "source": "own", "lang": "en", "context": None, "question": "Which tissue grows back?",
    "options": {"A": "Liver", "B": "Lens", "C": "Enamel"}, "answer": "A", "difficulty": None, "meta": {"split": "dev"},
}  # fmt: skip


def rows_of(folder: Path, *lines: bytes | dict):
    file = folder / "rows.jsonl"
    encoded = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    file.write_bytes(b"\n".join(encoded) + b"\n")
    return file, list(read_rows(file))


def test_a_good_row_has_no_finding_and_all_its_text(tmp_path: Path) -> None:
    _, [row] = rows_of(tmp_path, GOOD)
    assert row.findings == () and (row.line, row.id, row.source, row.split) == (1, "own:1", "own", "dev")
    assert (row.context, row.question, row.options) == ("", GOOD["question"], ("Liver", "Lens", "Enamel"))
    assert not row.several_right


@pytest.mark.parametrize(
    ("change", "reasons"),
    [
        ({"options": {"A": "Liver", "B": "Liver", "C": "Lens"}}, ["duplicate_options"]),
        ({"options": {"A": "Liver", "B": " Liver  ", "C": "Lens"}}, ["duplicate_options"]),
        ({"options": {"A": "Ｌiver", "B": "Liver"}}, ["duplicate_options"]),
        ({"options": {"A": "Bb bb", "B": "bb bb"}}, []),
        ({"options": {"A": "+", "B": "-"}}, []),
        ({"options": {"A": "Liver", "B": ""}}, ["empty_option"]),
        ({"options": {"A": "Liver", "B": "\t\n"}}, ["empty_option"]),
        ({"options": {"A": "Liver", "B": None}}, ["empty_option"]),
        ({"options": {"A": "", "B": ""}}, ["empty_option"]),
        ({"options": {"A": "Liver", "B": 5}}, ["not_an_item"]),
        ({"options": {"A": "Liver"}}, ["not_an_item"]),
        ({"options": {"A": "Liver", "C": "Lens"}}, ["not_an_item"]),
        ({"options": ["Liver", "Lens"]}, ["not_an_item"]),
        ({"options": {}}, ["not_an_item"]),
        ({"options": {chr(65 + k): f"t{k}" for k in range(27)}}, ["not_an_item"]),
        ({"answer": "D"}, ["bad_label"]),
        ({"answer": "a"}, ["bad_label"]),
        ({"answer": ""}, ["bad_label"]),
        ({"answer": None}, ["bad_label"]),
        ({"answer": 1}, ["bad_label"]),
        ({"answer": "B,A"}, ["bad_label"]),
        ({"answer": "A,A"}, ["bad_label"]),
        ({"answer": "A, B"}, ["bad_label"]),
        ({"answer": "A,C"}, []),
        ({"question": " "}, ["empty_question"]),
        ({"question": None}, ["empty_question"]),
        ({"question": 3}, ["not_an_item"]),
        ({"question": "pain \ufffd"}, ["encoding"]),
        ({"context": "&lt;5"}, ["encoding"]),
        ({"options": {"A": "Ã©", "B": "\x01"}}, ["encoding", "encoding"]),
        ({"difficulty": "hard"}, ["not_an_item"]),
        ({"extra": 1}, ["not_an_item"]),
        ({"meta": None}, ["not_an_item"]),
        ({"answer": "E", "options": {"A": "x", "B": "x", "C": ""}}, ["empty_option", "bad_label", "duplicate_options"]),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_wrong_with_a_row_and_the_next_is_still_read(tmp_path: Path, change: dict, reasons: list[str]) -> None:
    file, [row, after] = rows_of(tmp_path, GOOD | change, GOOD | {"id": "own:2"})
    assert [finding.reason for finding in row.findings] == reasons and after.findings == ()
    assert all(finding.line == 1 and finding.id == "own:1" and finding.detail for finding in row.findings)
    if not reasons:
        assert len(read_items(file)) == 2


@pytest.mark.parametrize(
    "line",
    [
        b"{", b"[]", b"7", b'"text"', b"null", b"\xff\xfe", b'{"id": NaN}', b'{"id": "x", "id": "y"}', b"[" * 100_000,
        b'{"n": ' + b"9" * 5000 + b"}", b"{}", b'{"options": {"A": "x", "A": "y"}}', b'{"question": "\xc3\x28"}',
    ],
    ids=lambda line: line[:20].decode("latin-1"),
)  # fmt: skip
def test_a_line_that_is_no_row_is_a_finding(tmp_path: Path, line: bytes) -> None:
    _, [bad, good] = rows_of(tmp_path, line, b"", GOOD)
    assert bad.findings and bad.findings[0].reason in ("not_an_item", "empty_question") and bad.findings[0].line == 1
    assert good.findings == () and good.line == 3


def test_an_id_may_stand_once(tmp_path: Path) -> None:
    _, rows = rows_of(tmp_path, GOOD, GOOD | {"question": "Another?"}, GOOD | {"id": "own:2"})
    assert [[finding.reason for finding in row.findings] for row in rows] == [[], ["repeated_id"], []]
    assert "line 1" in rows[1].findings[0].detail


@given(st.binary(max_size=200).filter(bytes.strip))
def test_no_bytes_stop_the_reading(tmp_path_factory, content: bytes) -> None:
    file = tmp_path_factory.mktemp("bytes") / "x.jsonl"
    file.write_bytes(content + b"\n" + json.dumps(GOOD).encode())
    rows = list(read_rows(file))
    assert rows[-1].question == GOOD["question"] and all(row.findings for row in rows[:-1])


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.sampled_from("ABC"), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(sorted(GOOD)), VALUES, min_size=1))
def test_a_row_without_finding_is_what_read_items_takes(tmp_path_factory, change: dict) -> None:
    file, [row] = rows_of(tmp_path_factory.mktemp("values"), GOOD | change)
    if row.findings:
        return
    assert read_items(file)[0].id == row.id


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_a_file_without_a_line_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ValueError, match="x is empty"):
        list(read_rows(tmp_path / "x"))
    with pytest.raises(ValueError, match="nowhere cannot be read"):
        list(read_rows(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="cannot be read .Is a directory"):
        list(read_rows(tmp_path))
