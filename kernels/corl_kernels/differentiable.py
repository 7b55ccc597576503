"""Ops that form their gradients themselves: an autograd.Function or, inside torch.compile, one registered op."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.autograd.function import once_differentiable
from torch.utils.flop_counter import register_flop_formula


class RegisteredOp:
    """A plain function and, inside torch.compile, the registered op corl_kernels::name that calls it: one node of the
    graph, with a FLOP formula in place of its GEMMs."""

    def __init__(
        self, schema: str, function: Callable[..., Any], *, fake: Callable[..., Any], flops: Callable[..., int]
    ):
        """schema  `name(Tensor hidden, ..) -> (Tensor, ..)`, what `function` takes; no output may be an input
        fake    `function` on tensors without values      flops  (*args) -> FLOPs, tensors given as their shapes
        """
        self.name, _, rest = schema.partition("(")
        self.function = function
        self.op = torch.library.custom_op(f"corl_kernels::{self.name}", function, mutates_args=(), schema=f"({rest}")
        self.op.register_fake(fake)
        packet = getattr(torch.ops.corl_kernels, self.name)
        register_flop_formula(packet)(lambda *args, out_shape=None, **_: flops(*args))


class DifferentiableOp:
    """op(*args) -> a tensor or a tuple of them, as `forward` gives it, with gradients it forms itself.

    Outside of torch.compile it is an autograd.Function, whose GEMMs dispatch modes see and torch.func differentiates;
    inside it is the registered op.
    """

    def __init__(
        self,
        forward: RegisteredOp,
        setup_context: Callable[[Any, tuple, Any], None],
        backward: Callable[..., tuple],
        gradients: RegisteredOp | None = None,
    ):
        """setup_context  (ctx, inputs, output), as in torch.autograd.Function
        backward       (gradients, ctx, *grads): the gradients of the inputs. What it leaves to `gradients` a compiler
                       does not look into
        """

        def plainly(ctx: Any, *grads: Tensor | None) -> tuple:
            # torch.func hands out wrapped tensors, which have no memory that a kernel could read; an op unwraps them
            wrapped = any(g is not None and is_functorch_wrapped_tensor(g) for g in grads)
            return backward(gradients and (gradients.op if wrapped else gradients.function), ctx, *grads)

        methods: dict[str, Any] = {
            "forward": staticmethod(forward.function),
            "setup_context": staticmethod(setup_context),
            "backward": staticmethod(once_differentiable(plainly)),
        }
        self._function: Any = type(forward.name, (torch.autograd.Function,), methods)
        self._op = forward.op
        registered = partial(backward, None if gradients is None else gradients.op)
        self._op.register_autograd(registered, setup_context=setup_context)

    def __call__(self, *args: Any, **eager: Any) -> Any:
        """`eager`: further arguments of `forward`, in order, which the registered op does without."""
        if torch.compiler.is_compiling():
            return self._op(*args)
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


def in_units(slope: Tensor, dtype: torch.dtype, *others: Tensor | None) -> tuple[Tensor | None, Any]:
    """The unit, 0-d, in which slopes [T], that a gradient is linear in, are to be given where dlogits are fp16, and a
    function that gives one so; the unit is None and the function changes nothing for every other dtype.

    fp16 holds nothing below 6e-8, which a loss divided by its tokens has. `from_units` multiplies back.
    """
    given = [x for x in (slope, *others) if x is not None and len(x)]
    if dtype != torch.float16 or not given:
        return None, lambda x: x
    largest = torch.stack([x.abs().amax() for x in given]).amax()
    unit = torch.where(largest == 0, 1, largest)
    return unit, lambda x: x / unit


def from_units(gradient: Tensor | None, unit: Tensor | None, leaf: Tensor) -> Tensor:
    """The gradient in the dtype of its leaf; an empty tensor where there is none."""
    if gradient is None:
        return leaf.new_empty(0)
    return gradient.to(leaf.dtype) if unit is None else (gradient * unit.view(1)).to(leaf.dtype)


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
