"""Supervised cross-entropy on the language-model head in three GEMMs."""

from typing import Any

import torch
from torch import Tensor

from corl_kernels.checks import check_head
from corl_kernels.logprobs import linear_logprobs_reference
from corl_kernels.policy_loss import linear_policy_loss


# T tokens, H hidden, V vocabulary
def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, targets: Tensor, token_weights: Tensor, **settings: Any
) -> Tensor:
    """sum_t token_weights[t] * -logprob[t], a 0-d fp32 tensor: the policy loss with every advantage 1.

    hidden         [.., H] bf16, fp16 or fp32      weight  [V, H], same dtype
    targets        [..] int64 or int32, already shifted; -100 counts for nothing
    token_weights  [..] float; the caller divides by its own count of tokens
    settings       temperature, bias, softcap, vocabulary, chunk_rows, grad_weight_out, grad_loss_is_one: as they are in
                   linear_policy_loss, as are gradients and errors
    """
    check_head(hidden, weight)
    advantages = torch.ones(hidden.shape[:-1], device=hidden.device)
    return linear_policy_loss(hidden, weight, targets, advantages, token_weights, **settings).loss


def linear_cross_entropy_reference(hidden: Tensor, weight: Tensor, targets: Tensor, token_weights: Tensor) -> Tensor:
    """The same through full [T, V] logits and autograd."""
    return -(token_weights * linear_logprobs_reference(hidden, weight, targets).logprobs).sum()
