"""The kernels' per-call metrics as numbers of a whole step, over micro-batches and ranks."""

import torch

from corl.parallel import World
from corl.training.batch import MicroBatch

MEANS = ("kl", "entropy", "clip_fraction_low", "clip_fraction_high", "rollout_gap_mean", "rollout_clip_fraction")
MAXIMA = ("ratio_max", "rollout_gap_max")


def policy_metrics(batches: list[MicroBatch], outputs: list[tuple], world: World) -> dict[str, float]:
    """Means over the tokens of non-zero weight, maxima over all; outputs are those of linear_policy_loss."""
    counts = torch.stack([(batch.token_weights != 0).sum().double() for batch in batches])
    values = {name: torch.stack([getattr(out[3], name).double() for out in outputs]) for name in MEANS + MAXIMA}
    # A micro-batch without tokens has no mean; its 0 count must not meet a nan.
    sums = [torch.where(counts > 0, values[name] * counts, 0.0).sum().item() for name in MEANS]
    total, *sums = world.sum([counts.sum().item(), *sums])
    peaks = world.gather([values[name].max().item() for name in MAXIMA])
    means = {name: value / max(total, 1.0) for name, value in zip(MEANS, sums, strict=True)}
    return means | {name: max(rank[k] for rank in peaks) for k, name in enumerate(MAXIMA)}
