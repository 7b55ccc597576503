"""RMSNorm of rows, with the addition of a residual before it, forward and backward: a program holds a row at a time."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from corl_kernels.jit import on_its_device

# T rows, D channels, P programs of a backward

# Where the weight has a gradient: two for each of the 132 multiprocessors of an H100, which run at once. A constant,
# so that the order of the sums depends on T alone.
_PROGRAMS = 264
# Values of a row that a thread holds, up to 8,192 channels. With 16 the backward of 5,120 took 128 registers: 16 warps
# fit a multiprocessor. With 8 it takes 64, and 32 fit (python -m corl_kernels.aot --only norm).
_VALUES, _MAX_WARPS = 8, 32


@triton.jit
def _load_row(ptr, row, stride, DIM: tl.constexpr, BLOCK: tl.constexpr):
    columns = tl.arange(0, BLOCK)
    return tl.load(ptr + row * stride + columns, mask=columns < DIM, other=0.0).to(tl.float32)


@triton.jit
def _rms_norm_fwd_kernel(
    x_ptr, residual_ptr, weight_ptr, normed_ptr, total_ptr,
    stride_x, stride_residual,
    eps,
    DIM: tl.constexpr, BLOCK: tl.constexpr, ADD: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    x = _load_row(x_ptr, row, stride_x, DIM, BLOCK)
    if ADD:
        # What is stored is what is normed, so that the way back reads the same row.
        total = (x + _load_row(residual_ptr, row, stride_residual, DIM, BLOCK)).to(total_ptr.dtype.element_ty)
        tl.store(total_ptr + row * DIM + columns, total, mask=columns < DIM)
        x = total.to(tl.float32)
    rstd = tl.rsqrt(tl.sum(x * x, axis=0) / DIM + eps)
    normed = x * rstd * _load_row(weight_ptr, 0, 0, DIM, BLOCK)
    tl.store(normed_ptr + row * DIM + columns, normed.to(normed_ptr.dtype.element_ty), mask=columns < DIM)


@triton.jit(do_not_specialize=["rows"])
def _rms_norm_bwd_kernel(
    grad_ptr, total_grad_ptr, x_ptr, weight_ptr, out_ptr, sums_ptr,
    rows, stride_grad, stride_total_grad, stride_x,
    eps,
    DIM: tl.constexpr, BLOCK: tl.constexpr, ADD: tl.constexpr, WEIGHT_GRAD: tl.constexpr,
):  # fmt: skip
    """Program p takes the rows p, p + P, ... and stores what they add to the weight's gradient in sums [P, D].

    With n = x / rms(x) and g the gradient of n * weight: dweight = g n and, for h = g weight,
    dx = (h - n mean(h n)) / rms(x), plus the gradient that x has as the residual stream.
    """
    program = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    weight = _load_row(weight_ptr, 0, 0, DIM, BLOCK)
    sums = tl.zeros((BLOCK,), tl.float32)
    for row in range(program, rows, tl.num_programs(0)):
        x = _load_row(x_ptr, row, stride_x, DIM, BLOCK)
        grad = _load_row(grad_ptr, row, stride_grad, DIM, BLOCK)
        rstd = tl.rsqrt(tl.sum(x * x, axis=0) / DIM + eps)
        normed = x * rstd
        if WEIGHT_GRAD:
            sums += grad * normed
        grad *= weight
        grad = (grad - normed * (tl.sum(grad * normed, axis=0) / DIM)) * rstd
        if ADD:
            grad += _load_row(total_grad_ptr, row, stride_total_grad, DIM, BLOCK)
        tl.store(out_ptr + row * DIM + columns, grad.to(out_ptr.dtype.element_ty), mask=columns < DIM)
    if WEIGHT_GRAD:
        tl.store(sums_ptr + program * DIM + columns, sums, mask=columns < DIM)


@on_its_device
def launch_rms_norm(x: Tensor, residual: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor | None]:
    """The normed rows and, with a residual, the sums x + residual; the arguments are dense in the last dimension."""
    normed = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    total = None if residual is None else torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if len(x):
        _rms_norm_fwd_kernel[(len(x),)](
            x, residual, weight, normed, total,
            x.stride(0), 0 if residual is None else residual.stride(0),
            eps,
            **_sizes(x), ADD=residual is not None,
        )  # fmt: skip
    return normed, total


@on_its_device
def launch_rms_norm_backward(
    grad: Tensor, total_grad: Tensor | None, x: Tensor, weight: Tensor, eps: float, *, weight_grad: bool
) -> tuple[Tensor, Tensor | None]:
    """The gradient of x [T, D], total_grad added, and, if wanted, that of the weight [D] in fp32.

    grad, total_grad, x  [T, D], dense in the last dimension; x is what was normed
    """
    rows, dim = x.shape
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    programs = min(rows, _PROGRAMS) if weight_grad else rows
    sums = x.new_empty(programs, dim, dtype=torch.float32) if weight_grad else None
    if rows:
        _rms_norm_bwd_kernel[(programs,)](
            grad, total_grad, x, weight, out, sums,
            rows, grad.stride(0), 0 if total_grad is None else total_grad.stride(0), x.stride(0),
            eps,
            **_sizes(x), ADD=total_grad is not None, WEIGHT_GRAD=weight_grad,
        )  # fmt: skip
    return out, None if sums is None else sums.sum(0)


def _sizes(x: Tensor) -> dict[str, int]:
    block = triton.next_power_of_2(x.shape[1])
    return {"DIM": x.shape[1], "BLOCK": block, "num_warps": min(_MAX_WARPS, max(1, block // (32 * _VALUES)))}
