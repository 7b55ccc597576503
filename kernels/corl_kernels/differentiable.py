"""Ops that form their gradients themselves: an autograd.Function or, inside torch.compile, one registered op."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.flop_counter import register_flop_formula


class DifferentiableOp:
    """op(*args) -> tuple of tensors.

    Outside of torch.compile it is an autograd.Function, whose GEMMs dispatch modes see and torch.func differentiates.
    Inside it is the registered op corl_kernels::name, one node of the graph, with a FLOP formula in place of its GEMMs.
    """

    def __init__(
        self,
        schema: str,
        forward: Callable[..., tuple[Tensor, ...]],
        setup_context: Callable[[Any, tuple, Any], None],
        backward: Callable[..., tuple],
        *,
        fake: Callable[..., tuple[Tensor, ...]],
        flops: Callable[..., int],
    ):
        """schema         `name(Tensor hidden, ..) -> (Tensor, ..)`, what `forward` takes; no output may be an input
        setup_context  (ctx, inputs, output), and `backward` (ctx, *grads): as in torch.autograd.Function
        fake           `forward` on tensors without values      flops  (*args) -> FLOPs, tensors given as their shapes
        """
        name, _, rest = schema.partition("(")
        methods = {"forward": forward, "setup_context": setup_context, "backward": once_differentiable(backward)}
        parts = {key: staticmethod(method) for key, method in methods.items()}
        self._function = type(name, (torch.autograd.Function,), parts)
        self._registered = torch.library.custom_op(f"corl_kernels::{name}", forward, mutates_args=(), schema=f"({rest}")
        self._registered.register_fake(fake)
        self._registered.register_autograd(backward, setup_context=setup_context)
        register_flop_formula(getattr(torch.ops.corl_kernels, name))(lambda *args, out_shape=None, **_: flops(*args))

    def __call__(self, *args: Any, **eager: Any) -> tuple[Tensor, ...]:
        """`eager`: further arguments of `forward`, in order, which the registered op does without."""
        if torch.compiler.is_compiling():
            return self._registered(*args)
        return self._function.apply(*args, *eager.values())


def wants_gradient(*tensors: Tensor | None) -> tuple[bool, ...]:
    """Which of them a gradient will be asked for."""
    enabled = torch.is_grad_enabled()
    return tuple(enabled and x is not None and x.requires_grad for x in tensors)


def placeholder(value: Tensor | None, like: Tensor) -> Tensor:
    """The value, or an empty tensor where there is none: what a registered op can return."""
    return like.new_empty(0) if value is None else value


def is_placeholder(value: Tensor) -> bool:
    return value.shape == (0,)


def scale_gradient(gradient: Tensor, factor: Tensor, dtype: torch.dtype) -> Tensor:
    """gradient * factor (0-d), computed in fp32 or wider and rounded once to `dtype`.

    In place where that is the dtype already and no second backward can read `gradient`.
    """
    in_place = gradient.dtype == dtype and not _graph_is_kept()
    out = gradient if in_place else torch.empty_like(gradient, dtype=dtype)
    return torch.mul(gradient, factor.view(1), out=out)  # a 0-d factor would be rounded to the gradient's dtype first


def _graph_is_kept() -> bool:
    """Whether the backward under way may run again (retain_graph, create_graph); True where torch cannot tell."""
    probe = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", None)
    return True if probe is None else probe()
