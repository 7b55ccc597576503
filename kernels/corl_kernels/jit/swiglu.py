"""silu(gate) * up and its way back: a program takes a block of one row."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from corl_kernels.jit import on_its_device

# T rows, I channels

_BLOCK = 1024  # channels of a program
_WARPS = 4  # 8 values a thread: 16 bytes of each operand in bf16


@triton.jit
def _sigmoid(x):
    """1 / (1 + exp(-x)), of which exp2 is one instruction; exp2 of a large number is inf, its reciprocal 0."""
    return 1.0 / (1.0 + tl.exp2(-1.4426950408889634 * x))


@triton.jit
def _swiglu_fwd_kernel(
    gate_ptr, up_ptr, out_ptr,
    stride_gate, stride_up,
    DIM: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    blocks = tl.cdiv(DIM, BLOCK)
    row = (tl.program_id(0) // blocks).to(tl.int64)
    columns = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    mask = columns < DIM
    gate = tl.load(gate_ptr + row * stride_gate + columns, mask=mask, other=0.0).to(tl.float32)
    up = tl.load(up_ptr + row * stride_up + columns, mask=mask, other=0.0).to(tl.float32)
    out = gate * _sigmoid(gate) * up
    tl.store(out_ptr + row * DIM + columns, out.to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _swiglu_bwd_kernel(
    grad_ptr, gate_ptr, up_ptr, out_ptr,
    stride_grad, stride_gate, stride_up,
    DIM: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """With s = sigmoid(gate): dgate = g up s (1 + gate (1 - s)) and dup = g gate s, side by side in out [T, 2 I]."""
    blocks = tl.cdiv(DIM, BLOCK)
    row = (tl.program_id(0) // blocks).to(tl.int64)
    columns = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    mask = columns < DIM
    grad = tl.load(grad_ptr + row * stride_grad + columns, mask=mask, other=0.0).to(tl.float32)
    gate = tl.load(gate_ptr + row * stride_gate + columns, mask=mask, other=0.0).to(tl.float32)
    up = tl.load(up_ptr + row * stride_up + columns, mask=mask, other=0.0).to(tl.float32)
    sigmoid = _sigmoid(gate)
    gate_grad = grad * up * sigmoid * (1.0 + gate * (1.0 - sigmoid))
    up_grad = grad * gate * sigmoid
    out = out_ptr + row * (2 * DIM) + columns
    tl.store(out, gate_grad.to(out_ptr.dtype.element_ty), mask=mask)
    tl.store(out + DIM, up_grad.to(out_ptr.dtype.element_ty), mask=mask)


@on_its_device
def launch_swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up [T, I]; both are dense in the last dimension."""
    rows, dim = gate.shape
    out = torch.empty(rows, dim, dtype=gate.dtype, device=gate.device)
    if out.numel():
        _swiglu_fwd_kernel[(rows * triton.cdiv(dim, _BLOCK),)](
            gate, up, out,
            gate.stride(0), up.stride(0),
            dim, _BLOCK,
            num_warps=_WARPS,
        )  # fmt: skip
    return out


@on_its_device
def launch_swiglu_backward(grad: Tensor, gate: Tensor, up: Tensor) -> Tensor:
    """The gradients of gate and up, side by side [T, 2 I]; the arguments are dense in the last dimension."""
    rows, dim = gate.shape
    out = torch.empty(rows, 2 * dim, dtype=gate.dtype, device=gate.device)
    if out.numel():
        _swiglu_bwd_kernel[(rows * triton.cdiv(dim, _BLOCK),)](
            grad, gate, up, out,
            grad.stride(0), gate.stride(0), up.stride(0),
            dim, _BLOCK,
            num_warps=_WARPS,
        )  # fmt: skip
    return out
