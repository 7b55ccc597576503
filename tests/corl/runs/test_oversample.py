"""A run with over-sampling: every sample drawn is accounted for, and a kill changes nothing."""

import json
from collections import Counter
from pathlib import Path

import pytest

from corl.checkpoint import complete_checkpoints, load_carried, load_state
from corl.observe.metrics import read_lines
from corl.pipeline import run
from corl.prepare import prepare
from corl.training import grpo
from corl.training.session import Session, StoppedError

STEPS, GROUP = 7, 3
SETTINGS = (
    "stages=[rl1]", f"rl1.max_steps={STEPS}", f"rl1.group_size={GROUP}", "rl1.prompts_per_step=4", "rl1.max_tokens=24",
    "rl1.mix.by=uniform", "rl1.temperature=1.5", "rl1.updates_per_rollout=1", "rollout.oversample=1.5",
    "rl1.objective={kind: grpo, rollout_correction: truncate}", "rollout.max_seqs=8", "rollout.kv_tokens=1024",
    "run.seed=5",  # with which all steps but one at most have groups of different rewards
)  # fmt: skip
DRIVER = str(Path(__file__).with_name("kill_driver.py"))


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def finished(world, tiny_config, tmp_path_factory) -> Path:
    run_dir = tmp_path_factory.mktemp("finished")
    run(prepare(tiny_config(run_dir, *SETTINGS)), world)
    return run_dir


def _lines(run_dir: Path) -> list[dict]:
    """Everything but the wall time."""
    lines = read_lines(run_dir / "metrics.jsonl")
    for line in lines:
        del line["seconds"], line["rollout"]["tokens_per_s"], line["rollout"]["swap"]["seconds"]
    return lines


def _samples(run_dir: Path) -> list[dict]:
    return [
        sample | {"step": step}
        for step in range(1, STEPS + 1)
        for sample in read_lines(run_dir / "rollouts" / f"step_{step}.jsonl")
    ]


def _assert_alike(run_dir: Path, expected: Path) -> None:
    assert _lines(run_dir) == _lines(expected)
    assert _samples(run_dir) == _samples(expected)
    newest, expected_newest = (complete_checkpoints(d / "checkpoints")[-1] for d in (run_dir, expected))
    (state, pool), (expected_state, expected_pool) = load_state(newest), load_state(expected_newest)
    assert json.dumps(state).replace(str(run_dir), str(expected)) == json.dumps(expected_state)
    assert all(array.tobytes() == expected_pool[name].tobytes() for name, array in pool.items())
    assert load_carried(newest) == load_carried(expected_newest) == []


def test_every_sample_drawn_is_trained_on_or_finished(finished):
    samples, lines = _samples(finished), _lines(finished)
    _, pool = load_state(complete_checkpoints(finished / "checkpoints")[-1])
    drawn = dict(zip(pool["ids"].tolist(), pool["draws"].tolist(), strict=True))
    assert Counter(s["item"] for s in samples) == {item: GROUP * times for item, times in drawn.items() if times}
    left = [s for s in samples if not s["trained"]]
    assert {s["step"] for s in left} == {STEPS}
    assert len(left) == GROUP * lines[-1]["finished"] == GROUP * lines[-1]["rollout"]["carried"]["groups"] > 0
    assert all(len([s for s in samples if s["trained"] and s["step"] == k]) == 4 * GROUP for k in range(1, STEPS + 1))
    attempts = dict.fromkeys(range(len(drawn)), 0)
    for item, _, count, _ in pool["log"].tolist():
        attempts[item] += count
    assert [attempts[k] for k in range(len(drawn))] == [GROUP * times for times in drawn.values()]
    assert {s["finish_reason"] for s in samples} <= {"stop", "length"}


