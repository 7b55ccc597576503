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
