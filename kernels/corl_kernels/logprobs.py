"""Log-probability of each target token without the [T, V] logits."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from corl_kernels.checks import IGNORE, check_head, check_targets, row_temperature
from corl_kernels.chunks import Head, row_functions
from corl_kernels.rows import Tokens, make_tokens


# T tokens, H hidden, V vocabulary
class LogProbs(NamedTuple):
    """`logprobs` [T] and `entropy` [T] or None, fp32, in nats."""

    logprobs: Tensor
    entropy: Tensor | None


class _LinearLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, targets, temperature, return_entropy):
        head, rows = Head(hidden, weight, targets), row_functions(hidden)
        tokens = make_tokens(targets, temperature, head.dtype)
        for chunk in head.chunks():
            rows.statistics(head.forward(*chunk), tokens, *chunk)
        kept = (tokens.targets, temperature, tokens.entropy, tokens.shift, tokens.logsum)
        ctx.save_for_backward(hidden, weight, *kept)
        return tokens.logprobs, tokens.entropy.clone() if return_entropy else None

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_logprobs, grad_entropy):
        hidden, weight, targets, temperature, entropy, shift, logsum = ctx.saved_tensors
        head, rows = Head(hidden, weight, targets), row_functions(hidden)
        head.want_gradients(*ctx.needs_input_grad[:2])
        tokens = Tokens(targets, temperature, torch.empty_like(shift), entropy, shift, logsum)
        for start, stop in head.chunks():
            slopes = (None if grad is None else grad[start:stop] for grad in (grad_logprobs, grad_entropy))
            dlogits = rows.gradient(head.forward(start, stop), tokens, start, stop, *slopes, head.gemm_dtype)
            head.backward(start, stop, dlogits)
        grads = (None if grad is None else grad.to(hidden.dtype) for grad in head.gradients())
        return *grads, None, None, None


def linear_logprobs(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    temperature: float | Tensor = 1.0,
    return_entropy: bool = False,
) -> LogProbs:
    """Log-probability of each target under softmax(hidden @ weight.T / temperature), differentiable.

    hidden       [T, H] bf16 or fp32 (fp64 is computed in fp64)      weight  [V, H], same dtype
    targets      [T] int64, the token that hidden[t] predicts; -100 gives logprob 0, entropy 0 and no gradient
    temperature  above 0, a number or [T]; it receives no gradient
    returns      LogProbs: logprobs [T] and, with return_entropy, entropy [T]; fp32, nats
    One GEMM; the backward makes the logits again chunk by chunk and needs three. linear_policy_loss gives the same
    bits for the same token, wherever it stands in a pack of whatever length.
    Raises ValueError for shapes, dtypes, devices, a DTensor weight, and on CPU for targets outside the vocabulary; on
    CUDA those give NaN.
    """
    check_head(hidden, weight)
    check_targets(targets, hidden, len(weight))
    scale = row_temperature(temperature, hidden)
    return LogProbs(*_LinearLogprobs.apply(hidden, weight, targets, scale, return_entropy))


def linear_logprobs_reference(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    temperature: float | Tensor = 1.0,
    return_entropy: bool = False,
) -> LogProbs:
    """The same through full [T, V] logits and autograd, in fp32 or, for fp64 inputs, fp64."""
    dtype = torch.promote_types(hidden.dtype, torch.float32)
    scale = temperature[:, None] if isinstance(temperature, Tensor) else temperature
    rows = torch.log_softmax(hidden.to(dtype) @ weight.to(dtype).T / scale, dim=-1)
    live = targets != IGNORE
    logprobs = rows.gather(1, torch.where(live, targets, 0)[:, None])[:, 0] * live
    return LogProbs(logprobs, -(rows.exp() * rows).sum(-1) * live if return_entropy else None)
