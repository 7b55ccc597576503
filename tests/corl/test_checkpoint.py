import os
from pathlib import Path

import numpy as np
import pytest
import torch

from corl.checkpoint import (
    checkpoint_name,
    complete_checkpoints,
    iter_model_tensors,
    load_carried,
    load_state,
    load_tensors,
    prune_checkpoints,
    remove_unfinished,
    save_checkpoint,
)

STATE = {"stage": "rl1", "step": 7, "rewards": [0.1, 1 / 3], "best": None, "lineage": [{"stage": "rl1"}]}
ARRAYS = {"log": np.arange(12).reshape(3, 4), "ids": np.array(["a", "item-12"]), "mean_tokens": np.array([np.nan, 0.1])}


def names(folder):
    return [path.name for path in complete_checkpoints(folder)]


@pytest.fixture
def make_folders(tmp_path):
    def make(*names):
        for name in names:
            (tmp_path / name).mkdir()
            (tmp_path / name / "state.json").write_text("{}")
        return tmp_path

    return make


def test_a_checkpoint_comes_back(world, make_sharded, make_decoder, tmp_path):
    _, parameters = make_sharded(seed=3, tied=False)
    tensors = {f"model.{name}": p for name, p in parameters.items()}
    tensors["optimizer.norm.weight.step"] = torch.tensor(5.0)
    carried = [{"item_id": "q1", "step": 3, "attempts": [{"ids": [4, 5], "logprobs": [-1 / 3, -1e-30]}]}]
    path = save_checkpoint(tmp_path, checkpoint_name(7, "rl1"), tensors, STATE, ARRAYS, world, carried=carried)
    assert names(tmp_path) == ["step_000007_rl1"]
    assert path == tmp_path / "step_000007_rl1"

    state, arrays = load_state(path)
    assert state == STATE and load_carried(path) == carried
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype

    _, others = make_sharded(seed=4, tied=False)
    into = {f"model.{name}": p for name, p in others.items()}
    into["optimizer.norm.weight.step"] = torch.tensor(0.0)
    load_tensors(path, into)
    assert into["optimizer.norm.weight.step"] == 5.0
    expected = dict(make_decoder(seed=3, tied=False).named_parameters())
    assert all(torch.equal(p.full_tensor(), expected[name]) for name, p in others.items())

    whole = dict(iter_model_tensors(path))
    assert whole.keys() == expected.keys()
    assert all(torch.equal(whole[name], weight) for name, weight in expected.items())


def test_a_checkpoint_of_the_same_name_is_replaced(world, tmp_path):
    for value in (1.0, 2.0):
        save_checkpoint(tmp_path, "step_000001_rl1", {"model.w": torch.full((3,), value)}, {"v": value}, {}, world)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step_000001_rl1"]
    assert load_state(tmp_path / "step_000001_rl1")[0] == {"v": 2.0}
    assert load_carried(tmp_path / "step_000001_rl1") == []
    assert dict(iter_model_tensors(tmp_path / "step_000001_rl1"))["w"].tolist() == [2.0] * 3


def test_a_save_that_was_cut_short_is_no_checkpoint(world, tmp_path, monkeypatch):
    save_checkpoint(tmp_path, "step_000001_rl1", {"model.w": torch.ones(3)}, {"v": 1}, {}, world)
    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", lambda *a, **k: (_ for _ in ()).throw(OSError("no space left")))
        for name in ("step_000001_rl1", "step_000002_rl1"):
            with pytest.raises(OSError, match="no space"):
                save_checkpoint(tmp_path, name, {"model.w": torch.zeros(3)}, {"v": 2}, {}, world)
    assert names(tmp_path) == ["step_000001_rl1"]
    assert load_state(tmp_path / "step_000001_rl1")[0] == {"v": 1}
    remove_unfinished(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["step_000001_rl1"]
    # What a killed save left behind does not get into the next one.
    save_checkpoint(tmp_path, "step_000002_rl1", {"model.w": torch.zeros(3)}, {"v": 3}, {}, world)
    assert names(tmp_path) == ["step_000001_rl1", "step_000002_rl1"]


def test_a_kill_while_replacing_keeps_the_old_checkpoint(world, tmp_path, monkeypatch):
    def rename(path, target):
        if path.name.startswith(".unfinished"):
            raise KeyboardInterrupt
        return os.rename(path, target)

    save_checkpoint(tmp_path, "step_000001_rl1", {"model.w": torch.ones(3)}, {"v": 1}, {}, world)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "rename", rename)
        save_checkpoint(tmp_path, "step_000001_rl1", {"model.w": torch.zeros(3)}, {"v": 2}, {}, world)
    remove_unfinished(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["step_000001_rl1"]
    assert load_state(tmp_path / "step_000001_rl1")[0] == {"v": 1}


def test_checkpoints_are_in_the_order_of_the_run(make_folders):
    folder = make_folders(
        "step_000010_rl2", "step_000010_mine", "step_000002_cold_start", "step_000010_rl1", "step_1000000_rl2",
        "step_999999_rl2",
        ".unfinished_step_000011_rl2", "step_000012_other", "step_000012", "step_000013_rl2.tmp", "older",
    )  # fmt: skip
    (folder / "step_000014_rl1").write_text("no folder")
    assert names(folder) == [
        "step_000002_cold_start", "step_000010_rl1", "step_000010_mine", "step_000010_rl2", "step_999999_rl2",
        "step_1000000_rl2",
    ]  # fmt: skip
    assert checkpoint_name(10, "rl1") == "step_000010_rl1"
    assert names(folder / "nowhere") == []


def test_pruning_keeps_the_newest_and_the_pinned(make_folders):
    folder = make_folders(*(checkpoint_name(step, "rl1") for step in range(1, 7)), ".unfinished_step_000009_rl1")
    prune_checkpoints(folder, 2, {"step_000002_rl1", "step_000006_rl1", "step_000099_rl1"})
    assert names(folder) == ["step_000002_rl1", "step_000005_rl1", "step_000006_rl1"]
    prune_checkpoints(folder, 10, set())
    assert len(names(folder)) == 3
    prune_checkpoints(folder, 1, set())
    assert names(folder) == ["step_000006_rl1"]
    assert (folder / ".unfinished_step_000009_rl1").exists()
