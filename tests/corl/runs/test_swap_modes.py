"""Two ranks train alike however the engine has its weights: its own copies, the trainer's, or slices on two ranks."""

from pathlib import Path

import pytest

from corl.observe.metrics import read_lines

STEPS = 3
RUN = (
    "stages=[rl1]",
    "cold_start.dev_every=null",
    f"rl1.max_steps={STEPS}",
    "rl1.updates_per_rollout=2",  # the second one and its scores need the weights of the first
    "rl1.objective={kind: grpo, kl_coef: 0.05}",  # the reference takes the policy's place
    "rl1.optim.lr=1.0e-4",
    "eval.every=2",
    "eval.limit=2",
)
MODES = {
    "arena": ["parallel.reshard_after_forward=true"],
    "shared": ["parallel.reshard_after_forward=false"],
    "sliced": ["parallel.reshard_after_forward=false", "rollout.tensor_parallel=2"],
}


@pytest.fixture(scope="module")
def runs(start, train_py, tiny_files, tmp_path_factory) -> dict[str, Path]:
    folders = {}
    for mode, overrides in MODES.items():
        folders[mode] = tmp_path_factory.mktemp(mode) / "run"
        held_out = f"data.held_out=[{tiny_files}/dev.jsonl]"
        more = [*RUN, *overrides, held_out, "data.dev=[]", "rollout.verify_swap=true"]
        finished = start(2, train_py, folders[mode], *more)
        assert finished.returncode == 0, finished.stdout[-4000:]
    return folders


def lines_of(folder: Path) -> list[dict]:
    lines = read_lines(folder / "metrics.jsonl")
    assert len(lines) == STEPS
    return lines


@pytest.mark.slow
def test_the_same_is_sampled_and_evaluated(runs):
    arena = runs["arena"]
    for mode in ("shared", "sliced"):
        for step in range(1, STEPS + 1):
            one, other = (read_lines(f / "rollouts" / f"step_{step}.jsonl") for f in (arena, runs[mode]))
            assert one == other, (mode, step)
        evaluated = [[line.get("eval") for line in lines_of(folder)] for folder in (arena, runs[mode])]
        assert evaluated[0] == evaluated[1] and any(evaluated[0])


@pytest.mark.slow
def test_losses_are_alike(runs):
    """Bit for bit, since the samples are: what the engine computes in another order is not in this loss. Where weights
    are freed after the forward, every micro-batch's gradients are summed over the ranks: another order of the sums."""
    for key in ("losses", "grad_norms"):
        arena, shared, sliced = ([line[key] for line in lines_of(runs[mode])] for mode in MODES)
        assert shared == sliced, key
        for step, expected in zip(arena, shared, strict=True):
            assert step == pytest.approx(expected, rel=1e-4, abs=1e-6), key
    assert all(loss for line in lines_of(runs["arena"]) for loss in line["losses"])
