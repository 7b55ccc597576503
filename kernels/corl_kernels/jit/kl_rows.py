"""Two chunks of logits on the device: the KL divergence between their rows, and its gradient in the policy's place.

The functions without an underscore launch, and take what their namesakes of corl_kernels/kl_rows.py take.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from corl_kernels.jit import on_its_device
from corl_kernels.jit.policy_rows import in_place
from corl_kernels.kl_rows import Divergence

# V vocabulary, C rows of a chunk; row r belongs to token start + r while that is below stop, z = logits / temperature
_LOWEST = tl.constexpr(-1e4)  # exp of it is 0; stands in for -inf, which 0 times would make a NaN
_BLOCK, _WARPS = 2048, 8  # two rows at once: 8 values of each a thread
_PER_TOKEN = (
    "temperature_ptr", "kl_ptr", "shift_ptr", "logsum_ptr", "ref_shift_ptr", "ref_logsum_ptr", "slope_ptr",
)  # fmt: skip


@triton.jit
def _below(z, shift):
    """z - shift, -inf made finite; a NaN stays."""
    below = z - shift
    return tl.where(below < _LOWEST, _LOWEST, below)


@triton.jit(do_not_specialize=("start", "stop"), do_not_specialize_on_alignment=_PER_TOKEN)
def _divergence_rows_kernel(
    logits_ptr, ref_logits_ptr,
    temperature_ptr, kl_ptr, shift_ptr, logsum_ptr, ref_shift_ptr, ref_logsum_ptr,
    row_stride, ref_row_stride, vocab_size, start, stop,
    HAS_TEMPERATURE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """sum_v p (log p - log q) of one row, and both rows' statistics, in one pass over each."""
    row = tl.program_id(0)
    token = start + row
    if token < stop:
        row_ptr = logits_ptr + row.to(tl.int64) * row_stride
        ref_row_ptr = ref_logits_ptr + row.to(tl.int64) * ref_row_stride
        inverse_temperature = 1.0
        if HAS_TEMPERATURE:
            inverse_temperature = 1 / tl.load(temperature_ptr + token)
        columns = tl.arange(0, BLOCK)
        shift, ref_shift = -1e30, -1e30
        total, ref_total = tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.float32)
        weighted = tl.zeros((BLOCK,), tl.float32)  # sum exp(z - shift) ((z - shift) - (z' - ref_shift))
        for first in range(0, vocab_size, BLOCK):
            index = first + columns
            mask = index < vocab_size
            z = tl.load(row_ptr + index, mask=mask, other=float("-inf")) * inverse_temperature
            ref_z = tl.load(ref_row_ptr + index, mask=mask, other=float("-inf")) * inverse_temperature
            higher, ref_higher = tl.maximum(shift, tl.max(z, 0)), tl.maximum(ref_shift, tl.max(ref_z, 0))
            below, ref_below = _below(z, higher), _below(ref_z, ref_higher)
            exponential, factor = tl.exp(below), tl.exp(shift - higher)
            fall = (shift - higher) - (ref_shift - ref_higher)
            # where p vanishes so does its term, whatever q is
            gap = tl.where(exponential > 0, below - ref_below, exponential)
            weighted = (weighted + fall * total) * factor + exponential * gap
            total = total * factor + exponential
            ref_total = ref_total * tl.exp(ref_shift - ref_higher) + tl.exp(ref_below)
            shift, ref_shift = higher, ref_higher
        norm = tl.sum(total, 0)
        logsum, ref_logsum = tl.log(norm), tl.log(tl.sum(ref_total, 0))
        tl.store(kl_ptr + token, tl.sum(weighted, 0) / norm - (logsum - ref_logsum))
        tl.store(shift_ptr + token, shift)
        tl.store(logsum_ptr + token, logsum)
        tl.store(ref_shift_ptr + token, ref_shift)
        tl.store(ref_logsum_ptr + token, ref_logsum)


@triton.jit(do_not_specialize=("start", "stop"), do_not_specialize_on_alignment=_PER_TOKEN)
def _divergence_gradient_rows_kernel(
    logits_ptr, ref_logits_ptr, dlogits_ptr,
    temperature_ptr, kl_ptr, shift_ptr, logsum_ptr, ref_shift_ptr, ref_logsum_ptr, slope_ptr,
    row_stride, ref_row_stride, dlogits_stride, vocab_size, start, stop,
    HAS_TEMPERATURE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """dlogit = slope p (log p - log q - KL) / temperature of one row, or zeros."""
    row = tl.program_id(0)
    token = start + row
    live = token < stop
    row_ptr = logits_ptr + row.to(tl.int64) * row_stride
    ref_row_ptr = ref_logits_ptr + row.to(tl.int64) * ref_row_stride
    dlogits_ptr += row.to(tl.int64) * dlogits_stride
    inverse_temperature = 1.0
    if HAS_TEMPERATURE:
        inverse_temperature = 1 / tl.load(temperature_ptr + token, mask=live, other=1.0)
    shift = tl.load(shift_ptr + token, mask=live, other=0.0)
    logsum = tl.load(logsum_ptr + token, mask=live, other=0.0)
    ref_shift = tl.load(ref_shift_ptr + token, mask=live, other=0.0)
    ref_logsum = tl.load(ref_logsum_ptr + token, mask=live, other=0.0)
    kl = tl.load(kl_ptr + token, mask=live, other=0.0)
    slope = tl.load(slope_ptr + row, mask=live, other=0.0) * inverse_temperature
    columns = tl.arange(0, BLOCK)
    for first in range(0, vocab_size, BLOCK):
        index = first + columns
        mask = index < vocab_size
        dlogit = tl.zeros((BLOCK,), tl.float32)
        if slope != 0:
            z = tl.load(row_ptr + index, mask=mask, other=0.0) * inverse_temperature
            ref_z = tl.load(ref_row_ptr + index, mask=mask, other=0.0) * inverse_temperature
            logprob = _below(z, shift) - logsum
            gap = logprob - (_below(ref_z, ref_shift) - ref_logsum)
            dlogit = slope * tl.exp(logprob) * (gap - kl)
        # 16-bit gradients lie over the first half of the row, as in policy_rows._write_gradient
        tl.debug_barrier()
        tl.store(dlogits_ptr + index, dlogit.to(dlogits_ptr.dtype.element_ty), mask=mask)


@on_its_device
def divergence(logits: Tensor, ref_logits: Tensor, tokens: Divergence, start: int, stop: int) -> None:
    _divergence_rows_kernel[(len(logits),)](
        logits, ref_logits,
        tokens.kl if tokens.temperature is None else tokens.temperature,
        tokens.kl, tokens.shift, tokens.logsum, tokens.ref_shift, tokens.ref_logsum,
        logits.stride(0), ref_logits.stride(0), logits.shape[1], start, stop,
        HAS_TEMPERATURE=tokens.temperature is not None, BLOCK=_BLOCK, num_warps=_WARPS,
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
        HAS_TEMPERATURE=tokens.temperature is not None, BLOCK=_BLOCK, num_warps=_WARPS,
    )  # fmt: skip
    return dlogits
