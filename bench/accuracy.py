"""How far a loss on the head is from fp64 on the very same inputs, a slice of tokens at a time."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.inputs import HeadBatch
from corl_kernels.logprobs import linear_logprobs_reference
from corl_kernels.objective import PolicyObjective
from corl_kernels.policy_loss import linear_policy_loss_reference

# n tokens of the slice, H hidden, V vocabulary
_ROWS = 256  # full fp64 logits of so many tokens at a time


@dataclass(frozen=True, slots=True)
class Truth:
    """fp64: `logprobs` [n], `grad_hidden` [n, H], `grad_weight` [V, H]."""

    logprobs: Tensor
    grad_hidden: Tensor
    grad_weight: Tensor


Loss = Callable[..., tuple[Tensor, Tensor]]


def policy_truth(batch: HeadBatch, objective: PolicyObjective) -> Truth:
    def loss(hidden: Tensor, weight: Tensor, part: slice) -> tuple[Tensor, Tensor]:
        numbers = (batch.advantages[part].double(), batch.token_weights[part].double())
        old = batch.old_logprobs[part].double()
        return linear_policy_loss_reference(
            hidden, weight, batch.targets[part], *numbers, objective=objective, old_logprobs=old
        )[:2]

    return _truth(batch, loss)


def cross_entropy_truth(batch: HeadBatch) -> Truth:
    def loss(hidden: Tensor, weight: Tensor, part: slice) -> tuple[Tensor, Tensor]:
        logprobs = linear_logprobs_reference(hidden, weight, batch.targets[part]).logprobs
        return -(batch.token_weights[part] * logprobs).sum(), logprobs.detach()

    return _truth(batch, loss)


def _truth(batch: HeadBatch, loss: Loss) -> Truth:
    weight = batch.weight.detach().double().requires_grad_()
    logprobs, grads = [], []
    for first in range(0, len(batch.hidden), _ROWS):
        part = slice(first, first + _ROWS)
        hidden = batch.hidden.detach()[part].double().requires_grad_()
        value, chosen = loss(hidden, weight, part)
        value.backward()
        assert hidden.grad is not None
        logprobs.append(chosen)
        grads.append(hidden.grad)
    assert weight.grad is not None
    return Truth(torch.cat(logprobs), torch.cat(grads), weight.grad)


def errors(batch: HeadBatch, truth: Truth, logprobs: Tensor | None) -> dict[str, float]:
    """Largest and mean error of the log-probabilities, and ||g - truth|| / ||truth|| of the gradients in `batch`."""
    found: dict[str, float] = {}
    if logprobs is not None:
        gaps = (logprobs.double() - truth.logprobs).abs()
        found |= {"logprobs_max": float(gaps.max()), "logprobs_mean": float(gaps.mean())}
    for name, grad, wanted in (
        ("grad_hidden", batch.hidden.grad, truth.grad_hidden),
        ("grad_weight", batch.weight.grad, truth.grad_weight),
    ):
        if grad is not None:
            found[name] = float((grad.double() - wanted).norm() / wanted.norm())
    return found
