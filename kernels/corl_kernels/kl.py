"""Exact KL divergence from a reference policy over the whole vocabulary, without the [T, V] logits."""

from types import ModuleType

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from corl_kernels import kl_rows
from corl_kernels.checks import check_head, check_tensor, row_temperature
from corl_kernels.chunks import Head


# T tokens, H hidden, V vocabulary
def _row_functions(hidden: Tensor) -> ModuleType:
    if hidden.is_cuda:
        from corl_kernels.jit import kl_rows as device_rows

        return device_rows
    return kl_rows


class _LinearKL(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, ref_hidden, ref_weight, temperature):
        policy, reference, rows = Head(hidden, weight), Head(ref_hidden, ref_weight), _row_functions(hidden)
        results = kl_rows.make_divergence(temperature, len(hidden), policy.logits())
        for chunk in policy.chunks():
            rows.divergence(policy.forward(*chunk), reference.forward(*chunk), results, *chunk)
        saved = (results.temperature, results.kl, results.shift, results.logsum, results.ref_shift, results.ref_logsum)
        # not saved as tensors of the graph, which those of inference_mode could not be
        ctx.reference = ref_hidden, ref_weight
        ctx.save_for_backward(hidden, weight, *saved)
        return results.kl

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_kl):
        hidden, weight, *results = ctx.saved_tensors
        ref_hidden, ref_weight = ctx.reference
        policy, reference, rows = Head(hidden, weight), Head(ref_hidden, ref_weight), _row_functions(hidden)
        policy.want_gradients(*ctx.needs_input_grad[:2])
        saved = kl_rows.Divergence(*results)
        for start, stop in policy.chunks():
            logits, ref_logits = policy.forward(start, stop), reference.forward(start, stop)
            slope = grad_kl[start:stop]
            dlogits = rows.gradient(logits, ref_logits, saved, start, stop, slope, policy.gemm_dtype)
            policy.backward(start, stop, dlogits)
        grads = (None if grad is None else grad.to(hidden.dtype) for grad in policy.gradients())
        return *grads, None, None, None


def linear_kl(
    hidden: Tensor,
    weight: Tensor,
    ref_hidden: Tensor,
    ref_weight: Tensor,
    *,
    temperature: float | Tensor = 1.0,
) -> Tensor:
    """Exact KL(policy || reference) of each token over the whole vocabulary, with two [chunk, V] buffers.

    hidden       [T, H], weight [V, H]: the policy, which receives gradients; bf16 or fp32
    ref_hidden   [T, H'], ref_weight [V, H']: the reference, which receives none; its own width and dtype
    temperature  above 0, a number or [T], for both
    returns      [T] fp32, nats
    Raises ValueError for shapes, dtypes, devices and DTensor weights. Two GEMMs; the backward costs four more.
    """
    check_head(hidden, weight)
    check_head(ref_hidden, ref_weight, "ref_")
    allowed = (hidden.dtype,) if hidden.dtype == torch.float64 else (torch.bfloat16, torch.float32)
    check_tensor("ref_hidden", ref_hidden, (len(hidden), None), hidden, allowed)
    check_tensor("ref_weight", ref_weight, (len(weight), None), hidden, allowed)
    scale = row_temperature(temperature, hidden)
    return _LinearKL.apply(hidden, weight, ref_hidden.detach(), ref_weight.detach(), scale)


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
