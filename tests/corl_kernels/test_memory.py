"""Memory beyond the gradients does not grow with the number of tokens."""

import pytest
import torch

from bench.memory import peak_bytes
from corl_kernels import PolicyObjective, linear_kl, linear_logprobs, linear_policy_loss
from corl_kernels.chunks import ROWS_CPU

H, V = 8, 4096
CHUNK = ROWS_CPU * V * 4


def policy_loss(hidden, weight, per_token):
    objective = PolicyObjective("grpo", entropy_coef=0.1, kl_coef=0.1)
    targets, ones = per_token.long(), per_token + 1
    out = linear_policy_loss(hidden, weight, targets, ones, ones, objective=objective, ref_logprobs=per_token)
    out.loss.backward()


def logprobs(hidden, weight, per_token):
    linear_logprobs(hidden, weight, per_token.long(), return_entropy=True).entropy.sum().backward()


def kl(hidden, weight, per_token):
    linear_kl(hidden, weight, hidden.detach(), weight.detach()).sum().backward()


@pytest.mark.slow
@pytest.mark.parametrize(("op", "buffers"), [(policy_loss, 1), (logprobs, 1), (kl, 2)])
def test_peak_is_flat_in_tokens(op, buffers):
    extra = []
    for tokens in (1024, 4096, 16384):
        hidden, weight = torch.randn(tokens, H, requires_grad=True), torch.randn(V, H, requires_grad=True)
        per_token = torch.zeros(tokens)
        peak = peak_bytes(lambda: op(hidden, weight, per_token))  # noqa: B023
        # the gradient of hidden, and a few numbers a token, are the caller's
        extra.append(peak - hidden.nbytes)
    assert extra[-1] - extra[0] <= (16384 - 1024) * 128
    # the chunk, a cacheful of temporaries, both forms of dW
    assert extra[0] <= buffers * CHUNK + 6 * 2**20 + 4 * V * H * 4
    assert extra[0] >= buffers * CHUNK


def test_the_backward_allocates_nothing():
    """The gradients are there since the forward and are scaled where they lie."""
    hidden, weight = torch.randn(2000, H, requires_grad=True), torch.randn(V, H, requires_grad=True)
    targets, ones = torch.zeros(2000, dtype=torch.int64), torch.ones(2000)
    loss = linear_policy_loss(hidden, weight, targets, ones, ones).loss
    assert peak_bytes(loss.backward) < 1000
    assert weight.grad is not None
