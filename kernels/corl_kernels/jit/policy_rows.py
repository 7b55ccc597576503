"""Rows of logits on the device: softmax statistics, the slope of a policy objective, dL/dlogits in the logits' place.

The functions without an underscore launch, and take what their namesakes of corl_kernels/rows.py take.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from corl_kernels.jit import on_its_device
from corl_kernels.objective import PolicyObjective, TokenInputs
from corl_kernels.rows import Tokens

# V vocabulary, C rows of a chunk; row r belongs to token start + r while that is below stop, z = logits / temperature
_IGNORE = tl.constexpr(-100)
_LARGEST = tl.constexpr(3.4028234663852886e38)
_LOWEST = tl.constexpr(-1e4)  # exp of it is 0; stands in for -inf, which 0 times would make a NaN
_BLOCK, _WARPS = 4096, 8  # 16 values a thread: four 16-byte loads in flight, and no spills
# One value a row each: where a chunk starts must not make another variant of the kernel.
_PER_TOKEN = (
    "targets_ptr", "temperature_ptr", "advantages_ptr", "weights_ptr", "old_ptr", "ref_ptr", "rollout_ptr",
    "logprobs_ptr", "entropy_ptr", "shift_ptr", "logsum_ptr", "slope_ptr", "entropy_slope_ptr",
)  # fmt: skip


@triton.jit
def _expm1(x):
    """exp(x) - 1 without cancellation near 0: seven terms of its series reach 2e-9 at 1/4."""
    series = x * (1 + x / 2 * (1 + x / 3 * (1 + x / 4 * (1 + x / 5 * (1 + x / 6 * (1 + x / 7))))))
    return tl.where(tl.abs(x) < 0.25, series, tl.exp(x) - 1)


@triton.jit
def _row_statistics(row_ptr, inverse_temperature, vocab_size, BLOCK: tl.constexpr):
    """max z, log sum exp(z - max z) and the entropy of one row, in one pass."""
    columns = tl.arange(0, BLOCK)
    shift = -1e30
    total, weighted = tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.float32)
    for first in range(0, vocab_size, BLOCK):
        index = first + columns
        z = tl.load(row_ptr + index, mask=index < vocab_size, other=float("-inf")) * inverse_temperature
        higher = tl.maximum(shift, tl.max(z, 0))
        fall, factor = shift - higher, tl.exp(shift - higher)
        below = z - higher
        below = tl.where(below < _LOWEST, _LOWEST, below)  # a NaN stays
        exponential = tl.exp(below)
        weighted = (weighted + fall * total) * factor + exponential * below
        total = total * factor + exponential
        shift = higher
    norm = tl.sum(total, 0)
    logsum = tl.log(norm)
    # no difference of large numbers, whatever the logits
    return shift, logsum, logsum - tl.sum(weighted, 0) / norm


@triton.jit
def _write_gradient(
    row_ptr, dlogits_ptr, target, inverse_temperature, shift, logsum, entropy, slope, entropy_slope, vocab_size,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """dlogit = (slope (1[v = target] - p) - entropy_slope p (log p + entropy)) / temperature, or zeros."""
    # Blocks of another length than those of the statistics: triton gives all tensors of one shape one layout, and that
    # of a 16-bit store would sum the statistics in another order than the variant without gradients does.
    WRITTEN: tl.constexpr = BLOCK // 2
    columns = tl.arange(0, WRITTEN)
    # every warp has read the target's logit before any writes over it
    tl.debug_barrier()
    if (slope != 0) | (entropy_slope != 0):
        for first in range(0, vocab_size, WRITTEN):
            index = first + columns
            z = tl.load(row_ptr + index, mask=index < vocab_size, other=0.0) * inverse_temperature
            logprob = (z - shift) - logsum
            logprob = tl.where(logprob < _LOWEST, _LOWEST, logprob)
            by_prob = slope + entropy_slope * (logprob + entropy)
            dlogit = (tl.where(index == target, slope, 0.0) - tl.exp(logprob) * by_prob) * inverse_temperature
            # 16-bit gradients lie over the first half of the row: element i over the fp32 logit i // 2. The barrier
            # keeps a fast warp from writing over what a slow one of this or an earlier block has yet to read; what
            # later blocks read lies further on.
            tl.debug_barrier()
            tl.store(dlogits_ptr + index, dlogit.to(dlogits_ptr.dtype.element_ty), mask=index < vocab_size)
    else:
        for first in range(0, vocab_size, WRITTEN):
            index = first + columns
            zeros = tl.zeros((WRITTEN,), dlogits_ptr.dtype.element_ty)
            tl.store(dlogits_ptr + index, zeros, mask=index < vocab_size)


@triton.jit
def _policy_slope(
    logprob, advantage, weight, old, ref, rollout,
    clip_low, clip_high, dual_clip, kl_coef, rollout_cap,
    KIND: tl.constexpr, DUAL_CLIP: tl.constexpr, CORRECTION: tl.constexpr, KL: tl.constexpr,
):  # fmt: skip
    """d(term) / d(logprob) of a token-level objective: corl_kernels.objective.token_terms for one token."""
    by_policy = weight
    if CORRECTION != "none":
        correction = tl.exp(old - rollout)
        beyond = rollout_cap if CORRECTION == "truncate" else 0.0
        by_policy = weight * tl.where(correction > rollout_cap, beyond, correction)
    if KIND == "reinforce":
        slope = -advantage * by_policy
    else:
        ratio = tl.exp(logprob - old)
        ratio = tl.where(ratio > _LARGEST, _LARGEST, ratio)  # 0 times it is 0
        upper = 1 + clip_high
        if KIND == "cispo":
            slope = -advantage * tl.where(ratio > upper, upper, ratio) * by_policy
        else:
            lower = 1 - clip_low
            held = tl.where(ratio < lower, lower, tl.where(ratio > upper, upper, ratio)) * advantage
            by_ratio = tl.where(ratio * advantage <= held, -advantage, 0.0)
            if DUAL_CLIP:
                value = tl.maximum(-ratio * advantage, -held)
                by_ratio = tl.where((advantage < 0) & (value > -dual_clip * advantage), 0.0, by_ratio)
            slope = by_ratio * by_policy * ratio
    if KL == "k1":
        slope += kl_coef * weight
    elif KL == "k2":
        slope += kl_coef * weight * (logprob - ref)
    elif KL == "k3":
        slope -= kl_coef * weight * _expm1(ref - logprob)
    return tl.where(weight != 0, slope, 0.0)


@triton.jit(do_not_specialize=("start", "stop"), do_not_specialize_on_alignment=_PER_TOKEN)
def _policy_rows_kernel(
    logits_ptr, dlogits_ptr,
    targets_ptr, temperature_ptr, advantages_ptr, weights_ptr, old_ptr, ref_ptr, rollout_ptr,
    logprobs_ptr, entropy_ptr, shift_ptr, logsum_ptr,
    row_stride, dlogits_stride, vocab_size, start, stop,
    clip_low, clip_high, dual_clip, kl_coef, entropy_coef, rollout_cap,
    HAS_TEMPERATURE: tl.constexpr, HAS_OLD: tl.constexpr, WITH_GRADIENT: tl.constexpr,
    KIND: tl.constexpr, DUAL_CLIP: tl.constexpr, CORRECTION: tl.constexpr, KL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One row: its statistics and, WITH_GRADIENT, what a token-level objective makes of them."""
    row = tl.program_id(0)
    token = start + row
    row_ptr = logits_ptr + row.to(tl.int64) * row_stride
    target = tl.load(targets_ptr + token, mask=token < stop, other=_IGNORE)
    inverse_temperature, shift, logsum, entropy = 1.0, 0.0, 0.0, 0.0
    slope, entropy_slope = 0.0, 0.0
    if target != _IGNORE:
        if HAS_TEMPERATURE:
            inverse_temperature = 1 / tl.load(temperature_ptr + token)
        shift, logsum, entropy = _row_statistics(row_ptr, inverse_temperature, vocab_size, BLOCK)
        # outside the vocabulary nothing is read: logprob, and so the loss, is NaN
        known = (target >= 0) & (target < vocab_size)
        picked = tl.load(row_ptr + target, mask=known, other=float("nan")) * inverse_temperature
        logprob = (picked - shift) - logsum
        tl.store(logprobs_ptr + token, logprob)
        tl.store(entropy_ptr + token, entropy)
        tl.store(shift_ptr + token, shift)
        tl.store(logsum_ptr + token, logsum)
        if WITH_GRADIENT:
            weight = tl.load(weights_ptr + token)
            old, ref, rollout = logprob, logprob, logprob
            if HAS_OLD:
                old = tl.load(old_ptr + token)
            if KL != "none":
                ref = tl.load(ref_ptr + token)
            if CORRECTION != "none":
                rollout = tl.load(rollout_ptr + token)
            slope = _policy_slope(
                logprob, tl.load(advantages_ptr + token), weight, old, ref, rollout,
                clip_low, clip_high, dual_clip, kl_coef, rollout_cap, KIND, DUAL_CLIP, CORRECTION, KL,
            )  # fmt: skip
            entropy_slope = -entropy_coef * weight
    if WITH_GRADIENT:
        _write_gradient(
            row_ptr, dlogits_ptr + row.to(tl.int64) * dlogits_stride, target, inverse_temperature,
            shift, logsum, entropy, slope, entropy_slope, vocab_size, BLOCK,
        )  # fmt: skip


