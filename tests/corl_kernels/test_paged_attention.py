"""paged_attention_decode against a row-by-row reference."""

import pytest
import torch

from corl_kernels import paged_attention_decode
from corl_kernels.paged_attention import paged_attention_decode_reference


def make(lens, heads=4, kv_heads=2, dim=8, page=5, dtype=torch.float32):
    """A cache with NaN wherever no row may look, and table entries of -1 beyond each row's pages."""
    gen = torch.Generator().manual_seed(len(lens))
    width = max(1, -(-max(lens, default=0) // page)) + 1
    table = torch.full((len(lens), width), -1, dtype=torch.int32)
    order = iter(torch.randperm(len(lens) * width + 3, generator=gen).tolist())
    cache = torch.full((2, len(lens) * width + 3, page, kv_heads, dim), float("nan"), dtype=dtype)
    for row, length in enumerate(lens):
        for index in range(-(-length // page)):
            table[row, index] = number = next(order)
            used = min(page, length - index * page)
            cache[:, number, :used] = torch.randn(2, used, kv_heads, dim, generator=gen).to(dtype)
    q = torch.randn(len(lens), heads, dim, generator=gen).to(dtype)
    return q, *cache, table, torch.tensor(lens, dtype=torch.int32)


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2), (6, 1)])
@pytest.mark.parametrize("lens", [[1], [5, 6, 4], [0, 17, 3, 0, 10], [0, 0], [*range(1, 60)]], ids=len)
def test_matches_the_reference(lens, heads, kv_heads):
    inputs = make(lens, heads, kv_heads)
    have = paged_attention_decode(*inputs, scale=0.3)
    torch.testing.assert_close(have, paged_attention_decode_reference(*inputs, scale=0.3))
    assert (have[inputs[-1] == 0] == 0).all()


def test_many_rows_in_several_parts():
    inputs = make([1 + 13 * i % 97 for i in range(150)], heads=8, kv_heads=4, dim=32, page=32)
    torch.testing.assert_close(
        paged_attention_decode(*inputs, scale=0.2), paged_attention_decode_reference(*inputs, scale=0.2)
    )


def test_bf16():
    inputs = make([9, 0, 3], dtype=torch.bfloat16)
    have = paged_attention_decode(*inputs, scale=0.3)
    assert have.dtype == torch.bfloat16
    torch.testing.assert_close(have, paged_attention_decode_reference(*inputs, scale=0.3), rtol=2e-2, atol=2e-2)


def test_no_rows():
    q, k_cache, v_cache, table, lens = make([3])
    assert paged_attention_decode(q[:0], k_cache, v_cache, table[:0], lens[:0], scale=1.0).shape == (0, 4, 8)


WRONG = {
    r"q has shape \[2, 4\]": (0, lambda x: x[..., 0]),
    "q has 3 heads; it must be a multiple of the cache's 2": (0, lambda x: x[:, :3]),
    r"k_cache has shape": (1, lambda x: x[..., :7]),
    r"v_cache has shape": (2, lambda x: x[1:]),
    "v_cache is torch.float64; it must be one of torch.float32": (2, lambda x: x.double()),
    "k_cache and v_cache have strides": (1, lambda x: x.transpose(1, 2).contiguous().transpose(1, 2)),
    "block_table is torch.int64": (3, lambda x: x.long()),
    "context_lens has shape": (4, lambda x: x[:1]),
    r"context_lens reach 100; they must be in \[0, 15\]": (4, lambda x: torch.full_like(x, 100)),
    "block_table names a page outside": (3, lambda x: torch.full_like(x, 99)),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_arguments_raise(message):
    inputs = list(make([2, 7]))
    index, change = WRONG[message]
    inputs[index] = change(inputs[index])
    with pytest.raises(ValueError, match=message):
        paged_attention_decode(*inputs, scale=1.0)


def on_gpu(lens, heads, kv_heads, page):
    """Inputs in bf16; q is a view of a projection."""
    q, *rest = (x.cuda() for x in make(lens, heads, kv_heads, 128, page, torch.bfloat16))
    return torch.cat([q, q], dim=1)[:, heads:], *rest


@pytest.mark.gpu
@pytest.mark.parametrize(("heads", "kv_heads"), [(28, 4), (64, 8), (8, 8)])
@pytest.mark.parametrize("page", [256, 16, 1])
def test_matches_the_reference_on_a_gpu(heads, kv_heads, page):
    inputs = on_gpu([1, 0, 255, 256, 257, 511, 512, 513, 5000, 17], heads, kv_heads, page)
    q, k_cache, v_cache, *rest = inputs
    want = paged_attention_decode_reference(q.double(), k_cache.double(), v_cache.double(), *rest, scale=0.09)
    have = paged_attention_decode(*inputs, scale=0.09)
    assert have.dtype == torch.bfloat16
    torch.testing.assert_close(have.double(), want, rtol=1e-2, atol=4e-3)


@pytest.mark.gpu
def test_pages_beyond_two_to_the_31_elements():
    q, k_cache, v_cache, table, lens = on_gpu([300, 5, 0, 1700], 28, 4, 256)
    shift = 2**31 // k_cache[0].numel()
    far = k_cache.new_empty(2, shift + len(k_cache), *k_cache.shape[1:])
    far[0, shift:], far[1, shift:] = k_cache, v_cache
    have = paged_attention_decode(q, *far, torch.where(table < 0, table, table + shift), lens, scale=0.09)
    assert torch.equal(have, paged_attention_decode(q, k_cache, v_cache, table, lens, scale=0.09))


@pytest.mark.gpu
def test_a_captured_call_follows_its_inputs():
    inputs = on_gpu([300, 5, 40, 1700], 28, 4, 256)
    paged_attention_decode(*inputs, scale=0.09)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        have = paged_attention_decode(*inputs, scale=0.09)
    inputs[4].copy_(torch.tensor([299, 0, 1, 600]))
    graph.replay()
    assert torch.equal(have, paged_attention_decode(*inputs, scale=0.09))


@pytest.mark.gpu
def test_fp64_raises_on_a_gpu():
    q, k_cache, v_cache, table, lens = on_gpu([3], 4, 2, 16)
    with pytest.raises(ValueError, match=r"q is torch.float64; it must be one of torch.float32, torch.bfloat16"):
        paged_attention_decode(q.double(), k_cache.double(), v_cache.double(), table, lens, scale=1.0)
