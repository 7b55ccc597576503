"""linear_cross_entropy against torch's own in fp64."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from corl_kernels import linear_cross_entropy
from corl_kernels.cross_entropy import linear_cross_entropy_reference


@pytest.mark.parametrize("tokens", [1, 100, 300])
def test_values_and_gradients(tokens):
    gen = torch.Generator().manual_seed(tokens)
    hidden, weight = torch.randn(tokens, 9, generator=gen), torch.randn(31, 9, generator=gen)
    targets, weights = torch.randint(0, 31, (tokens,), generator=gen), torch.rand(tokens, generator=gen)
    targets[1::4] = -100

    def torch_loss(h, w, t, token_weights):
        return (cross_entropy(h @ w.T, t, reduction="none") * token_weights).sum()

    def run(function, dtype):
        h, w = (x.to(dtype).requires_grad_() for x in (hidden, weight))
        loss = function(h, w, targets, weights.to(dtype))
        return loss, *torch.autograd.grad(loss, (h, w))

    for have, other, want in zip(
        run(linear_cross_entropy, torch.float32),
        run(linear_cross_entropy_reference, torch.float64),
        run(torch_loss, torch.float64),
        strict=True,
    ):
        torch.testing.assert_close(other, want)
        torch.testing.assert_close(have.double(), want, rtol=1e-5, atol=1e-5 * float(want.detach().abs().max()))


def test_grad_weight_out():
    hidden, weight = torch.randn(20, 4, requires_grad=True), torch.randn(11, 4, requires_grad=True)
    targets, weights, out = torch.arange(20) % 11, torch.rand(20), torch.zeros(11, 4)
    linear_cross_entropy(hidden, weight, targets, weights, grad_weight_out=out).backward()
    assert weight.grad is None
    linear_cross_entropy(hidden, weight, targets, weights).backward()
    torch.testing.assert_close(out, weight.grad)
