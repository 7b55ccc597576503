"""Exact KL divergence from a reference policy over the whole vocabulary, without the [T, V] logits."""

from types import ModuleType

import torch
from torch import Tensor

from corl_kernels import kl_rows
from corl_kernels.checks import check_head, check_tensor, row_temperature
from corl_kernels.chunks import Head, operand_dtype
from corl_kernels.differentiable import DifferentiableOp


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


def _setup_context(ctx, inputs, output):
    hidden, weight, ref_hidden, ref_weight, temperature, *ctx.operands = inputs
    # not saved as tensors of the graph, which those of inference_mode could not be
    ctx.reference = ref_hidden, ref_weight
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(hidden, weight, temperature, *output)


def _backward(ctx, grad_kl, *_):
    hidden, weight, *results = ctx.saved_tensors
    ref_hidden, ref_weight = ctx.reference
    policy = Head(hidden, weight, operand=ctx.operands[0])
    reference, rows = Head(ref_hidden, ref_weight, operand=ctx.operands[1]), _row_functions(hidden)
    policy.want_gradients(*ctx.needs_input_grad[:2])
    saved, unit = kl_rows.Divergence(*results), None
    if policy.gemm_dtype == torch.float16 and len(hidden):  # see linear_policy_loss
        unit = grad_kl.abs().amax()
        unit = torch.where(unit == 0, 1, unit)
        grad_kl = grad_kl / unit
    for start, stop in policy.chunks():
        logits, ref_logits = policy.forward(start, stop), reference.forward(start, stop)
        slope = grad_kl[start:stop]
        policy.backward(start, stop, rows.gradient(logits, ref_logits, saved, start, stop, slope, policy.gemm_dtype))
    found = []
    for leaf, gradient in zip((hidden, weight), policy.gradients()[:2], strict=True):
        scaled = gradient if gradient is None or unit is None else gradient * unit.view(1)
        found.append(None if scaled is None else scaled.to(leaf.dtype))
    return *found, *(None,) * 5


def _fake(hidden, weight, ref_hidden, ref_weight, temperature, operand, ref_operand):
    dtype = torch.promote_types(operand, torch.float32)
    return tuple(hidden.new_empty(len(hidden), dtype=dtype) for _ in range(5))


def _flops(hidden, weight, ref_hidden, *_):
    return 2 * hidden[0] * weight[0] * (hidden[1] + ref_hidden[1])


_kl = DifferentiableOp(
    "linear_kl(Tensor hidden, Tensor weight, Tensor ref_hidden, Tensor ref_weight, Tensor? temperature, "
    "ScalarType operand, ScalarType ref_operand) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    _forward,
    _setup_context,
    _backward,
    fake=_fake,
    flops=_flops,
)


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
    return kl.view(hidden.shape[:-1])


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
