"""Rows of logits on the device: softmax statistics, the slope of a policy objective, dL/dlogits in the logits' place.

The functions without an underscore launch, and take what their namesakes of corl_kernels/rows.py take. One compiled
kernel makes the statistics of every op, so log-probs of a score and of an update have the same bits.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from corl_kernels.jit import on_its_device
from corl_kernels.objective import PolicyObjective, TokenInputs
from corl_kernels.rows import Tokens

# V vocabulary, C rows of a chunk; row r belongs to token start + r while that is below stop.
# l = logit + bias, y = softcap tanh(l / softcap) or l, z = y / temperature. Inside the kernels exponents are in units
# of log2, as the device has exp2 alone: rate = log2(e) / temperature, and exp(z - shift) = exp2(y rate - top).
_IGNORE = tl.constexpr(-100)
_ELSEWHERE = tl.constexpr(-101)
_LARGEST = tl.constexpr(3.4028234663852886e38)
_LOWEST = tl.constexpr(-1e4)  # exp2 of it is 0; stands in for -inf, which 0 times would make a NaN
_LOG2_E = tl.constexpr(1.4426950408889634)
_LN_2 = tl.constexpr(0.6931471805599453)
_INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)
# 16 values a thread: four 16-byte loads in flight; 32 registers, so that 64 warps fill a multiprocessor
_BLOCK, _WARPS = 4096, 8
_PER_LOAD = tl.constexpr(4)
# One value a row each: where a chunk starts must not make another variant of the kernel.
_PER_TOKEN = (
    "targets_ptr", "temperature_ptr", "advantages_ptr", "weights_ptr", "old_ptr", "ref_ptr", "rollout_ptr",
    "logprobs_ptr", "entropy_ptr", "shift_ptr", "logsum_ptr", "slope_ptr", "entropy_slope_ptr",
)  # fmt: skip


@triton.jit
def _exp2(x):
    """2^x, results below 2^-126 flushed to 0: without that, every value costs three more instructions."""
    if _INTERPRETED:
        return tl.exp2(x)
    return tl.inline_asm_elementwise("ex2.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1)


@triton.jit
def _expm1(x):
    """exp(x) - 1 without cancellation near 0: seven terms of its series reach 2e-9 at 1/4."""
    series = x * (1 + x / 2 * (1 + x / 3 * (1 + x / 4 * (1 + x / 5 * (1 + x / 6 * (1 + x / 7))))))
    return tl.where(tl.abs(x) < 0.25, series, tl.exp(x) - 1)


@triton.jit
def _capped(x, softcap):
    """softcap tanh(x / softcap)."""
    return softcap - 2 * softcap / (_exp2(x * (2 * _LOG2_E / softcap)) + 1)


@triton.jit
def _load(
    row_ptr, bias_ptr, index, vocab_size, softcap, MASKED: tl.constexpr, HAS_BIAS: tl.constexpr, SOFTCAP: tl.constexpr
):  # fmt: skip
    """y of these columns; -inf beyond the vocabulary where MASKED."""
    if MASKED:
        y = tl.load(row_ptr + index, mask=index < vocab_size, other=float("-inf"))
        if HAS_BIAS:
            y += tl.load(bias_ptr + index, mask=index < vocab_size, other=0.0)
    else:
        y = tl.load(row_ptr + index)
        if HAS_BIAS:
            y += tl.load(bias_ptr + index)
    if SOFTCAP:
        capped = _capped(y, softcap)
        y = tl.where(index < vocab_size, capped, float("-inf")) if MASKED else capped
    return y


@triton.jit
def _load_tiles(
    row_ptr, bias_ptr, first, vocab_size, softcap,
    MASKED: tl.constexpr, HAS_BIAS: tl.constexpr, SOFTCAP: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """y of a block from column `first` on, as four tiles."""
    # Four tensors of two dimensions: triton 3.6 and 3.7 lay out one of three dimensions over the threads differently.
    y_0 = _load(row_ptr, bias_ptr, _tile(first, 0, LANES), vocab_size, softcap, MASKED, HAS_BIAS, SOFTCAP)
    y_1 = _load(row_ptr, bias_ptr, _tile(first, 1, LANES), vocab_size, softcap, MASKED, HAS_BIAS, SOFTCAP)
    y_2 = _load(row_ptr, bias_ptr, _tile(first, 2, LANES), vocab_size, softcap, MASKED, HAS_BIAS, SOFTCAP)
    y_3 = _load(row_ptr, bias_ptr, _tile(first, 3, LANES), vocab_size, softcap, MASKED, HAS_BIAS, SOFTCAP)
    return y_0, y_1, y_2, y_3


@triton.jit
def _tile(first, TILE: tl.constexpr, LANES: tl.constexpr):
    """The columns [LANES, _PER_LOAD] of one load; a lane's are those of one thread, so nothing is waited for."""
    lanes, values = tl.arange(0, LANES)[:, None], tl.arange(0, _PER_LOAD)[None, :]
    return first + TILE * LANES * _PER_LOAD + lanes * _PER_LOAD + values