def test_there_was_something_to_carry(finished):
    lines, samples = _lines(finished), _samples(finished)
    assert all(line["rollout"]["carried"]["tokens"] > 0 for line in lines)
    # A step whose groups all drew equal rewards has no gradient.
    assert sum(line["grad_norm"] > 0 for line in lines) >= len(lines) - 1
    runs = [s["policy_versions"] for s in samples if "policy_versions" in s]
    assert runs and all([v for v, _ in r] == sorted({v for v, _ in r}) for r in runs)
    assert any(s["trained"] for s in samples if "policy_versions" in s)
    assert sum(line["rollout"]["tokens"] for line in lines) > 0
    assert all(0 < line["rollout"]["wasted_share"] < 1 and 0 <= line["rollout"]["idle_share"] < 1 for line in lines[1:])
    assert all(line["agreement"]["tokens"] > 0 and line["agreement"]["gap_max"] < 1e-4 for line in lines)


@pytest.fixture
def run_killed(world, monkeypatch):
    """run_killed(config, step): the run up to the update of that step."""

    def run_(config, step):
        improve = grpo.improve

        def improve_or_die(session, *args):
            if session.state.step == step - 1:
                raise Killed
            return improve(session, *args)

        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(grpo, "improve", improve_or_die)
            run(prepare(config), world)

    return run_


@pytest.mark.parametrize("step", [2, 5])
def test_killed_in_the_middle_of_a_step(world, tiny_config, run_killed, finished, tmp_path, step):
    config = tiny_config(tmp_path, *SETTINGS)
    run_killed(config, step)
    assert len(read_lines(tmp_path / "metrics.jsonl")) == step - 1
    if step > 3:
        (newest,) = complete_checkpoints(tmp_path / "checkpoints")
        assert any(len(s["ids"]) for group in load_carried(newest) for s in group["attempts"])
    run(prepare(config), world)
    _assert_alike(tmp_path, finished)


def test_resumed_with_its_last_step_behind_it(world, tiny_config, run_killed, tmp_path):
    """max_steps lowered to where the checkpoint stands: what it carries is finished all the same."""
    run_killed(tiny_config(tmp_path, *SETTINGS), 4)
    run(prepare(tiny_config(tmp_path, *SETTINGS, "rl1.max_steps=3")), world)
    samples = [line for step in (1, 2, 3) for line in read_lines(tmp_path / "rollouts" / f"step_{step}.jsonl")]
    _, pool = load_state(complete_checkpoints(tmp_path / "checkpoints")[-1])
    assert len(samples) == GROUP * pool["draws"].sum() and not all(s["trained"] for s in samples)


def test_stale_weights_stop_the_run_and_leave_its_checkpoints(world, tiny_config, tmp_path, monkeypatch):
    """The engine misses the swap of the fourth step, after updates with a large learning rate."""
    config = tiny_config(tmp_path, *SETTINGS, "rl1.optim.lr=3.0e-2", "checkpoint.every=1")
    swap, report = Session.swap_weights, []

    def sometimes(self):
        if self.state.step != 3:
            report.append(swap(self))
        return report[-1]

    monkeypatch.setattr(Session, "swap_weights", sometimes)
    with pytest.raises(StoppedError, match="step 4: trainer and engine disagree"):
        run(prepare(config), world)
    assert complete_checkpoints(tmp_path / "checkpoints")[-1].name == "step_000003_rl1"
    assert [line["step"] for line in read_lines(tmp_path / "metrics.jsonl")] == [1, 2, 3]
    monkeypatch.undo()
    run(prepare(config), world)
    assert [line["step"] for line in read_lines(tmp_path / "metrics.jsonl")] == list(range(1, STEPS + 1))


@pytest.mark.slow
def test_two_ranks_killed_in_a_rollout(start, train_py, tmp_path):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    done = start(2, train_py, undisturbed, *SETTINGS)
    assert done.returncode == 0, done.stdout
    done = start(2, [DRIVER, "rollout", "5"], killed, *SETTINGS)
    assert done.returncode == 1 and done.stdout.count("Signal 9 (SIGKILL)") == 2, done.stdout
    assert len(read_lines(killed / "metrics.jsonl")) == 4
    done = start(2, train_py, killed, *SETTINGS)
    assert done.returncode == 0, done.stdout
    _assert_alike(killed, undisturbed)
    test_every_sample_drawn_is_trained_on_or_finished(undisturbed)
