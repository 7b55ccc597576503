"""The file of answered requests."""

import sqlite3

import pytest

from corl.rods.teachers.store import Reply, RequestStore, request_key

ASK = [{"role": "user", "content": "why?"}]


def test_an_answer_is_there_for_the_next_process(tmp_path) -> None:
    replies = {
        "a": Reply("text \ud800 \x00 字", 3, 4),
        "b": Reply(None, 0, 0, refusal="HTTP 400"),
        "c": Reply("", 1, 0),
    }
    store = RequestStore(tmp_path / "new" / "s.sqlite")
    for key, reply in replies.items():
        store.put(key, reply)
    store.add_lost(100)
    other = RequestStore(tmp_path / "new" / "s.sqlite")  # beside the first, which is still open
    assert {key: other.get(key) for key in replies} == replies
    assert other.get("d") is None and other.spent() == 108
    assert (tmp_path / "new" / "s.sqlite-wal").exists(), "without a log a kill could tear the file"
    store.close()
    other.close()


def test_the_key_holds_everything_that_matters() -> None:
    keys = {
        request_key("m", ASK, {"temperature": 1.0}, "0"),
        request_key("n", ASK, {"temperature": 1.0}, "0"),
        request_key("m", ASK, {"temperature": 0.5}, "0"),
        request_key("m", ASK, {"temperature": 1.0}, "1"),
        request_key("m", [*ASK, *ASK], {"temperature": 1.0}, "0"),
        request_key("m", [{"role": "system", "content": "why?"}], {"temperature": 1.0}, "0"),
    }
    assert len(keys) == 6
    assert request_key("m", ASK, {"a": 1, "b": 2}, "0") == request_key("m", ASK, {"b": 2, "a": 1}, "0")


def test_other_files_are_refused_and_left_alone(tmp_path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a database, but long enough to have been taken for one\n" * 20)
    with pytest.raises(ValueError, match="choose another --store"):
        RequestStore(text)
    assert text.read_text().startswith("not a database")
    foreign = sqlite3.connect(tmp_path / "other.sqlite")
    foreign.execute("PRAGMA user_version = 7")
    foreign.execute("CREATE TABLE t (x)")
    foreign.commit()
    foreign.close()
    with pytest.raises(ValueError, match="another version"):
        RequestStore(tmp_path / "other.sqlite")
    with pytest.raises(ValueError, match="choose another --store"):
        RequestStore(tmp_path / "notes.txt" / "s.sqlite")
