"""linear_logprobs against full logits and autograd in fp64."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from corl_kernels import linear_logprobs
from corl_kernels.chunks import ROWS_CPU
from corl_kernels.logprobs import linear_logprobs_reference


def make(tokens, vocab=41, width=10):
    gen = torch.Generator().manual_seed(tokens)
    targets = torch.randint(0, vocab, (tokens,), generator=gen)
    targets[::5] = -100
    return torch.randn(tokens, width, generator=gen), torch.randn(vocab, width, generator=gen), targets


@pytest.mark.parametrize("return_entropy", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 0.6, "per token"])
@pytest.mark.parametrize("tokens", [1, 17, ROWS_CPU, ROWS_CPU + 1, 2 * ROWS_CPU + 33])
def test_values_and_gradients(tokens, temperature, return_entropy):
    hidden, weight, targets = make(tokens)
    temperature = torch.linspace(0.5, 2, tokens) if temperature == "per token" else temperature
    coefficients = torch.randn(2, tokens, generator=torch.Generator().manual_seed(0))

    def run(function, dtype):
        h, w = (x.to(dtype).requires_grad_() for x in (hidden, weight))
        out = function(h, w, targets, temperature=temperature, return_entropy=return_entropy)
        total = (out.logprobs * coefficients[0]).sum()
        if return_entropy:
            total = total + (out.entropy * coefficients[1]).sum()
        else:
            assert out.entropy is None
        return [x for x in out if x is not None] + list(torch.autograd.grad(total, (h, w)))

    for have, want in zip(
        run(linear_logprobs, torch.float32), run(linear_logprobs_reference, torch.float64), strict=True
    ):
        assert have.dtype == torch.float32
        torch.testing.assert_close(
            have.double(), want, rtol=1e-5, atol=1e-5 * max(1.0, float(want.detach().abs().max()))
        )


def test_ignored_targets_give_zero_and_no_gradient():
    hidden, weight, targets = make(30)
    hidden.requires_grad_()
    out = linear_logprobs(hidden, weight, targets, return_entropy=True)
    (out.logprobs + out.entropy).sum().backward()
    dead = targets == -100
    for values in (*out, hidden.grad):
        assert (values[dead] == 0).all()
        assert (values[~dead] != 0).any(-1).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("width", [5, 33, 48])
def test_with_fixed_rows_a_token_has_the_same_bits_in_any_pack(width, dtype):
    hidden, weight, targets = make(400, vocab=97, width=width)
    hidden, weight = hidden.to(dtype), weight.to(dtype)
    whole = linear_logprobs(hidden, weight, targets, temperature=1.3, chunk_rows=ROWS_CPU).logprobs
    for order in (torch.arange(3, 400), torch.arange(400).flip(0), torch.tensor([399]), torch.randperm(400)[:260]):
        part = linear_logprobs(hidden[order], weight, targets[order], temperature=1.3, chunk_rows=ROWS_CPU).logprobs
        assert torch.equal(part, whole[order])
    assert torch.equal(
        linear_logprobs(hidden[7:], weight, targets[7:], temperature=1.3, chunk_rows=ROWS_CPU).logprobs, whole[7:]
    )


def test_bf16_error_against_fp64_on_the_same_inputs():
    hidden, weight, targets = (x.bfloat16() if x.is_floating_point() else x for x in make(100, vocab=2003, width=64))
    have = linear_logprobs(hidden, weight, targets).logprobs
    want = linear_logprobs_reference(hidden.double(), weight.double(), targets).logprobs
    assert (have - want).abs().max() < 1e-4


def test_gradcheck_in_fp64():
    hidden, weight, targets = make(6, vocab=7, width=3)
    inputs = (hidden.double().requires_grad_(), weight.double().requires_grad_())
    assert torch.autograd.gradcheck(
        lambda h, w: tuple(linear_logprobs(h, w, targets, temperature=0.7, return_entropy=True)), inputs
    )


def test_one_gemm_forward_and_three_backward():
    hidden, weight, targets = make(ROWS_CPU)
    gemm = 2 * ROWS_CPU * weight.numel()
    with FlopCounterMode(display=False) as counter:
        out = linear_logprobs(hidden.requires_grad_(), weight.requires_grad_(), targets).logprobs
    assert counter.get_total_flops() == gemm
    with FlopCounterMode(display=False) as counter:
        out.sum().backward()
    assert counter.get_total_flops() == 3 * gemm


def test_wrong_arguments_raise():
    hidden, weight, targets = make(8)
    with pytest.raises(ValueError, match=r"weight has shape \[41, 9\]; it must be \[\*, 10\]"):
        linear_logprobs(hidden, weight[:, :9], targets)
    with pytest.raises(ValueError, match=r"targets hold 41; an id must be in \[0, 41\) or -100"):
        linear_logprobs(hidden, weight, torch.full((8,), 41))
    with pytest.raises(ValueError, match="temperature=-1 must be finite and above 0"):
        linear_logprobs(hidden, weight, targets, temperature=-1)