@triton.jit(do_not_specialize=("start", "stop"), do_not_specialize_on_alignment=_PER_TOKEN)
def _gradient_rows_kernel(
    logits_ptr, dlogits_ptr,
    targets_ptr, temperature_ptr, entropy_ptr, shift_ptr, logsum_ptr, slope_ptr, entropy_slope_ptr,
    row_stride, dlogits_stride, vocab_size, start, stop,
    HAS_TEMPERATURE: tl.constexpr, HAS_ENTROPY_SLOPE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One row of dL/dlogits from statistics made before and slopes given; the slopes are those of row 0 on."""
    row = tl.program_id(0)
    token = start + row
    target = tl.load(targets_ptr + token, mask=token < stop, other=_IGNORE)
    scored = target != _IGNORE
    inverse_temperature, entropy_slope = 1.0, 0.0
    if HAS_TEMPERATURE:
        inverse_temperature = 1 / tl.load(temperature_ptr + token, mask=scored, other=1.0)
    if HAS_ENTROPY_SLOPE:
        entropy_slope = tl.load(entropy_slope_ptr + row, mask=scored, other=0.0)
    slope = tl.load(slope_ptr + row, mask=scored, other=0.0)
    slope = tl.where(scored & ((target < 0) | (target >= vocab_size)), float("nan"), slope)
    _write_gradient(
        logits_ptr + row.to(tl.int64) * row_stride, dlogits_ptr + row.to(tl.int64) * dlogits_stride,
        target, inverse_temperature,
        tl.load(shift_ptr + token, mask=scored, other=0.0), tl.load(logsum_ptr + token, mask=scored, other=0.0),
        tl.load(entropy_ptr + token, mask=scored, other=0.0), slope, entropy_slope, vocab_size, BLOCK,
    )  # fmt: skip


def in_place(logits: Tensor, dtype: torch.dtype) -> Tensor:
    """[C, V] of `dtype` over the storage of fp32 logits: row r starts where row r of the logits does."""
    return logits.view(dtype)[:, : logits.shape[1]]


def _launch_policy(
    logits: Tensor,
    tokens: Tokens,
    start: int,
    stop: int,
    inputs: TokenInputs | None,
    objective: PolicyObjective,
    dtype: torch.dtype,
) -> Tensor:
    dlogits, absent = in_place(logits, dtype), tokens.logprobs
    token_inputs = [absent] * 5
    if inputs is not None:
        optional = (inputs.old_logprobs, inputs.ref_logprobs, inputs.rollout_logprobs)
        token_inputs = [inputs.advantages, inputs.weights, *(absent if x is None else x for x in optional)]
    # Without fused multiply-adds every variant of the kernel rounds its statistics alike: log-probs made here and by
    # the variant without a gradient are the same bits, and a first update's ratio is exactly 1.
    _policy_rows_kernel[(len(logits),)](
        logits, dlogits,
        tokens.targets, absent if tokens.temperature is None else tokens.temperature, *token_inputs,
        tokens.logprobs, tokens.entropy, tokens.shift, tokens.logsum,
        logits.stride(0), dlogits.stride(0), logits.shape[1], start, stop,
        float(objective.clip_low), float(objective.clip_high), float(objective.dual_clip or 0.0),
        float(objective.kl_coef), float(objective.entropy_coef), float(objective.rollout_cap),
        HAS_TEMPERATURE=tokens.temperature is not None,
        HAS_OLD=inputs is not None and inputs.old_logprobs is not None,
        WITH_GRADIENT=inputs is not None,
        KIND=objective.kind,
        DUAL_CLIP=objective.dual_clip is not None,
        CORRECTION=objective.rollout_correction or "none",
        KL=objective.kl_estimator if objective.kl_coef else "none",
        BLOCK=_BLOCK,
        num_warps=_WARPS,
        enable_fp_fusion=False,
    )  # fmt: skip
    return dlogits


@on_its_device
def statistics(logits: Tensor, tokens: Tokens, start: int, stop: int) -> None:
    _launch_policy(logits, tokens, start, stop, None, PolicyObjective(), logits.dtype)


@on_its_device
def policy(
    logits: Tensor,
    tokens: Tokens,
    start: int,
    stop: int,
    inputs: TokenInputs,
    objective: PolicyObjective,
    dtype: torch.dtype,
) -> Tensor:
    return _launch_policy(logits, tokens, start, stop, inputs, objective, dtype)


@on_its_device
def gradient(
    logits: Tensor,
    tokens: Tokens,
    start: int,
    stop: int,
    slope: Tensor,
    entropy_slope: Tensor | None,
    dtype: torch.dtype,
) -> Tensor:
    dlogits, slope = in_place(logits, dtype), slope.contiguous()
    entropy_slope = None if entropy_slope is None else entropy_slope.contiguous()
    _gradient_rows_kernel[(len(logits),)](
        logits, dlogits,
        tokens.targets, tokens.logprobs if tokens.temperature is None else tokens.temperature,
        tokens.entropy, tokens.shift, tokens.logsum, slope, slope if entropy_slope is None else entropy_slope,
        logits.stride(0), dlogits.stride(0), logits.shape[1], start, stop,
        HAS_TEMPERATURE=tokens.temperature is not None,
        HAS_ENTROPY_SLOPE=entropy_slope is not None,
        BLOCK=_BLOCK,
        num_warps=_WARPS,
    )  # fmt: skip
    return dlogits
