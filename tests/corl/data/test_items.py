import hashlib
import json
from dataclasses import asdict, replace

import pytest

from corl.data.items import Item, Trace, file_sha256, read_items, read_traces, write_items, write_traces, write_whole

ITEM = Item(
    id="toy:1",
    source="toy",
    lang="en",
    context=None,
    question="Which gland lies below the larynx?",
    options={"A": "Thyroid", "B": "Pineal", "C": "Adrenal"},
    answer="A",
    difficulty=None,
    meta={"flags": []},
)
TRACE = Trace(ITEM, "<think>neck</think>\n<answer>A</answer>", "teacher", {"n": 1}, False)


def write_lines(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def test_items_survive_the_file(tmp_path):
    zh = replace(
        ITEM, id="toy:2", lang="zh", question="甲状腺在哪里？", answer="A,C", difficulty="easy", context="a\u2028b"
    )
    write_items(tmp_path / "new" / "items.jsonl", [ITEM, zh])
    assert read_items(tmp_path / "new" / "items.jsonl") == [ITEM, zh]
    first = (tmp_path / "new" / "items.jsonl").read_bytes().splitlines()[0]
    assert " ".join(json.loads(first)) == "id source lang context question options answer difficulty meta"


def test_traces_survive_the_file_and_may_share_an_item(tmp_path):
    write_traces(tmp_path / "traces.jsonl", [TRACE, TRACE])
    assert read_traces(tmp_path / "traces.jsonl") == [TRACE, TRACE]
    first = json.loads((tmp_path / "traces.jsonl").read_bytes().splitlines()[0])
    assert first == {**asdict(TRACE), "item": asdict(ITEM)}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"id": ""}, "id is ''"),
        ({"question": " "}, "question is ' '"),
        ({"context": 3}, "context is 3; give it a text or null"),
        ({"options": {"A": "x"}}, "2 to 26 options"),
        ({"options": {"B": "x", "A": "y"}}, "A, B, .. in this order"),
        ({"options": {"A": "x", "C": "y"}}, "A, B, .. in this order"),
        ({"options": {chr(65 + i): "x" for i in range(27)}}, "2 to 26 options"),
        ({"options": ["x", "y"]}, "options is ['x', 'y']"),
        ({"options": {"A": "x", "B": None}}, "option B a text"),
        ({"options": {"A": "x", "B": 2}}, "option B a text"),
        ({"answer": "D"}, "answer is 'D'; give it a letter of the options"),
        ({"answer": "C,A"}, "alphabetical order"),
        ({"answer": "A,A"}, "alphabetical order"),
        ({"answer": "a"}, "the options are A, B, C"),
        ({"answer": None}, "answer is None"),
        ({"difficulty": "hard"}, "difficulty is 'hard'; make it null or one of easy, moderate, difficult"),
        ({"meta": None}, "meta is None"),
    ],
)
def test_a_wrong_value_names_file_line_item_and_rule(tmp_path, change, said):
    path = write_lines(tmp_path / "items.jsonl", asdict(ITEM), {**asdict(ITEM), "id": "toy:2", **change})
    with pytest.raises(ValueError) as error:
        read_items(path)
    assert str(error.value).startswith(f"{path}, line 2: item {change.get('id', 'toy:2')!r}: ")
    assert said in str(error.value)


@pytest.mark.parametrize("key", list(asdict(ITEM)))
def test_a_missing_key_is_named(tmp_path, key):
    record = {name: value for name, value in asdict(ITEM).items() if name != key}
    with pytest.raises(ValueError, match=f"line 1: item .*: missing key {key};"):
        read_items(write_lines(tmp_path / "items.jsonl", record))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"\n{oops\n", "line 2: not JSON"),
        (b"[1]\n", "line 1: [1] is not an object"),
        (b'"\xff"\n', "line 1: not UTF-8"),
        (json.dumps({**asdict(ITEM), "gold": "A"}).encode(), "line 1: item 'toy:1': unknown key gold"),
        ((json.dumps(asdict(ITEM)) + "\n").encode() * 2, "line 2: item 'toy:1' is already on line 1"),
    ],
)
def test_a_wrong_file_is_named(tmp_path, content, said):
    path = tmp_path / "items.jsonl"
    path.write_bytes(content)
    with pytest.raises(ValueError) as error:
        read_items(path)
    assert str(path) in str(error.value) and said in str(error.value)


def test_a_missing_file_is_a_value_error(tmp_path):
    with pytest.raises(ValueError, match=r"none\.jsonl cannot be read"):
        read_items(tmp_path / "none.jsonl")
    with pytest.raises(ValueError, match="cannot be read"):
        file_sha256(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"completion": ""}, "item 'toy:1': completion is ''"),
        ({"teacher": None}, "teacher is None"),
        ({"checks": []}, "checks is []"),
        ({"label_conditioned": 0}, "label_conditioned is 0; make it true or false"),
        ({"item": {**asdict(ITEM), "answer": "Z"}}, "item 'toy:1': answer is 'Z'"),
        ({"item": None}, "None is not an object"),
    ],
)
def test_a_wrong_trace_is_named(tmp_path, change, said):
    path = write_lines(tmp_path / "traces.jsonl", {**asdict(TRACE), **change})
    with pytest.raises(ValueError) as error:
        read_traces(path)
    assert str(error.value).startswith(f"{path}, line 1: ") and said in str(error.value)


def test_a_byte_order_mark_is_no_error(tmp_path):
    path = tmp_path / "items.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(asdict(ITEM)).encode())
    assert read_items(path) == [ITEM]


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, "\ud83d"])
def test_what_is_not_json_leaves_the_old_file(tmp_path, value):
    path = tmp_path / "items.jsonl"
    write_items(path, [ITEM])
    with pytest.raises(ValueError, match="item 'toy:9' is not JSON"):
        write_items(path, [ITEM, replace(ITEM, id="toy:9", meta={"value": value})])
    assert read_items(path) == [ITEM]
    assert [entry.name for entry in tmp_path.iterdir()] == ["items.jsonl"]


def test_write_whole_is_all_or_nothing(tmp_path):
    def lines():
        yield b"first\n"
        raise KeyError("stop")

    with pytest.raises(KeyError):
        write_whole(tmp_path / "out", lines())
    assert not list(tmp_path.iterdir())
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match="folder cannot be written"):
        write_whole(tmp_path / "folder", [b"x"])
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


def test_file_sha256_is_of_the_bytes(tmp_path):
    (tmp_path / "file").write_bytes(b"abc\n")
    assert file_sha256(tmp_path / "file") == hashlib.sha256(b"abc\n").hexdigest()
