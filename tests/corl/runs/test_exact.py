"""A run in exact mode: not one log-prob of the engine differs from the trainer's by a bit."""

import pytest
import torch

from corl.observe.metrics import read_lines
from corl.pipeline import run
from corl.prepare import prepare

SETTINGS = (
    "stages=[rl1]", "rl1.max_steps=3", "rl1.temperature=1.3", "model.exact=true", "rollout.check_sequences=99",
    "rollout.max_seqs=5", "rollout.kv_tokens=512", "rl1.group_size=3",
)  # fmt: skip
EARLY = (
    "rollout.oversample=1.5", "rl1.updates_per_rollout=1", "rl1.objective={kind: cispo, rollout_correction: mask}",
)  # fmt: skip


@pytest.mark.parametrize("settings", [
    (), EARLY, ("parallel.reshard_after_forward=false", "parallel.activation_checkpointing=true"),
    ("model.dtype=bfloat16",),
], ids=["arena", "early stop", "shared", "bf16"])  # fmt: skip
def test_no_gap_in_any_step(world, tiny_config, tmp_path, settings):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    run(prepare(tiny_config(tmp_path, *SETTINGS, *settings)), world)
    torch.set_num_threads(threads)
    lines = read_lines(tmp_path / "metrics.jsonl")
    assert len(lines) == 3 and all(line["grad_norm"] > 0 for line in lines)
    for line in lines:
        agreement = line["agreement"]
        assert (agreement["gap_mean"], agreement["gap_max"], agreement["ratios_outside"]) == (0.0, 0.0, 0.0)
        assert agreement["sequences"] >= 12 and agreement["tokens"] > 50
