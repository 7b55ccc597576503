"""SwiGLU's gate: silu(gate) * up, of one projection's output or of two."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from corl_kernels.checks import check_tensor
from corl_kernels.differentiable import DifferentiableOp, RegisteredOp
from corl_kernels.norm import DTYPES

# T rows, I channels


def _forward(gate: Tensor, up: Tensor | None) -> Tensor:
    from corl_kernels.jit.swiglu import launch_swiglu

    return launch_swiglu(*_halves(gate, up))


def _gradients(grad: Tensor, gate: Tensor, up: Tensor | None) -> Tensor:
    """The gradients of gate and up, side by side."""
    from corl_kernels.jit.swiglu import launch_swiglu_backward

    return launch_swiglu_backward(grad, *_halves(gate, up))


def _setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(gradients: Any, ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
    gate, up = ctx.saved_tensors
    both = gradients(grad if grad.stride(-1) == 1 else grad.contiguous(), gate, up)
    if up is None:
        return both, None
    gate_grad, up_grad = both.chunk(2, dim=1)
    return gate_grad if ctx.needs_input_grad[0] else None, up_grad if ctx.needs_input_grad[1] else None


_OP = RegisteredOp(
    "swiglu(Tensor gate, Tensor? up) -> Tensor",
    _forward,
    fake=lambda gate, up: gate.new_empty(gate.shape[0], gate.shape[1] // (2 if up is None else 1)),
    flops=lambda *_: 0,
)
_GRADIENTS = RegisteredOp(
    "swiglu_gradients(Tensor grad, Tensor gate, Tensor? up) -> Tensor",
    _gradients,
    fake=lambda grad, gate, up: gate.new_empty(gate.shape[0], gate.shape[1] * (1 if up is None else 2)),
    flops=lambda *_: 0,
)
_swiglu = DifferentiableOp(_OP, _setup_context, _backward, _GRADIENTS)


def swiglu(gate: Tensor, up: Tensor | None = None) -> Tensor:
    """silu(gate) * up, differentiable in both. Shazeer 2020, arXiv:2002.05202.

    gate     [.., I] bf16, fp16 or fp32 (on CPU fp64 too), dense in the last dimension; without `up` it is
             gate | up [.., 2 I], the output of one projection, and so is its gradient
    up       shape and dtype of gate
    returns  [.., I], dtype of gate
    On CUDA everything is fp32 inside and rounded once; on CPU silu(gate) is rounded first, as transformers does it.
    Raises ValueError for shapes, dtypes, devices and strides.
    """
    _check(gate, up)
    if not gate.is_cuda:
        gate, up = _halves(gate, up)
        return F.silu(gate) * up
    out = _swiglu(_matrix(gate), None if up is None else _matrix(up))
    return out.view(*gate.shape[:-1], out.shape[1])


def swiglu_reference(gate: Tensor, up: Tensor | None = None) -> Tensor:
    """The same in fp32 or, for fp64 inputs, fp64, rounded once."""
    dtype = torch.promote_types(gate.dtype, torch.float32)
    wide_gate, wide_up = (x.to(dtype) for x in _halves(gate, up))
    return (wide_gate * torch.sigmoid(wide_gate) * wide_up).to(gate.dtype)


def _halves(gate: Tensor, up: Tensor | None) -> tuple[Tensor, Tensor]:
    if up is not None:
        return gate, up
    gate, up = gate.chunk(2, dim=-1)
    return gate, up


def _matrix(x: Tensor) -> Tensor:
    return x if x.ndim == 2 else x.reshape(-1, x.shape[-1])


def _check(gate: Tensor, up: Tensor | None) -> None:
    dtypes = DTYPES if gate.is_cuda else (*DTYPES, torch.float64)
    check_tensor("gate", gate, (None,) * max(gate.ndim, 1), gate, dtypes)
    if up is None and gate.shape[-1] % 2:
        raise ValueError(f"gate has {gate.shape[-1]} channels; gate | up must have an even number, or pass up as well")
    if up is not None:
        check_tensor("up", up, tuple(gate.shape), gate, (gate.dtype,))
    for name, tensor in (("gate", gate), ("up", gate if up is None else up)):
        if tensor.stride(-1) != 1 and tensor.shape[-1] > 1:
            raise ValueError(f"{name} has stride {tensor.stride(-1)} in its last dimension; pass {name}.contiguous()")
