import pytest
import torch

from corl.model import attention
from corl.model.attention import packed_attention

LENGTHS = [[1], [17], [5, 1, 30, 0, 30, 2], [60] * 4, [100, 3, 64, 80, 79, 1]]


def bounds(lengths):
    return torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0)


def reference(q, k, v, lengths):
    """Softmax attention written out, one sequence after the other."""
    out = []
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    for queries, keys, values in zip(*(x.split(lengths) for x in (q, k, v)), strict=True):
        scores = torch.einsum("qhe,khe->hqk", queries, keys) / q.shape[-1] ** 0.5
        future = torch.ones(scores.shape[1:], dtype=torch.bool).triu(1)
        out.append(torch.einsum("hqk,khe->qhe", scores.masked_fill(future, -torch.inf).softmax(-1), values))
    return torch.cat(out)


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_values_and_gradients_are_those_of_plain_softmax(lengths):
    torch.manual_seed(0)
    tokens = sum(lengths)
    q, k, v = (torch.randn(tokens, heads, 8, requires_grad=True) for heads in (4, 2, 2))
    upstream = torch.randn(tokens, 4, 8)
    attend = packed_attention(bounds(lengths), max(lengths))
    want = reference(q, k, v, lengths)
    for layer in range(2):
        out = attend(layer, q, k, v)
        torch.testing.assert_close(out, want, rtol=1e-5, atol=1e-5)
    got_grads = torch.autograd.grad(out, (q, k, v), upstream)
    for got, expected in zip(got_grads, torch.autograd.grad(want, (q, k, v), upstream), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_hundreds_of_short_sequences_need_few_calls_and_little_padding():
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(30, 90, (400,), generator=generator).tolist()
    groups, pad, unpad = attention._padding(lengths, torch.device("cpu"))
    assert len(groups) <= 5
    assert len(pad) <= 1.2 * sum(lengths)
    assert all(attention._padded_length(n) <= max(16, n + n // 4) for n in range(1, 5000) if n > 64)
    assert sum(count for count, _ in groups) == len(lengths)
    assert torch.equal(pad[unpad], torch.arange(sum(lengths)))


def test_lengths_are_read_once_for_all_layers(monkeypatch):
    calls = []
    plan = attention._padding
    monkeypatch.setattr(attention, "_padding", lambda *args: calls.append(args) or plan(*args))
    attend = packed_attention(bounds([3, 4]), 4)
    for layer in range(3):
        attend(layer, *(torch.zeros(7, 2, 8) for _ in range(3)))
    assert len(calls) == 1


@pytest.mark.parametrize("length", [1, 11, 64, 200, 600])
def test_a_sequence_has_the_same_bits_in_any_company(length):
    torch.manual_seed(0)
    others = [14, 64, 250, 3]
    q, k, v = (torch.randn(sum(others) + length, heads, 16) for heads in (4, 2, 2))
    together = packed_attention(bounds([*others, length]), 600)(0, q, k, v)
    alone = packed_attention(bounds([length]), length)(0, *(x[-length:].contiguous() for x in (q, k, v)))
    assert torch.equal(together[-length:], alone)
