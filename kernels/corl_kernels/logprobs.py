"""Log-probability of each target token without the [T, V] logits."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from corl_kernels.chunks import IGNORE, Head, check_head, check_targets, row_temperature


# T tokens, H hidden, V vocabulary
class LogProbs(NamedTuple):
    """`logprobs` [T] and `entropy` [T] or None, fp32, in nats."""

    logprobs: Tensor
    entropy: Tensor | None


class _LinearLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, targets, temperature, return_entropy):
        head = Head(hidden, weight, temperature, targets)
        logprobs = hidden.new_empty(len(hidden), dtype=head.dtype)
        entropy = torch.empty_like(logprobs) if return_entropy else None
        for start, stop in head.chunks(0, len(hidden)):
            logprobs[start:stop], rows_entropy = head.score(start, stop, entropy=return_entropy)
            if entropy is not None and rows_entropy is not None:
                entropy[start:stop] = rows_entropy
        ctx.save_for_backward(hidden, weight, targets, temperature)
        return logprobs, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_logprobs, grad_entropy):
        hidden, weight, targets, temperature = ctx.saved_tensors
        head = Head(hidden, weight, temperature, targets)
        head.want_gradients(*ctx.needs_input_grad[:2])
        for start, stop in head.chunks(0, len(hidden)):
            head.score(start, stop, entropy=grad_entropy is not None)
            head.backward(
                start, stop, grad_logprobs[start:stop], None if grad_entropy is None else grad_entropy[start:stop]
            )
        return *head.gradients(), None, None, None


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
    One GEMM; the backward recomputes the logits chunk by chunk and needs three. linear_policy_loss gives the same
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
