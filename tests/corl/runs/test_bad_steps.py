"""A step whose loss or gradient is not finite changes nothing, says which items it had, and too many end the run."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from corl.checkpoint import complete_checkpoints
from corl.observe.metrics import read_lines
from corl.pipeline import run
from corl.prepare import prepare
from corl.training import grpo, sft
from corl.training.batch import TrainSequence, micro_batch
from corl.training.optimizer import optimizer_tensors
from corl.training.session import BadStepsError
from corl.training.sft import encode_trace, likelihood_head

NAN = float("nan")


@pytest.fixture
def make_trainer(open_tiny, tmp_path):
    """make_trainer(name): (trainer, micro-batches) of a fresh run; the second of two batches holds three items."""

    def make(name: str):
        session = open_tiny(tmp_path / name)
        sequences = [
            TrainSequence(
                trace.item.id, *encode_trace(trace, session.tokenizer, None), token_weight=0.02, advantage=1.0
            )
            for trace in session.data.traces[:5]
        ]
        batches = [micro_batch(part, session.world.device) for part in (sequences[:2], sequences[2:])]
        return session.trainer(session.config.cold_start.optim, 10), batches

    return make


def _infinite_norm(hidden, batch):
    """Every gradient is finite; the sum of their squares is not."""
    hidden.register_hook(lambda gradient: gradient * 1e25)
    return hidden


def _nan_gradient(hidden, batch):
    hidden.register_hook(lambda gradient: gradient * NAN)
    return hidden


def _nan_in_one_sequence(hidden, batch):
    last = torch.arange(len(hidden)) >= batch.target_cu_seqlens[-2]
    return torch.where(last[:, None], NAN, hidden)


# fault -> (what becomes of the second micro-batch's hidden states, the items to be named, of the five)
FAULTS = {
    "nan in one sequence": (_nan_in_one_sequence, [4]),
    "nan gradient": (_nan_gradient, range(5)),
    "infinite gradient norm alone": (_infinite_norm, range(5)),
}


def _state(trainer) -> dict[str, torch.Tensor]:
    tensors = optimizer_tensors(trainer.parameters, trainer.optimizer) | trainer.parameters
    return {name: (t.to_local() if hasattr(t, "to_local") else t).detach().clone() for name, t in tensors.items()}


@pytest.mark.parametrize("fault", FAULTS)
def test_skipped_update_changes_nothing(make_trainer, fault):
    spoil, named = FAULTS[fault]
    trainer, batches = make_trainer("spoilt")
    untouched, _ = make_trainer("untouched")

    def spoiling_head(batch):
        head = likelihood_head(batch)
        return (lambda hidden, *rest: head(spoil(hidden, batch), *rest)) if batch is batches[1] else head

    for other in (trainer, untouched):
        assert other.update(batches, likelihood_head, 0).applied
    before = _state(trainer)
    update = trainer.update(batches, spoiling_head, 1)
    assert not update.applied
    assert (update.loss == update.loss) == (fault != "nan in one sequence")
    if fault == "infinite gradient norm alone":
        assert update.grad_norm == float("inf")
    items = [s.name for batch in batches for s in batch.sequences]
    assert update.bad_items == sorted(items[k] for k in named)
    after = _state(trainer)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())

    # No trace of it in the next one either: no gradient left over, no moment moved.
    again, expected = (t.update(batches, likelihood_head, 1) for t in (trainer, untouched))
    assert (again.applied, again.loss, again.grad_norm) == (True, expected.loss, expected.grad_norm)
    assert all(torch.equal(tensor, _state(untouched)[name]) for name, tensor in _state(trainer).items())


def test_nan_loss_alone_names_its_micro_batch(make_trainer):
    """The log-probs are finite: nothing tells more than the micro-batch."""
    trainer, batches = make_trainer("loss")
    batches[1].token_weights[0] = NAN
    update = trainer.update(batches, likelihood_head, 0)
    assert not update.applied
    assert update.bad_items == sorted(s.name for s in batches[1].sequences)


STAGES = {  # stage -> (the module whose loss is spoilt, what makes one micro-batch of every step)
    "cold_start": (sft, ("cold_start.max_steps=8", "cold_start.dev_every=null")),
    "rl1": (grpo, ("rl1.max_steps=8", "rl1.updates_per_rollout=1", "rl1.objective.kind=reinforce")),
}
WHOLE = ("parallel.tokens_per_micro_batch=16384", "checkpoint.every=2", "checkpoint.keep=9")


def _spoil_steps(patch, module, steps: set[int]) -> None:
    """The loss of the given steps (from 1, within this process) is nan."""
    loss, step = module.linear_policy_loss, 0

    def spoilt(hidden, *args, **kwargs):
        nonlocal step
        step += 1
        return loss(hidden * NAN if step in steps else hidden, *args, **kwargs)

    patch.setattr(module, "linear_policy_loss", spoilt)


def _checkpoints(run_dir: Path) -> dict[str, int]:
    """When each was written."""
    return {path.name: path.stat().st_mtime_ns for path in complete_checkpoints(run_dir / "checkpoints")}


@pytest.mark.parametrize("stage", STAGES)
def test_run_stops_and_can_be_resumed(world, tiny_config, tmp_path, monkeypatch, stage):
    module, settings = STAGES[stage]
    config = tiny_config(tmp_path, f"stages=[{stage}]", "max_bad_steps=3", *settings, *WHOLE)
    with monkeypatch.context() as patch:
        _spoil_steps(patch, module, {4, 5, 6, 7, 8})
        with pytest.raises(BadStepsError, match="step 6: 3 updates in a row were not finite"):
            run(prepare(config), world)
    assert list(_checkpoints(tmp_path)) == [f"step_000002_{stage}"]
    lines = read_lines(tmp_path / "metrics.jsonl")
    assert [line["applied"] for line in lines] == [True] * 3 + [False] * 3
    assert all(bool(line.get("bad_items")) is not line["applied"] for line in lines)

    written = _checkpoints(tmp_path)
    run(prepare(config), world)
    assert _checkpoints(tmp_path).items() >= written.items()
    lines = read_lines(tmp_path / "metrics.jsonl")
    assert [(line["step"], line["applied"]) for line in lines] == [(step, True) for step in range(1, 9)]


@pytest.mark.parametrize("stage", STAGES)
def test_a_bad_step_now_and_then_is_survived(world, tiny_config, tmp_path, monkeypatch, stage):
    """Good steps in between end the streak; a checkpoint that falls on a bad step is not written."""
    module, settings = STAGES[stage]
    config = tiny_config(tmp_path, f"stages=[{stage}]", "max_bad_steps=2", *settings, *WHOLE)
    _spoil_steps(monkeypatch, module, {2, 4, 5 + 2})
    run(prepare(config), world)
    assert list(_checkpoints(tmp_path)) == [f"step_000006_{stage}", f"step_000008_{stage}"]
    lines = read_lines(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in lines if not line["applied"]] == [2, 4, 7]


@pytest.mark.slow
def test_exit_code_and_message(start, train_py, tiny_files, tmp_path):
    """A base with one nan in it: every loss is nan."""
    base = tmp_path / "base"
    base.mkdir()
    for file in (tiny_files / "base").iterdir():
        (base / file.name).write_bytes(file.read_bytes())
    weights = load_file(base / "model.safetensors")
    weights["model.norm.weight"][3] = NAN
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    stopped = start(1, train_py, tmp_path / "run", f"model.path={base}", "stages=[cold_start]", "max_bad_steps=2")
    assert stopped.returncode == 1
    (line,) = (line for line in stopped.stdout.splitlines() if line.startswith("stopped: "))
    assert "step 2: 2 updates in a row were not finite" in line and "embedded:train-" in line
    assert _checkpoints(tmp_path / "run") == {}
