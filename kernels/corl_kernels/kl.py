"""Exact KL divergence from a reference policy over the whole vocabulary, without the [T, V] logits."""

from types import ModuleType

import torch
from torch import Tensor

from corl_kernels import kl_rows
from corl_kernels.checks import check_head, check_tensor, row_temperature, shaped
from corl_kernels.chunks import Head, operand_dtype
from corl_kernels.differentiable import DifferentiableOp, RegisteredOp, from_units, in_units


# T tokens, H hidden, V vocabulary
def _row_functions(hidden: Tensor) -> ModuleType:
    if hidden.is_cuda:
        from corl_kernels.jit import kl_rows as device_rows

        return device_rows
    return kl_rows


def _forward(hidden, weight, ref_hidden, ref_weight, temperature, operand, ref_operand):
    """KL, then max z and log sum exp(z - max z) of the policy and of the reference."""
    policy, reference = Head(hidden, weight, operand=operand), Head(ref_hidden, ref_weight, operand=ref_operand)
    rows, results = _row_functions(hidden), kl_rows.make_divergence(temperature, len(hidden), policy.logits())
    for chunk in policy.chunks():
        rows.divergence(policy.forward(*chunk), reference.forward(*chunk), results, *chunk)
    return results.kl, results.shift, results.logsum, results.ref_shift, results.ref_logsum


def _gradients(
    hidden, weight, ref_hidden, ref_weight, temperature, kl, shift, logsum, ref_shift, ref_logsum, grad_kl,
    want_hidden, want_weight, operand, ref_operand,
):  # fmt: skip
    """The gradients of hidden and weight in their dtypes, empty where not wanted."""
    policy, reference = Head(hidden, weight, operand=operand), Head(ref_hidden, ref_weight, operand=ref_operand)
    policy.want_gradients(want_hidden, want_weight)
    rows = _row_functions(hidden)
    tokens = kl_rows.Divergence(temperature, kl, shift, logsum, ref_shift, ref_logsum)
    unit, scaled = in_units(grad_kl, policy.gemm_dtype)
    slope = scaled(grad_kl)
    for start, stop in policy.chunks():
        logits, ref_logits = policy.forward(start, stop), reference.forward(start, stop)
        dlogits = rows.gradient(logits, ref_logits, tokens, start, stop, slope[start:stop], policy.gemm_dtype)
        policy.backward(start, stop, dlogits)
    leaves = zip((hidden, weight), policy.gradients()[:2], strict=True)
    return tuple(from_units(gradient, unit, leaf) for leaf, gradient in leaves)


def _setup_context(ctx, inputs, output):
    hidden, weight, ref_hidden, ref_weight, temperature, *ctx.operands = inputs
    # not saved as tensors of the graph, which those of inference_mode could not be
    ctx.reference = ref_hidden, ref_weight
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(hidden, weight, temperature, *output)


def _backward(gradients, ctx, grad_kl, *_):
    if grad_kl is None:
        return (None,) * 7
    (hidden, weight, *results), wants = ctx.saved_tensors, ctx.needs_input_grad[:2]
    found = gradients(hidden, weight, *ctx.reference, *results, grad_kl, *wants, *ctx.operands)
    return *(gradient if want else None for gradient, want in zip(found, wants, strict=True)), *(None,) * 5


def _fake(hidden, weight, ref_hidden, ref_weight, temperature, operand, ref_operand):
    dtype = torch.promote_types(operand, torch.float32)
    return tuple(hidden.new_empty(hidden.shape[0], dtype=dtype) for _ in range(5))


def _fake_gradients(hidden, weight, *rest):
    leaves = zip((hidden, weight), rest[9:11], strict=True)
    return tuple(leaf.new_empty(leaf.shape if want else 0) for leaf, want in leaves)


def _flops(hidden, weight, ref_hidden, *rest):
    wanted = sum(rest[8:10])
    return 2 * hidden[0] * weight[0] * (hidden[1] * (1 + wanted) + ref_hidden[1])


_OPERANDS = "ScalarType operand, ScalarType ref_operand"
_HEADS = "Tensor hidden, Tensor weight, Tensor ref_hidden, Tensor ref_weight, Tensor? temperature"
_OP = RegisteredOp(
    f"linear_kl({_HEADS}, {_OPERANDS}) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    _forward,
    fake=_fake,
    flops=lambda hidden, weight, ref_hidden, *_: _flops(hidden, weight, ref_hidden),
)
_GRADIENTS = RegisteredOp(
    f"linear_kl_backward({_HEADS}, Tensor kl, Tensor shift, Tensor logsum, Tensor ref_shift, Tensor ref_logsum, "
    f"Tensor grad_kl, bool want_hidden, bool want_weight, {_OPERANDS}) -> (Tensor, Tensor)",
    _gradients,
    fake=_fake_gradients,
    flops=_flops,
)
_kl = DifferentiableOp(_OP, _setup_context, _backward, _GRADIENTS)


def linear_kl(
    hidden: Tensor,
    weight: Tensor,
    ref_hidden: Tensor,
    ref_weight: Tensor,
    *,
    temperature: float | Tensor = 1.0,
) -> Tensor:
    """Exact KL(policy || reference) of each token over the whole vocabulary, with two [chunk, V] buffers.

    hidden       [.., H], weight [V, H]: the policy, which receives gradients; bf16, fp16 or fp32
    ref_hidden   [.., H'], ref_weight [V, H']: the reference, which receives none; its own width and dtype
    temperature  above 0, a number or [..], for both
    returns      [..] fp32, nats
    Raises ValueError for shapes, dtypes, devices and DTensor weights. Two GEMMs; the backward costs four more.
    """
    check_head(hidden, weight)
    check_head(ref_hidden, ref_weight, "ref_")
    allowed = (hidden.dtype,) if hidden.dtype == torch.float64 else (torch.bfloat16, torch.float16, torch.float32)
    check_tensor("ref_hidden", ref_hidden, (*hidden.shape[:-1], None), hidden, allowed)
    check_tensor("ref_weight", ref_weight, (len(weight), None), hidden, allowed)
    ref_hidden, ref_weight = ref_hidden.detach(), ref_weight.detach()
    kl, *_ = _kl(
        hidden.reshape(-1, hidden.shape[-1]), weight, ref_hidden.reshape(-1, ref_hidden.shape[-1]), ref_weight,
        row_temperature(temperature, hidden), operand_dtype(hidden), operand_dtype(ref_hidden),
    )  # fmt: skip
    return shaped(kl, hidden.shape[:-1])


def linear_kl_reference(
    hidden: Tensor,
    weight: Tensor,
    ref_hidden: Tensor,
    ref_weight: Tensor,
    *,
    temperature: float | Tensor = 1.0,
) -> Tensor:
    """The same through full [T, V] logits and autograd."""
    dtype = torch.promote_types(hidden.dtype, torch.float32)
    scale = temperature[:, None] if isinstance(temperature, Tensor) else temperature
    logp = torch.log_softmax(hidden.to(dtype) @ weight.to(dtype).T / scale, dim=-1)
    logq = torch.log_softmax(ref_hidden.detach().to(dtype) @ ref_weight.detach().to(dtype).T / scale, dim=-1)
    return (logp.exp() * (logp - logq)).sum(-1)
