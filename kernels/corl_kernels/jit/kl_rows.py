"""Two chunks of logits on the device: the KL divergence between their rows, and its gradient in the policy's place.

The functions without an underscore launch, and take what their namesakes of corl_kernels/kl_rows.py take.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from corl_kernels.jit import on_its_device
from corl_kernels.jit.policy_rows import (
    _LN_2,
    _LOG2_E,
    _LOWEST,
    _PER_LOAD,
    _below,
    _exp2,
    _largest,
    _load_tiles,
    in_place,
)
from corl_kernels.kl_rows import Divergence

# V vocabulary, C rows of a chunk; row r belongs to token start + r while that is below stop, z = logits / temperature.
# Exponents are in units of log2, lanes as in policy_rows: rate = log2(e) / temperature.
_BLOCK, _WARPS = 2048, 4  # two rows at once: 16 values of each a thread
_PER_TOKEN = (
    "temperature_ptr", "kl_ptr", "shift_ptr", "logsum_ptr", "ref_shift_ptr", "ref_logsum_ptr", "slope_ptr",
)  # fmt: skip


@triton.jit
def _fold_pair(y, ref_y, rate, top, ref_top, total, ref_total, weighted):
    """A block more in every lane's statistics of both rows.

    With d = y rate - top and d' of the reference: total = sum 2^d, ref_total = sum 2^d', weighted = sum 2^d (d - d').
    """
    higher, ref_higher = tl.maximum(top, _largest(y) * rate), tl.maximum(ref_top, _largest(ref_y) * rate)
    factor, fall = _exp2(top - higher), (top - higher) - (ref_top - ref_higher)
    total, weighted = total * factor, tl.fma(fall, total, weighted) * factor
    ref_total *= _exp2(ref_top - ref_higher)
    for tile in tl.static_range(4):
        below, ref_below = _below(y[tile], rate, higher), _below(ref_y[tile], rate, ref_higher)
        exponential = _exp2(below)
        # where p vanishes so does its term, whatever q is
        gap = tl.where(exponential > 0, below - ref_below, exponential)
        total += tl.sum(exponential, 1)
        ref_total += tl.sum(_exp2(ref_below), 1)
        weighted += tl.sum(exponential * gap, 1)
    return higher, ref_higher, total, ref_total, weighted


@triton.jit(do_not_specialize=("start", "stop", "has_temperature"), do_not_specialize_on_alignment=_PER_TOKEN)
def _divergence_rows_kernel(
    logits_ptr, ref_logits_ptr,
    temperature_ptr, kl_ptr, shift_ptr, logsum_ptr, ref_shift_ptr, ref_logsum_ptr,
    row_stride, ref_row_stride, vocab_size, start, stop, has_temperature,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """sum_v p (log p - log q) of one row, and both rows' statistics, in one pass over each."""
    LANES: tl.constexpr = BLOCK // (4 * _PER_LOAD)
    row = tl.program_id(0)
    token = start + row
    if token < stop:
        row_ptr = logits_ptr + row.to(tl.int64) * row_stride
        ref_row_ptr = ref_logits_ptr + row.to(tl.int64) * ref_row_stride
        rate = _LOG2_E / tl.load(temperature_ptr + token, mask=has_temperature != 0, other=1.0)
        top, ref_top = tl.full((LANES,), -1e30, tl.float32), tl.full((LANES,), -1e30, tl.float32)
        total, ref_total = tl.zeros((LANES,), tl.float32), tl.zeros((LANES,), tl.float32)
        weighted = tl.zeros((LANES,), tl.float32)
        whole = vocab_size // BLOCK * BLOCK
        for first in range(0, whole, BLOCK):
            y = _load_tiles(row_ptr, row_ptr, first, vocab_size, 0.0, False, False, False, LANES)
            ref_y = _load_tiles(ref_row_ptr, ref_row_ptr, first, vocab_size, 0.0, False, False, False, LANES)
            top, ref_top, total, ref_total, weighted = _fold_pair(
                y, ref_y, rate, top, ref_top, total, ref_total, weighted
            )
        if whole < vocab_size:
            y = _load_tiles(row_ptr, row_ptr, whole, vocab_size, 0.0, True, False, False, LANES)
            ref_y = _load_tiles(ref_row_ptr, ref_row_ptr, whole, vocab_size, 0.0, True, False, False, LANES)
            top, ref_top, total, ref_total, weighted = _fold_pair(
                y, ref_y, rate, top, ref_top, total, ref_total, weighted
            )
        highest, ref_highest = tl.max(top, 0), tl.max(ref_top, 0)
        factor, fall = _exp2(top - highest), (top - highest) - (ref_top - ref_highest)
        norm = tl.sum(total * factor, 0)
        excess = tl.sum(tl.fma(fall, total, weighted) * factor, 0) / norm * _LN_2
        logsum = tl.log(norm)
        ref_logsum = tl.log(tl.sum(ref_total * _exp2(ref_top - ref_highest), 0))
        tl.store(kl_ptr + token, excess - (logsum - ref_logsum))
        tl.store(shift_ptr + token, highest * _LN_2)
        tl.store(logsum_ptr + token, logsum)
        tl.store(ref_shift_ptr + token, ref_highest * _LN_2)
        tl.store(ref_logsum_ptr + token, ref_logsum)


@triton.jit(do_not_specialize=("start", "stop", "has_temperature"), do_not_specialize_on_alignment=_PER_TOKEN)
def _divergence_gradient_rows_kernel(
    logits_ptr, ref_logits_ptr, dlogits_ptr,
    temperature_ptr, kl_ptr, shift_ptr, logsum_ptr, ref_shift_ptr, ref_logsum_ptr, slope_ptr,
    row_stride, ref_row_stride, dlogits_stride, vocab_size, start, stop, has_temperature,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """dlogit = slope p (log p - log q - KL) / temperature of one row, or zeros."""
    row = tl.program_id(0)
    token = start + row
    live = token < stop
    row_ptr = logits_ptr + row.to(tl.int64) * row_stride
    ref_row_ptr = ref_logits_ptr + row.to(tl.int64) * ref_row_stride
    dlogits_ptr += row.to(tl.int64) * dlogits_stride
    temperature = tl.load(temperature_ptr + token, mask=live & (has_temperature != 0), other=1.0)
    rate = _LOG2_E / temperature
    shift = tl.load(shift_ptr + token, mask=live, other=0.0)
    ref_shift = tl.load(ref_shift_ptr + token, mask=live, other=0.0)
    top = (shift + tl.load(logsum_ptr + token, mask=live, other=0.0)) * _LOG2_E
    ref_top = (ref_shift + tl.load(ref_logsum_ptr + token, mask=live, other=0.0)) * _LOG2_E
    kl = tl.load(kl_ptr + token, mask=live, other=0.0)
    slope = tl.load(slope_ptr + row, mask=live, other=0.0) / temperature
    columns = tl.arange(0, BLOCK)
    for first in range(0, vocab_size, BLOCK):
        index = first + columns
        mask = index < vocab_size
        dlogit = tl.zeros((BLOCK,), tl.float32)
        if slope != 0:
            y = tl.load(row_ptr + index, mask=mask, other=0.0)
            ref_y = tl.load(ref_row_ptr + index, mask=mask, other=0.0)
            logprob = tl.maximum(tl.fma(y, rate, -top), _LOWEST, propagate_nan=tl.PropagateNan.ALL)
            ref_logprob = tl.maximum(tl.fma(ref_y, rate, -ref_top), _LOWEST, propagate_nan=tl.PropagateNan.ALL)
            gap = (logprob - ref_logprob) * _LN_2
            dlogit = slope * _exp2(logprob) * (gap - kl)
        # 16-bit gradients lie over the first half of the row, as in policy_rows._gradient_rows_kernel
        tl.debug_barrier()
        tl.store(dlogits_ptr + index, dlogit.to(dlogits_ptr.dtype.element_ty), mask=mask)


@on_its_device
def divergence(logits: Tensor, ref_logits: Tensor, tokens: Divergence, start: int, stop: int) -> None:
    _divergence_rows_kernel[(len(logits),)](
        logits, ref_logits,
        tokens.kl if tokens.temperature is None else tokens.temperature,
        tokens.kl, tokens.shift, tokens.logsum, tokens.ref_shift, tokens.ref_logsum,
        logits.stride(0), ref_logits.stride(0), logits.shape[1], start, stop,
        int(tokens.temperature is not None), BLOCK=_BLOCK, num_warps=_WARPS,
    )  # fmt: skip


@on_its_device
def gradient(
    logits: Tensor,
    ref_logits: Tensor,
    tokens: Divergence,
    start: int,
    stop: int,
    slope: Tensor,
    dtype: torch.dtype,
) -> Tensor:
    dlogits = in_place(logits, dtype)
    _divergence_gradient_rows_kernel[(len(logits),)](
        logits, ref_logits, dlogits,
        tokens.kl if tokens.temperature is None else tokens.temperature,
        tokens.kl, tokens.shift, tokens.logsum, tokens.ref_shift, tokens.ref_logsum, slope.contiguous(),
        logits.stride(0), ref_logits.stride(0), dlogits.stride(0), logits.shape[1], start, stop,
        int(tokens.temperature is not None), BLOCK=_BLOCK, num_warps=_WARPS,
    )  # fmt: skip
    return dlogits
