"""A run that was killed three times leaves, at its end, bit for bit what an undisturbed one leaves."""

import json
from pathlib import Path

import pytest

from corl.checkpoint import complete_checkpoints, load_state
from corl.export import export_run
from corl.observe.metrics import read_lines
from corl.pipeline import run
from corl.prepare import prepare
from corl.training.session import Session

RANKS = 2
STEPS = 21  # 7 of each stage, a checkpoint every 3 of them and where a stage ends
# Where, in the middle of which step, and the newest complete checkpoint then: two whole steps and more before.
KILLS = [
    ("update", 6, "step_000003_cold_start"),
    ("checkpoint", 13, "step_000010_rl1"),
    ("rollout", 20, "step_000017_rl2"),
]
DRIVER = str(Path(__file__).with_name("kill_driver.py"))


@pytest.fixture(scope="module")
def undisturbed(start, train_py, tmp_path_factory) -> Path:
    run_dir = tmp_path_factory.mktemp("undisturbed")
    finished = start(RANKS, train_py, run_dir)
    assert finished.returncode == 0, finished.stdout
    return run_dir


@pytest.fixture(scope="module")
def resumed(start, train_py, tmp_path_factory) -> Path:
    """Killed in the cold start, in the first RL stage and in the second, then left alone."""
    run_dir = tmp_path_factory.mktemp("resumed")
    for where, step, newest in KILLS:
        killed = start(RANKS, [DRIVER, where, str(step)], run_dir)
        assert killed.returncode == 1 and killed.stdout.count("Signal 9 (SIGKILL)") == RANKS, killed.stdout
        assert complete_checkpoints(run_dir / "checkpoints")[-1].name == newest
        unfinished = list((run_dir / "checkpoints").glob(".unfinished_*"))
        assert [path.name for path in unfinished] == ([".unfinished_step_000013_rl1"] if where == "checkpoint" else [])
        assert all(len(list(path.glob("*.distcp"))) == RANKS for path in unfinished)
        written = [line["step"] for line in read_lines(run_dir / "metrics.jsonl")]
        assert written[-1] - int(newest[5:11]) >= 2
    finished = start(RANKS, train_py, run_dir)
    assert finished.returncode == 0, finished.stdout
    return run_dir


def _lines(run_dir: Path) -> list[dict]:
    """Everything but the wall time."""
    lines = read_lines(run_dir / "metrics.jsonl")
    for line in lines:
        del line["seconds"]
        if "rollout" in line:
            del line["rollout"]["tokens_per_s"], line["rollout"]["swap"]["seconds"]
    return lines


@pytest.mark.slow
def test_every_step_is_logged_once_and_alike(undisturbed, resumed):
    assert [line["step"] for line in _lines(resumed)] == list(range(1, STEPS + 1))
    for mine, theirs in zip(_lines(resumed), _lines(undisturbed), strict=True):
        assert mine == theirs


@pytest.mark.slow
def test_the_run_had_something_to_lose(undisturbed):
    lines = _lines(undisturbed)
    assert all(line["grad_norm"] > 0 for line in lines)
    rewards = [line["reward"] for line in lines if line["stage"] != "cold_start"]
    assert sum(rewards) > 0 and len(set(rewards)) > 3
    assert any(line["groups_replaced"] for line in lines if line["stage"] == "rl2")
    assert [line["step"] for line in lines if "mined" in line] == [20]


@pytest.mark.slow
def test_samples_are_alike(undisturbed, resumed):
    names = sorted(path.name for path in (undisturbed / "rollouts").iterdir())
    assert names == sorted(f"step_{step}.jsonl" for step in range(8, STEPS + 1))
    assert names == sorted(path.name for path in (resumed / "rollouts").iterdir())
    for name in names:
        assert (resumed / "rollouts" / name).read_bytes() == (undisturbed / "rollouts" / name).read_bytes()


@pytest.mark.slow
def test_position_and_pool_are_alike(undisturbed, resumed):
    (state, pool), (expected_state, expected_pool) = (
        load_state(complete_checkpoints(run_dir / "checkpoints")[-1]) for run_dir in (resumed, undisturbed)
    )
    assert json.dumps(state).replace(str(resumed), str(undisturbed)) == json.dumps(expected_state)
    assert state["stage"] == "done" and [record["stage"] for record in state["lineage"]][-1] == "rl2"
    assert pool.keys() == expected_pool.keys()
    for name, array in pool.items():
        assert array.dtype == expected_pool[name].dtype and array.tobytes() == expected_pool[name].tobytes(), name
    assert len(pool["log"]) > len(pool["ids"])  # more than one policy version attempted the items
    assert (resumed / "lineage.json").read_text() == json.dumps({"stages": state["lineage"]}, indent=1) + "\n"


@pytest.mark.slow
def test_exported_weights_are_alike(undisturbed, resumed, tmp_path):
    for run_dir, name in ((resumed, "resumed"), (undisturbed, "undisturbed")):
        assert export_run(run_dir, tmp_path / name) == "step_000021_rl2"
    (weights,) = (tmp_path / "undisturbed").glob("*.safetensors")
    assert (tmp_path / "resumed" / weights.name).read_bytes() == weights.read_bytes()


@pytest.mark.slow
def test_the_reference_stays_the_start_of_the_stage(undisturbed, resumed):
    """Steps 18 on of the resumed run measure against weights that were read again from the mining stage's end."""
    kl, expected = ([x["policy"]["kl"] for x in _lines(d) if x["stage"] == "rl2"] for d in (resumed, undisturbed))
    assert kl == expected
    assert kl[0] == 0.0 and all(value > 0 for value in kl[1:])


SHORT = ("stages=[cold_start,rl1]", "cold_start.max_steps=4", "cold_start.dev_every=null", "rl1.max_steps=4")


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def short_run(world, tiny_config, tmp_path_factory) -> Path:
    run_dir = tmp_path_factory.mktemp("short")
    run(prepare(tiny_config(run_dir, *SHORT)), world)
    return run_dir


@pytest.mark.slow
@pytest.mark.parametrize("saves", [1, 3, 4], ids=["cold start", "rl", "end of the run"])
def test_killed_once_a_checkpoint_is_complete(world, tiny_config, short_run, tmp_path, monkeypatch, saves):
    """What belongs to a step must be written before the checkpoint that holds the step, or it never is."""
    save, count = Session.save, 0

    def save_and_die(*args):
        nonlocal count
        save(*args)
        count += 1
        if count == saves:
            raise Killed

    config = tiny_config(tmp_path, *SHORT)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Session, "save", save_and_die)
        run(prepare(config), world)
    run(prepare(config), world)
    assert [line["step"] for line in _lines(tmp_path)] == list(range(1, 9))
    assert _lines(tmp_path) == _lines(short_run)
    lineage, expected = ((run_dir / "lineage.json").read_text() for run_dir in (tmp_path, short_run))
    assert lineage.replace(str(tmp_path), str(short_run)) == expected
