import json

import pytest

from corl.observe.metrics import MetricsLog, PhaseTimer, read_lines, replace_text


def line(step, **values):
    return {"step": step, "stage": "rl1", "loss": 0.5 * step} | values


@pytest.fixture
def run_dir(tmp_path):
    """A run that was killed in the middle of writing the line of step 4."""
    text = "".join(json.dumps(line(step)) + "\n" for step in (1, 2, 3))
    (tmp_path / "metrics.jsonl").write_text(text + '{"step": 4, "sta')
    (tmp_path / "rollouts").mkdir()
    for step in (1, 2, 3, 4, 10):
        (tmp_path / "rollouts" / f"step_{step}.jsonl").write_text("{}\n")
    return tmp_path


def test_a_resume_writes_every_step_once(run_dir):
    log = MetricsLog(run_dir, resume_step=2)
    log.write(line(3, loss=-1.0))
    log.write(line(4))
    # Each line is on disk at once: a kill loses the step it falls into and no other.
    assert [found["step"] for found in read_lines(run_dir / "metrics.jsonl")] == [1, 2, 3, 4]
    log.close()
    assert read_lines(run_dir / "metrics.jsonl")[2] == line(3, loss=-1.0)
    assert sorted(p.name for p in (run_dir / "rollouts").iterdir()) == ["step_1.jsonl", "step_2.jsonl"]


@pytest.mark.parametrize(("resume_step", "kept"), [(0, []), (3, [1, 2, 3]), (9, [1, 2, 3])])
def test_lines_and_rollouts_beyond_the_checkpoint_are_dropped(run_dir, resume_step, kept):
    MetricsLog(run_dir, resume_step).close()
    assert [found["step"] for found in read_lines(run_dir / "metrics.jsonl")] == kept
    left = {int(p.stem[5:]) for p in (run_dir / "rollouts").iterdir()}
    assert left == {step for step in (1, 2, 3, 4, 10) if step <= resume_step}


def test_a_fresh_run_has_an_empty_log(tmp_path):
    MetricsLog(tmp_path, 0).close()
    assert (tmp_path / "metrics.jsonl").read_text() == ""
    assert read_lines(tmp_path / "nowhere.jsonl") == []


def test_numbers_of_a_line_are_in_the_event_files_by_stage(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = MetricsLog(tmp_path, 0)
    log.write(line(1, policy={"kl": 0.25}, applied=True, losses=[1.0], note="text"))
    log.write(line(2))
    log.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert set(events.Tags()["scalars"]) == {"rl1/step", "rl1/loss", "rl1/policy/kl"}
    assert [(e.step, e.value) for e in events.Scalars("rl1/loss")] == [(1, 0.5), (2, 1.0)]
    assert events.Scalars("rl1/policy/kl")[0].value == 0.25


def test_a_text_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "lineage.json"
    replace_text(path, "before")
    replace_text(path, "a longer text after")
    assert path.read_text() == "a longer text after"
    assert [p.name for p in tmp_path.iterdir()] == ["lineage.json"]

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        replace_text(path, "never seen")
    assert path.read_text() == "a longer text after"


def test_seconds_of_a_phase_add_up(monkeypatch):
    clock = iter([10.0, 10.5, 20.0, 22.0, 30.0, 30.25])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    timer = PhaseTimer()
    for phase in ("rollout", "update", "rollout"):
        with timer(phase):
            pass
    assert timer.seconds == {"rollout": 0.75, "update": 2.0}


def test_a_number_that_is_not_finite_is_null_in_the_file(tmp_path):
    log = MetricsLog(tmp_path, 0)
    log.write(line(1, loss=float("nan"), policy={"ratio_max": float("inf")}, losses=[float("nan"), 2.0]))
    log.close()
    text = (tmp_path / "metrics.jsonl").read_text()
    found = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert (found["loss"], found["policy"]["ratio_max"], found["losses"]) == (None, None, [None, 2.0])
