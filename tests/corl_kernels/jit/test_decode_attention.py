"""The split and merge kernels against the row-by-row reference, and what a row's bits may depend on."""

import pytest
import torch

pytest.importorskip("triton")
from corl_kernels.jit import decode_attention
from corl_kernels.jit.decode_attention import SPLIT, launch_decode_attention
from corl_kernels.paged_attention import paged_attention_decode_reference

KV_HEADS = 2
NAN = float("nan")


def make(lens, device, *, group=2, dim=16, page=16, kv_heads=KV_HEADS, spare=2, dtype=torch.float32):
    """Rows on shuffled pages; NaN in every slot that no row may read, -1 in every table entry beyond a row's pages."""
    gen = torch.Generator().manual_seed(len(lens))
    counts = [-(-length // page) for length in lens]
    pages = torch.randperm(sum(counts) + 3, generator=gen)
    table = torch.full((len(lens), max(counts) + spare), -1, dtype=torch.int32)
    cache = torch.full((2, len(pages), page, kv_heads, dim), NAN, dtype=dtype)
    for row, (length, own) in enumerate(zip(lens, pages[: sum(counts)].split(counts), strict=True)):
        table[row, : len(own)] = own
        content = torch.full((2, len(own) * page, kv_heads, dim), NAN)
        content[:, :length] = torch.randn(2, length, kv_heads, dim, generator=gen)
        cache[:, own] = content.view(2, len(own), page, kv_heads, dim).to(dtype)
    projection = torch.randn(len(lens), (group + 2) * kv_heads, dim, generator=gen).to(device, dtype)
    q = projection[:, : group * kv_heads]
    return q, *cache.to(device), table.to(device), torch.tensor(lens, dtype=torch.int32, device=device)


def assert_close(inputs, *, scale, **tolerance):
    """fp32 is judged by a reference in fp64."""
    q, k_cache, v_cache, table, lens = inputs
    want = paged_attention_decode_reference(q.double(), k_cache.double(), v_cache.double(), table, lens, scale=scale)
    have = launch_decode_attention(*inputs, scale=scale)
    assert have.dtype == q.dtype
    torch.testing.assert_close(have.double(), want, **tolerance or {"rtol": 1e-5, "atol": 1e-5})


@pytest.mark.parametrize(
    ("group", "dim", "page"),
    [(1, 16, 1), (4, 64, 3), (7, 80, 16), (8, 128, 256), (7, 128, 16), (8, 16, 256), (1, 80, 3), (17, 20, 70)],
)
def test_groups_dims_and_page_edges(group, dim, page, device):
    lens = [0, 1, page, page + 1, max(1, page - 1), 67]
    assert_close(make(lens, device, group=group, dim=dim, page=page), scale=dim**-0.5)


@pytest.mark.parametrize("page", [1, 3, 16, 256])
def test_split_edges(page, device):
    lens = [SPLIT - 1, 1, SPLIT, 0, SPLIT + 1, 2 * SPLIT, 2 * SPLIT + 130]
    assert_close(make(lens, device, page=page, kv_heads=1), scale=0.25)


def test_more_splits_than_are_merged_at_once(device, monkeypatch):
    monkeypatch.setattr(decode_attention, "_MERGED", 2)
    assert_close(make([5 * SPLIT + 7, 40, 2 * SPLIT], device, kv_heads=1, page=256), scale=0.25)


def test_fp16(device):
    inputs = make([70, 0, 33], device, group=7, dim=64, dtype=torch.float16)
    assert_close(inputs, scale=0.125, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("page", [3, 256])
def test_a_row_alone_has_the_bits_it_has_in_a_batch(page, device, monkeypatch):
    q, k_cache, v_cache, table, lens = make([SPLIT + 70, 0, 5, 2 * SPLIT + 1], device, page=page, kv_heads=1)
    together = launch_decode_attention(q, k_cache, v_cache, table, lens, scale=0.25)
    monkeypatch.setattr(decode_attention, "_PROGRAMS", 1)  # one program sums up all splits of its row
    for row, length in enumerate(lens.tolist()):
        narrow = table[row : row + 1, : -(-length // page)]
        alone = launch_decode_attention(q[row : row + 1], k_cache, v_cache, narrow, lens[row : row + 1], scale=0.25)
        assert torch.equal(alone[0], together[row])


def test_the_table_may_be_wider_than_it_needs(device):
    q, k_cache, v_cache, table, lens = make([40, 3], device)
    wide = torch.full((2, 4 * SPLIT // 16), -1, dtype=torch.int32, device=device)
    wide[:, : table.shape[1]] = table
    have, want = (launch_decode_attention(q, k_cache, v_cache, x, lens, scale=0.25) for x in (wide, table))
    assert torch.equal(have, want)


def test_lengths_outside_the_table(device):
    q, k_cache, v_cache, table, lens = make([32, 32], device, spare=0)
    want = launch_decode_attention(q, k_cache, v_cache, table, lens, scale=0.25)
    lens = torch.tensor([SPLIT * 9, -3], dtype=torch.int32, device=device)
    have = launch_decode_attention(q, k_cache, v_cache, table, lens, scale=0.25)
    assert torch.equal(have[0], want[0])
    assert not have[1].any()


@pytest.mark.parametrize("lens", [[0], [0, 0, 0]], ids=len)
def test_rows_without_positions_are_zeros(lens, device):
    for spare in (0, 2):
        assert not launch_decode_attention(*make(lens, device, spare=spare), scale=1.0).any()


def test_scores_of_any_size(device):
    q, k_cache, v_cache, table, lens = make([SPLIT + 60], device, group=16, kv_heads=1, page=256)
    assert_close((q * 1000, k_cache, v_cache, table, lens), scale=1.0, rtol=1e-4, atol=1e-4)
    # the first split, and a block of the second, have scores of -inf only
    k_cache[table[0, :2].long()] = float("-inf")
    k_cache[table[0, 2].long(), :16] = float("-inf")
    assert_close((q.abs(), k_cache, v_cache, table, lens), scale=1.0)


def test_nan_in_a_used_slot_is_seen(device):
    q, k_cache, v_cache, table, lens = make([SPLIT + 60, 20], device)
    v_cache[table[0, 2].long(), 3] = NAN
    have = launch_decode_attention(q, k_cache, v_cache, table, lens, scale=0.25)
    assert have[0].isnan().all()
    assert not have[1].isnan().any()


def test_no_size_of_a_call_compiles_anew(device, launches):
    for rows, spare in ((1, 0), (16, 15), (2, SPLIT)):
        launch_decode_attention(*make([1] * rows, device, kv_heads=1, spare=spare), scale=0.25)
    assert len(launches) == 6
    assert len(set(launches)) == 2
