"""RMSNorm of every row of a matrix, alone or of its sum with a residual stream, which is returned as well."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from corl_kernels.checks import check_tensor
from corl_kernels.differentiable import DifferentiableOp, RegisteredOp, placeholder

# T rows, D channels
DTYPES = (torch.bfloat16, torch.float16, torch.float32)
MAX_DIM = 16384  # on CUDA a program holds a whole row in registers


def _forward(x: Tensor, residual: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    from corl_kernels.jit.norm import launch_rms_norm

    normed, total = launch_rms_norm(x, residual, weight, eps)
    return normed, placeholder(total, x)


def _gradients(
    grad: Tensor, total_grad: Tensor | None, x: Tensor, weight: Tensor, eps: float, weight_grad: bool
) -> tuple[Tensor, Tensor]:
    """The gradients of what was normed and, if wanted, of the weight."""
    from corl_kernels.jit.norm import launch_rms_norm_backward

    x_grad, sums = launch_rms_norm_backward(grad, total_grad, x, weight, eps, weight_grad=weight_grad)
    return x_grad, placeholder(None if sums is None else sums.to(weight.dtype), weight)


def _setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
    x, residual, weight, ctx.eps = inputs
    ctx.save_for_backward(x if residual is None else output[1], weight)
    ctx.set_materialize_grads(False)  # the last layer's stream goes nowhere


def _backward(gradients: Any, ctx: Any, grad: Tensor | None, total_grad: Tensor | None) -> tuple[Tensor | None, ...]:
    want_x, want_residual, want_weight, _ = ctx.needs_input_grad
    x_grad, weight_grad = total_grad, None
    if grad is not None:
        x, weight = ctx.saved_tensors
        grads = (g if g is None or g.stride(-1) == 1 else g.contiguous() for g in (grad, total_grad))
        x_grad, weight_grad = gradients(*grads, x, weight, ctx.eps, want_weight)
    return x_grad if want_x else None, x_grad if want_residual else None, weight_grad if want_weight else None, None


_OP = RegisteredOp(
    "rms_norm(Tensor x, Tensor? residual, Tensor weight, float eps) -> (Tensor, Tensor)",
    _forward,
    fake=lambda x, residual, weight, eps: (
        x.new_empty(x.shape), x.new_empty(0) if residual is None else x.new_empty(x.shape)
    ),
    flops=lambda *_: 0,
)  # fmt: skip
_GRADIENTS = RegisteredOp(
    "rms_norm_gradients(Tensor grad, Tensor? total_grad, Tensor x, Tensor weight, float eps, bool weight_grad) -> "
    "(Tensor, Tensor)",
    _gradients,
    fake=lambda grad, total_grad, x, weight, eps, weight_grad: (
        x.new_empty(x.shape), weight.new_empty(weight.shape if weight_grad else 0)
    ),
    flops=lambda *_: 0,
)  # fmt: skip
# the normed rows and, with a residual, the sums
_rms_norm = DifferentiableOp(_OP, _setup_context, _backward, _GRADIENTS)


def rms_norm(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    """x / rms(x) * weight over the last dimension; differentiable in both.

    x        [.., D] bf16, fp16 or fp32 (on CPU fp64 too), dense in the last dimension; on CUDA D is at most 16,384
    weight   [D], dtype of x
    returns  the shape and dtype of x
    On CUDA everything is fp32 inside and rounded once; on CPU it is rounded where transformers does, once more before
    the weight is applied. The weight's gradient is summed in fp32, in an order that depends on the shape alone.
    Raises ValueError for shapes, dtypes, devices, strides and an eps that is not above 0.
    Zhang and Sennrich 2019, arXiv:1910.07467.
    """
    _check(x, None, weight, eps)
    if not x.is_cuda:
        return torch_rms_norm(x, weight, eps)
    return _rms_norm(_matrix(x), None, weight, eps)[0].view(x.shape)


def add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, *, eps: float) -> tuple[Tensor, Tensor]:
    """rms_norm(x + residual, weight) and x + residual, the stream that the next residual connection adds to.

    residual  shape and dtype of x; the other arguments are those of rms_norm, and so are the errors
    returns   (normed, total): two new tensors. total is rounded to the dtype of x before it is normed
    """
    _check(x, residual, weight, eps)
    if not x.is_cuda:
        total = residual + x
        return torch_rms_norm(total, weight, eps), total
    normed, total = _rms_norm(_matrix(x), _matrix(residual), weight, eps)
    return normed.view(x.shape), total.view(x.shape)


def rms_norm_reference(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    """The same in fp32 or, for fp64 inputs, fp64, rounded once."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    return F.rms_norm(x.to(dtype), x.shape[-1:], weight.to(dtype), eps).to(x.dtype)


def add_rms_norm_reference(x: Tensor, residual: Tensor, weight: Tensor, *, eps: float) -> tuple[Tensor, Tensor]:
    """The same of the sum, which is rounded before it is normed."""
    total = x + residual
    return rms_norm_reference(total, weight, eps=eps), total


def torch_rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """rms_norm as torch ops: fp32 inside (fp64 for fp64), rounded to the input's dtype before the weight is applied."""
    wide = x if x.dtype == torch.float64 else x.float()
    return weight * (wide * wide.square().mean(-1, keepdim=True).add_(eps).rsqrt_()).to(x.dtype)


def _matrix(x: Tensor) -> Tensor:
    return x if x.ndim == 2 else x.reshape(-1, x.shape[-1])


def _check(x: Tensor, residual: Tensor | None, weight: Tensor, eps: float) -> None:
    dtypes = DTYPES if x.is_cuda else (*DTYPES, torch.float64)
    check_tensor("x", x, (None,) * max(x.ndim, 1), x, dtypes)
    dim = x.shape[-1]
    check_tensor("weight", weight, (dim,), x, (x.dtype,))
    dense = [("x", x), ("weight", weight)]
    if residual is not None:
        check_tensor("residual", residual, tuple(x.shape), x, (x.dtype,))
        dense.append(("residual", residual))
    if dim < 1 or (x.is_cuda and dim > MAX_DIM):
        raise ValueError(f"x has {dim} channels; there must be at least 1 and, on CUDA, at most {MAX_DIM}")
    if not eps > 0:
        raise ValueError(f"eps={eps} must be above 0")
    for name, tensor in dense:
        if tensor.stride(-1) != 1 and dim > 1:
            raise ValueError(f"{name} has stride {tensor.stride(-1)} in its last dimension; pass {name}.contiguous()")
