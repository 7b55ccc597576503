"""What a policy objective makes of one token's numbers: its term, the slope of that term, and the metrics."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from corl_kernels.kl_estimators import KL_ESTIMATORS, kl_estimate

# n tokens of a run of whole sequences (or, for token-level objectives, any tokens), S sequences
_CHOICES = {
    "kind": ("reinforce", "grpo", "gspo", "cispo"),
    "kl_estimator": KL_ESTIMATORS,
    "importance": ("token", "sequence"),
    "rollout_correction": (None, "truncate", "mask"),
}


@dataclass(frozen=True, slots=True)
class PolicyObjective:
    """Which policy gradient, and with what clipping, KL, entropy bonus and correction for the rollout engine.

    With A the advantage and r = exp(logprobs - old_logprobs), a token's policy term is
      reinforce  -A logprob
      grpo       -min(r A, clip(r, 1 - clip_low, 1 + clip_high) A); with dual_clip = c and A < 0 at most -c A
      gspo       grpo with r = exp(mean of (logprobs - old_logprobs) over the sequence's tokens of non-zero weight)
      cispo      -A min(r, 1 + clip_high) logprob, the factor of logprob detached
    importance="sequence" puts gspo's r into grpo and cispo. rollout_correction multiplies the term by the detached
    exp(old_logprobs - rollout_logprobs), clamped at rollout_cap ("truncate") or zeroed above it ("mask").
    Raises ValueError for unknown names, numbers out of range, and reinforce with importance="sequence".
    """

    kind: str = "reinforce"
    clip_low: float = 0.2
    clip_high: float = 0.2
    dual_clip: float | None = None
    kl_coef: float = 0.0
    kl_estimator: str = "k3"
    entropy_coef: float = 0.0
    importance: str = "token"
    rollout_correction: str | None = None
    rollout_cap: float = 2.0

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                listed = ", ".join(map(str, allowed))
                raise ValueError(f"{name}={getattr(self, name)!r} is not known; choose one of {listed}")
        for name in ("clip_low", "clip_high", "rollout_cap", "kl_coef", "entropy_coef"):
            if not isinstance(getattr(self, name), int | float):
                raise ValueError(f"{name}={getattr(self, name)!r} must be a number")
        for name in ("clip_low", "clip_high", "rollout_cap"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}={getattr(self, name)} must be 0 or more")
        for name in ("kl_coef", "entropy_coef"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name}={getattr(self, name)} must be finite")
        if self.dual_clip is not None and not self.dual_clip > 1:
            raise ValueError(f"dual_clip={self.dual_clip} must be above 1, or None for no second bound")
        if self.kind == "reinforce" and self.importance == "sequence":
            raise ValueError("importance='sequence' needs a ratio and reinforce has none; use grpo, gspo or cispo")

    @property
    def sequence_level(self) -> bool:
        return self.kind == "gspo" or self.importance == "sequence"


REINFORCE = PolicyObjective()


@dataclass(frozen=True, slots=True)
class PolicyMetrics:
    """Detached 0-d fp32 tensors over the tokens of non-zero weight (all 0 when there are none).

    clip_fraction_low    share whose term is held by 1 - clip_low (A < 0); 0 for reinforce and cispo
    clip_fraction_high   share held by 1 + clip_high (A > 0; for cispo whatever A)
    ratio_max            largest r, of the token or, for sequence-level objectives, of the sequence
    kl                   mean estimate of KL(policy || reference); 0 without ref_logprobs
    entropy              mean, nats
    rollout_gap_mean, rollout_gap_max   of |old_logprobs - rollout_logprobs|; 0 without rollout_logprobs
    rollout_clip_fraction               share that rollout_correction clamped or zeroed
    """

    clip_fraction_low: Tensor
    clip_fraction_high: Tensor
    ratio_max: Tensor
    kl: Tensor
    entropy: Tensor
    rollout_gap_mean: Tensor
    rollout_gap_max: Tensor
    rollout_clip_fraction: Tensor


@dataclass(frozen=True, slots=True)
class TokenInputs:
    """What the caller says about each token, [n] in the dtype of the statistics; weights are 0 where ignored."""

    advantages: Tensor
    weights: Tensor
    old_logprobs: Tensor | None
    ref_logprobs: Tensor | None
    rollout_logprobs: Tensor | None

    def slice(self, start: int, stop: int) -> "TokenInputs":
        optional = (self.old_logprobs, self.ref_logprobs, self.rollout_logprobs)
        cut = (None if value is None else value[start:stop] for value in optional)
        return TokenInputs(self.advantages[start:stop], self.weights[start:stop], *cut)

    @property
    def active(self) -> Tensor:
        return self.weights != 0


def _per_sequence(values: Tensor, offsets: Tensor | None) -> Tensor:
    """Sum within each sequence, given back to each of its tokens."""
    assert offsets is not None
    # unsafe skips a check of the offsets that would wait for the device; their caller has made it on the CPU.
    sums = torch.segment_reduce(values, "sum", offsets=offsets, axis=0, unsafe=True)
    return sums.repeat_interleave(offsets.diff(), output_size=len(values))


def _ratio(objective: PolicyObjective, logprobs: Tensor, inputs: TokenInputs, offsets: Tensor | None) -> Tensor:
    log_ratio = logprobs - (logprobs if inputs.old_logprobs is None else inputs.old_logprobs)
    if objective.sequence_level:
        counts = _per_sequence(inputs.active.to(logprobs.dtype), offsets).clamp(min=1)
        log_ratio = _per_sequence(torch.where(inputs.active, log_ratio, 0), offsets) / counts
    # finite, so that a clipped or zero-advantage token's 0 times it is 0
    return log_ratio.exp().clamp(max=torch.finfo(log_ratio.dtype).max)


def _rollout_gap(logprobs: Tensor, inputs: TokenInputs) -> Tensor:
    assert inputs.rollout_logprobs is not None
    return (logprobs if inputs.old_logprobs is None else inputs.old_logprobs) - inputs.rollout_logprobs


def token_terms(
    objective: PolicyObjective, logprobs: Tensor, entropy: Tensor, inputs: TokenInputs, offsets: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The weighted terms [n], whose sum is the loss, and the slope [n] of that sum in each logprob.

    The slope in each entropy is -entropy_coef * weight. `offsets` [S + 1] bounds the sequences, which must be whole.
    """
    advantages, active = inputs.advantages, inputs.active
    weights = inputs.weights
    if objective.rollout_correction is not None:
        correction = _rollout_gap(logprobs, inputs).exp()
        if objective.rollout_correction == "truncate":
            correction = correction.clamp(max=objective.rollout_cap)
        else:
            correction = torch.where(correction > objective.rollout_cap, 0, correction)
        weights = weights * correction
    if objective.kind == "reinforce":
        terms, slope = -advantages * logprobs * weights, -advantages * weights
    elif objective.kind == "cispo":
        bounded = _ratio(objective, logprobs, inputs, offsets).clamp(max=1 + objective.clip_high)
        terms, slope = -advantages * bounded * logprobs * weights, -advantages * bounded * weights
    else:
        ratio = _ratio(objective, logprobs, inputs, offsets)
        free = ratio * advantages
        held = ratio.clamp(1 - objective.clip_low, 1 + objective.clip_high) * advantages
        value = -torch.minimum(free, held)
        by_ratio = torch.where(free <= held, -advantages, 0)
        if objective.dual_clip is not None:
            bound = -objective.dual_clip * advantages
            capped = (advantages < 0) & (value > bound)
            value, by_ratio = torch.where(capped, bound, value), torch.where(capped, 0, by_ratio)
        terms, slope = value * weights, by_ratio * weights * ratio
        if objective.sequence_level:
            # every token of non-zero weight moves the mean, and so the ratio, by 1 / count
            counts = _per_sequence(active.to(slope.dtype), offsets).clamp(min=1)
            slope = _per_sequence(torch.where(active, slope, 0), offsets) / counts
    if objective.kl_coef:
        assert inputs.ref_logprobs is not None
        gap = logprobs - inputs.ref_logprobs
        by_logprob = {"k1": torch.ones_like, "k2": torch.clone, "k3": lambda gap: -torch.expm1(-gap)}
        kl = kl_estimate(logprobs, inputs.ref_logprobs, objective.kl_estimator)
        terms = terms + objective.kl_coef * inputs.weights * kl
        slope = slope + objective.kl_coef * inputs.weights * by_logprob[objective.kl_estimator](gap)
    if objective.entropy_coef:
        terms = terms - objective.entropy_coef * inputs.weights * entropy
    return torch.where(active, terms, 0), torch.where(active, slope, 0)


def policy_metrics(
    objective: PolicyObjective, logprobs: Tensor, entropy: Tensor, inputs: TokenInputs, offsets: Tensor | None
) -> list[Tensor]:
    """The fields of PolicyMetrics in order, fp32."""
    active = inputs.active
    count = active.sum().clamp(min=1)

    def mean(values: Tensor) -> Tensor:
        return torch.where(active, values, 0).sum() / count

    ratio = torch.where(active, _ratio(objective, logprobs, inputs, offsets), 0)
    zero = torch.zeros_like(active)
    low, high = zero, zero
    if objective.kind == "cispo":
        high = ratio > 1 + objective.clip_high
    elif objective.kind != "reinforce":
        low = (ratio < 1 - objective.clip_low) & (inputs.advantages < 0)
        high = (ratio > 1 + objective.clip_high) & (inputs.advantages > 0)
    kl = zero if inputs.ref_logprobs is None else kl_estimate(logprobs, inputs.ref_logprobs, objective.kl_estimator)
    gap, beyond = zero.to(ratio.dtype), zero
    if inputs.rollout_logprobs is not None:
        difference = _rollout_gap(logprobs, inputs)
        gap = torch.where(active, difference.abs(), 0)  # not the ratio's logarithm, which loses gaps below 6e-8
        if objective.rollout_correction is not None:
            beyond = difference.exp() > objective.rollout_cap
    # a zero in front keeps the maximum defined for an empty batch
    ratio_max, gap_max = (torch.nn.functional.pad(values, (1, 0)).max() for values in (ratio, gap))
    fields = [mean(low), mean(high), ratio_max, mean(kl), mean(entropy), mean(gap), gap_max, mean(beyond)]
    return [field.to(torch.float32) for field in fields]
