"""One rank and two ranks train alike: the same samples, the same losses and gradient norms, half the bytes each."""

import json
from pathlib import Path

import pytest

from corl.observe.metrics import read_lines

DRIVER = str(Path(__file__).with_name("record_driver.py"))
UPDATES = 5  # of each stage
ONE_UPDATE_A_STEP = (
    "stages=[cold_start,rl1]",
    f"cold_start.max_steps={UPDATES}",
    "cold_start.dev_every=null",
    f"rl1.max_steps={UPDATES}",
    "rl1.updates_per_rollout=1",
    # Adam divides by what it has seen of a gradient, so a rounding error in one that is almost 0 moves a weight by
    # up to lr: the ranks' sums, which round differently, drift apart the faster the higher it is.
    "cold_start.optim.lr=1.0e-4",
    "rl1.optim.lr=1.0e-4",
)
STAGES = pytest.mark.parametrize("stage", [slice(0, UPDATES), slice(UPDATES, 2 * UPDATES)], ids=["sft", "grpo"])


@pytest.fixture(scope="module")
def recorded(start, tmp_path_factory) -> dict[int, Path]:
    """By number of ranks: the folder that holds the records and, as run/, the run."""
    folders = {ranks: tmp_path_factory.mktemp(f"ranks_{ranks}") for ranks in (1, 2)}
    for ranks, folder in folders.items():
        finished = start(ranks, [DRIVER, str(folder)], folder / "run", *ONE_UPDATE_A_STEP)
        assert finished.returncode == 0, finished.stdout
    return folders


def _records(folder: Path, rank: int, stage: slice) -> list[dict]:
    lines = read_lines(folder / f"rank_{rank}.jsonl")
    assert len(lines) == 2 * UPDATES
    return lines[stage]


@pytest.mark.slow
@STAGES
def test_ranks_hold_the_same_data_split_in_two(recorded, stage):
    """Prompts and sampled tokens alike, before any loss is compared; micro-batches of unequal token counts."""
    whole, *shares = (_records(recorded[ranks], rank, stage) for ranks, rank in ((1, 0), (2, 0), (2, 1)))
    for one, first, second in zip(whole, *shares, strict=True):
        assert first["sequences"] and second["sequences"]
        assert not first["sequences"].keys() & second["sequences"].keys()
        assert first["sequences"] | second["sequences"] == one["sequences"]
        assert len(first["tokens"]) == len(second["tokens"]) >= 2
        assert len(set(first["tokens"] + second["tokens"])) >= 2 and len(set(one["tokens"])) >= 2
        assert sum(first["tokens"]) + sum(second["tokens"]) == sum(one["tokens"])
    assert any(sum(first["tokens"]) != sum(second["tokens"]) for first, second in zip(*shares, strict=True))


@pytest.mark.slow
def test_samples_and_rewards_are_alike(recorded):
    for step in range(UPDATES + 1, 2 * UPDATES + 1):
        one, two = (read_lines(recorded[ranks] / "run" / "rollouts" / f"step_{step}.jsonl") for ranks in (1, 2))
        assert one == two
        assert len({line["reward"] for line in one}) > 1


@pytest.mark.slow
@STAGES
def test_losses_and_gradient_norms(recorded, stage):
    one, two, other = (_records(recorded[ranks], rank, stage) for ranks, rank in ((1, 0), (2, 0), (2, 1)))
    for key in ("loss", "grad_norm"):
        values, expected = ([line[key] for line in lines] for lines in (two, one))
        assert values == [line[key] for line in other]
        assert values == pytest.approx(expected, rel=1e-5, abs=0.0)
        assert all(expected)


@pytest.mark.slow
def test_two_ranks_hold_half_of_the_bytes_each(recorded):
    for ranks in (1, 2):
        for rank in range(ranks):
            for held, whole in json.loads((recorded[ranks] / f"bytes_{rank}.json").read_text()).values():
                assert held * ranks == whole > 0