@triton.jit
def _largest(y):
    """[LANES] of the four tiles y."""
    return tl.maximum(tl.maximum(tl.max(y[0], 1), tl.max(y[1], 1)), tl.maximum(tl.max(y[2], 1), tl.max(y[3], 1)))


@triton.jit
def _below(y, rate, top):
    """y rate - top of every lane, -inf made finite; a NaN stays."""
    return tl.maximum(tl.fma(y, rate, -top[:, None]), _LOWEST, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def _fold(y, rate, top, total, weighted):
    """Four tiles more in every lane's statistics: top = max y rate, total = sum 2^(y rate - top), weighted = the sum of
    the same times (y rate - top)."""
    higher = tl.maximum(top, _largest(y) * rate)
    fall = top - higher
    factor = _exp2(fall)
    total, weighted = total * factor, tl.fma(fall, total, weighted) * factor
    for tile in tl.static_range(4):
        below = _below(y[tile], rate, higher)
        exponential = _exp2(below)
        total += tl.sum(exponential, 1)
        weighted += tl.sum(exponential * below, 1)
    return higher, total, weighted


@triton.jit(do_not_specialize=("start", "stop", "has_temperature"), do_not_specialize_on_alignment=_PER_TOKEN)
def _statistics_rows_kernel(
    logits_ptr, bias_ptr, targets_ptr, temperature_ptr, logprobs_ptr, entropy_ptr, shift_ptr, logsum_ptr,
    row_stride, vocab_size, start, stop, has_temperature, softcap,
    HAS_BIAS: tl.constexpr, SOFTCAP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One row: log-prob of the target, entropy, max z and log sum exp(z - max z), in one pass over it."""
    LANES: tl.constexpr = BLOCK // (4 * _PER_LOAD)
    row = tl.program_id(0)
    token = start + row
    target = tl.load(targets_ptr + token, mask=token < stop, other=_IGNORE)
    if target != _IGNORE:
        row_ptr = logits_ptr + row.to(tl.int64) * row_stride
        rate = _LOG2_E / tl.load(temperature_ptr + token, mask=has_temperature != 0, other=1.0)
        # Every lane has its own maximum, so that nothing in the loop waits for another thread.
        top = tl.full((LANES,), -1e30, tl.float32)
        total, weighted = tl.zeros((LANES,), tl.float32), tl.zeros((LANES,), tl.float32)
        whole = vocab_size // BLOCK * BLOCK
        for first in range(0, whole, BLOCK):
            y = _load_tiles(row_ptr, bias_ptr, first, vocab_size, softcap, False, HAS_BIAS, SOFTCAP, LANES)
            top, total, weighted = _fold(y, rate, top, total, weighted)
        if whole < vocab_size:
            y = _load_tiles(row_ptr, bias_ptr, whole, vocab_size, softcap, True, HAS_BIAS, SOFTCAP, LANES)
            top, total, weighted = _fold(y, rate, top, total, weighted)
        highest = tl.max(top, 0)
        factor = _exp2(top - highest)
        norm = tl.sum(total * factor, 0)
        excess = tl.sum(tl.fma(top - highest, total, weighted) * factor, 0)
        logsum = tl.log(norm)
        # outside the vocabulary nothing is read: logprob, and so the loss, is NaN
        known = (target >= 0) & (target < vocab_size)
        picked = tl.load(row_ptr + target, mask=known, other=float("nan"))
        if HAS_BIAS:
            picked += tl.load(bias_ptr + target, mask=known, other=0.0)
        if SOFTCAP:
            picked = _capped(picked, softcap)
        tl.store(logprobs_ptr + token, tl.fma(picked, rate, -highest) * _LN_2 - logsum)
        # no difference of large numbers, whatever the logits
        tl.store(entropy_ptr + token, logsum - excess / norm * _LN_2)
        tl.store(shift_ptr + token, highest * _LN_2)
        tl.store(logsum_ptr + token, logsum)


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


@triton.jit
def _dlogits(y, rate, offset, constant, by_logprob, softcap, SOFTCAP: tl.constexpr):
    """p (constant + by_logprob log2 p), p = 2^(y rate + offset); through the soft cap where there is one."""
    logprob = tl.maximum(tl.fma(y, rate, offset), _LOWEST, propagate_nan=tl.PropagateNan.ALL)
    dlogit = _exp2(logprob) * tl.fma(logprob, by_logprob, constant)
    if SOFTCAP:
        dlogit *= 1 - (y / softcap) * (y / softcap)
    return dlogit


@triton.jit(
    do_not_specialize=("start", "stop", "has_temperature", "has_entropy_slope"),
    do_not_specialize_on_alignment=_PER_TOKEN,
)
def _gradient_rows_kernel(
    logits_ptr, bias_ptr, dlogits_ptr,
    targets_ptr, temperature_ptr, logprobs_ptr, entropy_ptr, shift_ptr, logsum_ptr, slope_ptr, entropy_slope_ptr,
    advantages_ptr, weights_ptr, old_ptr, ref_ptr, rollout_ptr,
    row_stride, dlogits_stride, vocab_size, start, stop, has_temperature, has_entropy_slope, softcap,
    clip_low, clip_high, dual_clip, kl_coef, entropy_coef, rollout_cap,
    HAS_BIAS: tl.constexpr, SOFTCAP: tl.constexpr, HAS_OLD: tl.constexpr,
    KIND: tl.constexpr, DUAL_CLIP: tl.constexpr, CORRECTION: tl.constexpr, KL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One row of dL/dlogits from its statistics, or zeros; the slopes are those of row 0 on (KIND "given") or a
    token-level objective's.

    dL/dz = slope (1[v = target] - p) - entropy_slope p (log p + entropy)
    """
    row = tl.program_id(0)
    token = start + row
    target = tl.load(targets_ptr + token, mask=token < stop, other=_IGNORE)
    scored = target != _IGNORE
    temperature = tl.load(temperature_ptr + token, mask=scored & (has_temperature != 0), other=1.0)
    entropy = tl.load(entropy_ptr + token, mask=scored, other=0.0)
    if KIND == "given":
        slope = tl.load(slope_ptr + row, mask=scored, other=0.0)
        entropy_slope = tl.load(entropy_slope_ptr + row, mask=scored & (has_entropy_slope != 0), other=0.0)
        outside = ((target < 0) & (target != _ELSEWHERE)) | (target >= vocab_size)
        slope = tl.where(scored & outside, float("nan"), slope)
    else:
        logprob = tl.load(logprobs_ptr + token, mask=scored, other=0.0)
        weight = tl.load(weights_ptr + token, mask=scored, other=0.0)
        old, ref, rollout = logprob, logprob, logprob
        if HAS_OLD:
            old = tl.load(old_ptr + token, mask=scored, other=0.0)
        if KL != "none":
            ref = tl.load(ref_ptr + token, mask=scored, other=0.0)
        if CORRECTION != "none":
            rollout = tl.load(rollout_ptr + token, mask=scored, other=0.0)
        slope = _policy_slope(
            logprob, tl.load(advantages_ptr + token, mask=scored, other=0.0), weight, old, ref, rollout,
            clip_low, clip_high, dual_clip, kl_coef, rollout_cap, KIND, DUAL_CLIP, CORRECTION, KL,
        )  # fmt: skip
        entropy_slope = -entropy_coef * weight
    slope /= temperature
    entropy_slope /= temperature
    rate = _LOG2_E / temperature
    shift = tl.load(shift_ptr + token, mask=scored, other=0.0)
    offset = -(shift + tl.load(logsum_ptr + token, mask=scored, other=0.0)) * _LOG2_E
    constant = -(slope + entropy_slope * entropy)
    by_logprob = -entropy_slope * _LN_2

    row_ptr = logits_ptr + row.to(tl.int64) * row_stride
    dlogits_ptr += row.to(tl.int64) * dlogits_stride
    columns = tl.arange(0, BLOCK)
    whole = vocab_size // BLOCK * BLOCK
    element = dlogits_ptr.dtype.element_ty
    if (slope != 0) | (entropy_slope != 0):
        known = (target >= 0) & (target < vocab_size)
        picked = tl.load(row_ptr + target, mask=known, other=0.0)
        if HAS_BIAS:
            picked += tl.load(bias_ptr + target, mask=known, other=0.0)
        if SOFTCAP:
            picked = _capped(picked, softcap)
        tl.debug_barrier()  # every warp has read the target's logit before any writes over it
        # 16-bit gradients lie over the first half of the row: element i over the fp32 logit i // 2. The barrier in the
        # loop keeps a fast warp from writing over what a slow one of this or an earlier block has yet to read; what
        # later blocks read lies further on.
        for first in range(0, whole, BLOCK):
            index = first + columns
            y = _load(row_ptr, bias_ptr, index, vocab_size, softcap, False, HAS_BIAS, SOFTCAP)
            dlogit = _dlogits(y, rate, offset, constant, by_logprob, softcap, SOFTCAP)
            tl.debug_barrier()
            tl.store(dlogits_ptr + index, dlogit.to(element))
        if whole < vocab_size:
            index = whole + columns
            y = _load(row_ptr, bias_ptr, index, vocab_size, softcap, True, HAS_BIAS, SOFTCAP)
            dlogit = _dlogits(y, rate, offset, constant, by_logprob, softcap, SOFTCAP)
            tl.debug_barrier()
            tl.store(dlogits_ptr + index, dlogit.to(element), mask=index < vocab_size)
        tl.debug_barrier()  # the target's gradient comes last, over what the loop has stored there
        by_target = slope
        if SOFTCAP:
            by_target *= 1 - (picked / softcap) * (picked / softcap)
        dlogit = by_target + _dlogits(picked, rate, offset, constant, by_logprob, softcap, SOFTCAP)
        tl.store(dlogits_ptr + target, dlogit.to(element), mask=known)
    else:
        for first in range(0, vocab_size, BLOCK):
            index = first + columns
            tl.store(dlogits_ptr + index, tl.zeros((BLOCK,), element), mask=index < vocab_size)


def in_place(logits: Tensor, dtype: torch.dtype) -> Tensor:
    """[C, V] of `dtype` over the storage of fp32 logits: row r starts where row r of the logits does."""
    return logits.view(dtype)[:, : logits.shape[1]]


def _head_arguments(tokens: Tokens) -> dict[str, Any]:
    """What both kernels are told about bias, soft cap and temperature; absent ones get a pointer that is not read."""
    absent = tokens.logprobs
    return {
        "bias_ptr": absent if tokens.bias is None else tokens.bias,
        "temperature_ptr": absent if tokens.temperature is None else tokens.temperature,
        "has_temperature": int(tokens.temperature is not None),
        "softcap": float(tokens.softcap or 0.0),
        "HAS_BIAS": tokens.bias is not None,
        "SOFTCAP": tokens.softcap is not None,
        "BLOCK": _BLOCK,
        "num_warps": _WARPS,
    }


@on_its_device
def statistics(logits: Tensor, tokens: Tokens, start: int, stop: int) -> None:
    _statistics_rows_kernel[(len(logits),)](
        logits_ptr=logits, targets_ptr=tokens.targets,
        logprobs_ptr=tokens.logprobs, entropy_ptr=tokens.entropy, shift_ptr=tokens.shift, logsum_ptr=tokens.logsum,
        row_stride=logits.stride(0), vocab_size=logits.shape[1], start=start, stop=stop,
        **_head_arguments(tokens),
    )  # fmt: skip


def _launch_gradient(
    logits: Tensor,
    tokens: Tokens,
    start: int,
    stop: int,
    dtype: torch.dtype,
    slopes: tuple[Tensor, Tensor | None] | None,
    inputs: TokenInputs | None,
    objective: PolicyObjective,
) -> Tensor:
    dlogits, absent = in_place(logits, dtype), tokens.logprobs
    slope, entropy_slope = (None, None) if slopes is None else slopes
    given: list[Tensor | None] = [None] * 5
    if inputs is not None:
        optional = (inputs.old_logprobs, inputs.ref_logprobs, inputs.rollout_logprobs)
        given = [inputs.advantages, inputs.weights, *optional]
    names = ("slope_ptr", "entropy_slope_ptr", "advantages_ptr", "weights_ptr", "old_ptr", "ref_ptr", "rollout_ptr")
    per_token = zip(names, (slope, entropy_slope, *given), strict=True)
    _gradient_rows_kernel[(len(logits),)](
        logits_ptr=logits, dlogits_ptr=dlogits, targets_ptr=tokens.targets,
        logprobs_ptr=tokens.logprobs, entropy_ptr=tokens.entropy, shift_ptr=tokens.shift, logsum_ptr=tokens.logsum,
        **{name: absent if value is None else value.contiguous() for name, value in per_token},
        row_stride=logits.stride(0), dlogits_stride=dlogits.stride(0), vocab_size=logits.shape[1],
        start=start, stop=stop, has_entropy_slope=int(entropy_slope is not None),
        clip_low=float(objective.clip_low), clip_high=float(objective.clip_high),
        dual_clip=float(objective.dual_clip or 0.0), kl_coef=float(objective.kl_coef),
        entropy_coef=float(objective.entropy_coef), rollout_cap=float(objective.rollout_cap),
        HAS_OLD=inputs is not None and inputs.old_logprobs is not None,
        KIND="given" if inputs is None else objective.kind,
        DUAL_CLIP=objective.dual_clip is not None,
        CORRECTION=objective.rollout_correction or "none",
        KL=objective.kl_estimator if objective.kl_coef else "none",
        **_head_arguments(tokens),
    )  # fmt: skip
    return dlogits


@on_its_device
def policy_gradient(
    logits: Tensor,
    tokens: Tokens,
    start: int,
    stop: int,
    inputs: TokenInputs,
    objective: PolicyObjective,
    dtype: torch.dtype,
) -> Tensor:
    return _launch_gradient(logits, tokens, start, stop, dtype, None, inputs, objective)


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
    return _launch_gradient(logits, tokens, start, stop, dtype, (slope, entropy_slope), None, PolicyObjective())
