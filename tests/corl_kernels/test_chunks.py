"""How many rows a call's GEMMs have, and what a token's bits depend on."""

import pytest
import torch

from corl_kernels import chunks, linear_logprobs, linear_policy_loss

V, H = 97, 33


@pytest.mark.parametrize("on_gpu", [False, True])
def test_chunks_are_as_few_as_before_and_even(on_gpu):
    most, step = (chunks.ROWS_CUDA, chunks.STEP_CUDA) if on_gpu else (chunks.ROWS_CPU, chunks.STEP_CPU)
    for tokens in (0, 1, step - 1, step, step + 1, most - 1, most, most + 1, 2 * most, 3 * most + 17, 40 * most - 1):
        rows = chunks.chunk_rows(tokens, on_gpu)
        count = -(-tokens // rows)
        assert rows % step == 0
        assert step <= rows <= most
        assert count == -(-tokens // most)
        assert count * rows - tokens < max(1, count) * step or tokens == 0


def make(tokens, dtype=torch.float32):
    gen = torch.Generator().manual_seed(tokens)
    hidden, weight = torch.randn(tokens, H, generator=gen), torch.randn(V, H, generator=gen)
    return hidden.to(dtype), weight.to(dtype), torch.randint(0, V, (tokens,), generator=gen)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [64, 256])
def test_with_fixed_rows_a_token_has_the_same_bits_in_any_pack(rows, dtype):
    hidden, weight, targets = make(700, dtype)
    whole = linear_logprobs(hidden, weight, targets, temperature=1.3, chunk_rows=rows).logprobs
    for order in (torch.arange(3, 700), torch.arange(700).flip(0), torch.tensor([699]), torch.randperm(700)[:261]):
        ones = torch.ones(len(order))
        part = linear_policy_loss(
            hidden[order], weight, targets[order], ones, ones, temperature=1.3, chunk_rows=rows
        ).logprobs
        assert torch.equal(part, whole[order])


def test_equally_many_tokens_give_equal_rows_equal_bits():
    """Score and update of one micro-batch, whatever their number of tokens."""
    for tokens in (1, 77, 257, 700):
        hidden, weight, targets = make(tokens)
        scored = linear_logprobs(hidden, weight, targets).logprobs
        ones = torch.ones(tokens)
        out = linear_policy_loss(hidden.requires_grad_(), weight, targets, ones, ones, old_logprobs=scored)
        assert torch.equal(out.logprobs, scored)
        assert out.metrics.ratio_max == 1
