"""KL divergence from a reference policy: per-token estimators, and exactly over the vocabulary."""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from corl_kernels.chunks import Head, check_head, check_tensor, row_temperature

KL_ESTIMATORS = ("k1", "k2", "k3")


# T tokens, H hidden, V vocabulary
def kl_estimate(logprobs: Tensor, ref_logprobs: Tensor, estimator: str) -> Tensor:
    """Estimate KL(policy || reference) from one sampled token each, differentiated as written.

    logprobs, ref_logprobs  same shape, nats
    estimator  k1 `logprobs - ref`; k2 `(logprobs - ref)^2 / 2`; k3 `exp(ref - logprobs) - (ref - logprobs) - 1`
    Raises ValueError for another estimator or unequal shapes. Source: J. Schulman, "Approximating KL Divergence", 2020.
    """
    check_tensor("ref_logprobs", ref_logprobs, tuple(logprobs.shape), logprobs)
    gap = logprobs - ref_logprobs
    if estimator == "k1":
        return gap
    if estimator == "k2":
        return gap.square() / 2
    if estimator == "k3":
        return torch.expm1(-gap) + gap
    raise ValueError(f"estimator={estimator!r} is not known; choose one of {', '.join(KL_ESTIMATORS)}")


def _kl_rows(policy: Head, reference: Head, start: int, stop: int) -> tuple[Tensor, Tensor]:
    """p and p (log p - log q), [stop - start, V] each, in the two heads' own buffers."""
    logp, logq = policy.log_softmax(start, stop), reference.log_softmax(start, stop)
    gap = torch.sub(logp, logq, out=logq)
    probs = logp.exp_()
    return probs, gap.mul_(probs)


class _LinearKL(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, ref_hidden, ref_weight, temperature):
        policy, reference = Head(hidden, weight, temperature), Head(ref_hidden, ref_weight, temperature)
        kl = hidden.new_empty(len(hidden), dtype=policy.dtype)
        for start, stop in policy.chunks(0, len(hidden)):
            kl[start:stop] = _kl_rows(policy, reference, start, stop)[1].sum(-1)
        ctx.save_for_backward(hidden, weight, ref_hidden, ref_weight, temperature, kl)
        return kl

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_kl):
        hidden, weight, ref_hidden, ref_weight, temperature, kl = ctx.saved_tensors
        policy, reference = Head(hidden, weight, temperature), Head(ref_hidden, ref_weight, temperature)
        policy.want_gradients(*ctx.needs_input_grad[:2])
        slope = grad_kl if temperature is None else grad_kl / temperature
        for start, stop in policy.chunks(0, len(hidden)):
            probs, terms = _kl_rows(policy, reference, start, stop)
            # dKL/dlogit = p (log p - log q - KL)
            dlogits = terms.sub_(probs.mul_(kl[start:stop, None])).mul_(slope[start:stop, None])
            policy.accumulate(start, stop, dlogits)
        return *policy.gradients(), None, None, None


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
