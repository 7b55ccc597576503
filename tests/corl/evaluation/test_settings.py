import json
import shutil

import pytest

from corl.evaluation.settings import (
    SETTINGS,
    check_folder,
    hashed_files,
    hashed_model,
    hashed_prompts,
    read_settings,
    write_settings,
)


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "items.jsonl").write_text("x")
    return {"name": "m", "items": hashed_files([tmp_path / "items.jsonl"]), "limit": None, "sets": {"a": 3}}


def test_a_new_folder_an_empty_one_and_the_same_settings_are_taken(settings, tmp_path):
    out = tmp_path / "runs" / "out"
    check_folder(out, settings)
    assert not out.exists()  # only looked at
    write_settings(out, settings)
    check_folder(out, settings)
    assert read_settings(out) == settings
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".settings.json.12.tmp").write_text("half")  # what a kill left
    check_folder(tmp_path / "empty", settings)


def test_files_that_moved_are_the_same(settings, tmp_path):
    write_settings(tmp_path / "out", settings)
    moved = shutil.copy(tmp_path / "items.jsonl", tmp_path / "moved.jsonl")
    check_folder(tmp_path / "out", settings | {"name": "other", "items": hashed_files([moved])})


def test_what_differs_is_named(settings, tmp_path):
    write_settings(tmp_path / "out", settings)
    (tmp_path / "items.jsonl").write_text("y")
    changed = settings | {"items": hashed_files([tmp_path / "items.jsonl"]), "limit": 5, "seed": 1}
    with pytest.raises(ValueError) as refused:
        check_folder(tmp_path / "out", changed)
    said = str(refused.value)
    assert "limit: null then, 5 now" in said and "seed: null then, 1 now" in said
    assert "items: [" in said and "items.jsonl (2d711642)] then" in said  # sha256 of "x"
    assert "sets:" not in said and "name:" not in said and "choose another --out" in said


def test_a_strangers_folder_is_refused(settings, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "table.md").write_text("mine")
    with pytest.raises(ValueError, match="it holds other things and no evaluation"):
        check_folder(tmp_path / "out", settings)
    with pytest.raises(ValueError, match="it is a file"):
        check_folder(tmp_path / "out" / "table.md", settings)


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00"])
def test_damaged_settings_are_named(settings, tmp_path, text):
    (tmp_path / SETTINGS).write_text(text)
    with pytest.raises(ValueError, match=r"settings.json: damaged"):
        check_folder(tmp_path, settings)
    with pytest.raises(ValueError, match="no evaluation"):
        read_settings(tmp_path / "nowhere")


def test_a_models_hash_is_of_what_it_holds_not_of_where_it_lies(tmp_path):
    one = tmp_path / "one"
    one.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors", "chat_template.jinja"):
        (one / name).write_text(json.dumps(name))
    first = hashed_model(one)
    assert hashed_model(shutil.copytree(one, tmp_path / "two"))["sha256"] == first["sha256"]
    for name in ("config.json", "tokenizer.json", "model.safetensors", "chat_template.jinja"):
        changed = shutil.copytree(one, tmp_path / f"changed {name}")
        (changed / name).write_text("{}")
        assert hashed_model(changed)["sha256"] != first["sha256"]


def test_prompts_have_a_hash_of_their_ids_and_order():
    assert hashed_prompts([[1, 2], [3]]) == hashed_prompts([(1, 2), (3,)])
    assert len({hashed_prompts(p) for p in ([[1, 2], [3]], [[1], [2, 3]], [[3], [1, 2]], [[12], [3]])}) == 4
