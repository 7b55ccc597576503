import json

import pytest

from corl.data.importing.content import read_content


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"a": 1}\n\n{"a": 2}\r\n', [{"a": 1}, {"a": 2}]),
        ('\ufeff{"a": 1}\n\ufeff{"a": 2}', [{"a": 1}, {"a": 2}]),  # two files put together
        ('[{"a": 1},\n {"a": 2}]', [{"a": 1}, {"a": 2}]),
        ('\ufeff{\n "k": {"a": 1}\n}', {"k": {"a": 1}}),
        ('a,b\nNA,None\nnull,"x, ""y""\n"\n', [{"a": "NA", "b": "None"}, {"a": "null", "b": 'x, "y"\n'}]),
        ('\ufeff"a", b ,,\r\n1,2,,\r\n\r\n3\r\n', [{"a": "1", "b": "2"}, {"a": "3"}]),
        ('a\tb\nNA\tsays "no", twice\n', [{"a": "NA", "b": 'says "no", twice'}]),
        ('a\tb\n"quoted\n"\tx\n', [{"a": "quoted\n", "b": "x"}]),
        ('a\tb\n"half" of\tx\n', [{"a": '"half" of', "b": "x"}]),  # quotes that are plain characters
    ],
)
def test_text_is_read_by_its_content(tmp_path, content, expected):
    (tmp_path / "file.parquet").write_text(content, encoding="utf-8", newline="")
    assert read_content(tmp_path / "file.parquet") == expected


def test_lines_of_json_end_at_newlines_only(tmp_path):
    (tmp_path / "file").write_text('{"a": "x\u2028y"}\n{"a": NaN}', encoding="utf-8")
    assert read_content(tmp_path / "file")[0]["a"] == "x\u2028y"


def test_a_cell_may_be_longer_than_the_csv_module_allows(tmp_path):
    import csv

    limit = csv.field_size_limit()
    (tmp_path / "file").write_text(f"a,b\n{'x' * (limit + 1)},y\n")
    assert len(read_content(tmp_path / "file")[0]["a"]) == limit + 1
    assert csv.field_size_limit() == limit


def test_parquet_by_its_content(tmp_path):
    import pyarrow
    from pyarrow import parquet

    rows = [{"a": "None", "o": {"A": "x", "E": None}, "n": [1, 2]}, {"a": None, "o": {"A": "y", "E": "z"}, "n": []}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "file.json")
    assert read_content(tmp_path / "file.json") == rows


CHINESE = "编号,题目\n甲,发热咳嗽三天伴胸痛应当怎样检查\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
def test_encodings_are_tried_in_order(tmp_path, encoding):
    (tmp_path / "file").write_bytes(CHINESE.encode(encoding))
    rows = read_content(tmp_path / "file", ("utf-8", "gb18030"))
    assert rows == [{"编号": "甲", "题目": "发热咳嗽三天伴胸痛应当怎样检查"}]


def test_a_file_of_two_encodings_is_refused(tmp_path):
    # Under GB18030 alone the second line would be read without an error, as wrong characters.
    mixed = CHINESE.encode("gb18030") + "乙丁,皮疹发热咳嗽三天\n".encode()[6:]
    assert mixed.decode("gb18030").count("发热") == 1
    (tmp_path / "file").write_bytes(mixed)
    with pytest.raises(ValueError, match="file, line 3: UTF-8 in a file that is gb18030 elsewhere"):
        read_content(tmp_path / "file", ("utf-8", "gb18030"))
    (tmp_path / "file").write_bytes(mixed + b"\xff\n")
    with pytest.raises(ValueError, match="file, line 1: not UTF-8 or GB18030"):
        read_content(tmp_path / "file", ("utf-8", "gb18030"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf\n \n", "is empty"),
        (b'{"a": 1}\n{"a"\n', "line 2: not JSON"),
        (b'[{"a": 1}, {"a": ', "line 1: not JSON"),
        (b"<html>", "line 1: not JSON"),
        (b'{"a": 1}\n\xff', "line 2: not UTF-8"),
        (b'a,b\n1,"2\n', "line 2: not a table .unexpected end of data"),
        (b"a,b\n1,2,3\n", "line 2: 3 cells under 2 columns"),
        (b"PAR1", "parquet that cannot be read"),
        (b"PAR1" + b"x" * 99, "parquet that cannot be read"),
        (b"PK\x03\x04...", "is a zip or xlsx file"),
        (b"\x1f\x8b...", "is a gzip file"),
        (b"[" * 200_000, "not JSON that can be read"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not JSON that can be read"),
        (b'{"a": 1}\n{"a": ' + b"9" * 5000 + b"}", "line 2: not JSON that can be read"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, content, said):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match=f"file.*{said}"):
        read_content(tmp_path / "file")


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        read_content(tmp_path)


def test_a_json_text_alone_has_no_rows(tmp_path):
    (tmp_path / "file").write_text(json.dumps("text"))
    assert read_content(tmp_path / "file") == "text"
