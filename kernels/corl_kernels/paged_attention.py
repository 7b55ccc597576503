"""Attention of one new token per row over a paged key-value cache."""

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from corl_kernels.checks import check_tensor
from corl_kernels.kv_store import CACHE_DTYPES, check_caches

# B rows, Hq query heads, Hkv key heads, D head dim, P pages, M pages of a row at most, L = M * page size positions

# Positions that a GPU sums up together. It is the same for every row, cache and batch, and splits are merged in order,
# so a row's bits depend on nothing but its own query, keys and values. At D = 128 and G = 7 the partials cost 3 % of
# the bytes read.
SPLIT = 512
_GATHER = 1 << 17  # cache elements gathered at a time: 512 KiB of fp32 keys stay in the L2 cache


def paged_attention_decode(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    block_table: Tensor,
    context_lens: Tensor,
    *,
    scale: float,
) -> Tensor:
    """softmax(scale q k^T) v of each row's query over the first context_lens[b] positions of its pages.

    q             [B, Hq, D]; query head h reads key head h // (Hq / Hkv); it may be a view of a projection
    k_cache       [P, page, Hkv, D], contiguous, dtype of q; v_cache the same
    block_table   [B, M] int32: position i of row b lies in page block_table[b, i // page], slot i % page
    context_lens  [B] int32, the new token included; a row of length 0 gives zeros
    returns       [B, Hq, D], dtype of q
    Cache slots and table entries beyond a row's length are never used, whatever they hold. On CUDA a row's bits do not
    depend on the other rows nor on M, fp64 is not supported, and a longer length counts as all positions of the table.
    Raises ValueError for shapes, dtypes and devices, and on CPU for a length or page outside the table or the cache.
    Split over positions as in Flash-Decoding: Dao, Haziza, Massa, Sizov 2023.
    """
    check_tensor("q", q, (None, None, None), q, CACHE_DTYPES[:3] if q.is_cuda else CACHE_DTYPES)
    rows, num_heads, head_dim = q.shape
    check_caches(k_cache, v_cache, q, head_dim=head_dim)
    check_tensor("block_table", block_table, (rows, None), q, (torch.int32,))
    check_tensor("context_lens", context_lens, (rows,), q, (torch.int32,))
    num_pages, page_size, num_kv_heads, _ = k_cache.shape
    if num_heads % num_kv_heads:
        raise ValueError(f"q has {num_heads} heads; it must be a multiple of the cache's {num_kv_heads}")
    if rows == 0:
        return torch.zeros_like(q)
    if q.is_cuda:
        from corl_kernels.jit.decode_attention import launch_decode_attention

        q, block_table = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, block_table))
        return launch_decode_attention(q, k_cache, v_cache, block_table, context_lens.contiguous(), scale=scale)

    shortest, longest = map(int, context_lens.aminmax())
    width = block_table.shape[1] * page_size
    if longest > width or shortest < 0:
        raise ValueError(f"context_lens reach {longest}; they must be in [0, {width}], the positions of block_table")
    if longest == 0:
        return torch.zeros_like(q)
    # Rows of similar length go together, longest first, so that few positions are gathered only to be masked.
    lens, order = context_lens.sort(descending=True)
    positions = torch.arange(longest, device=q.device)
    slots = block_table.index_select(1, positions // page_size)[order].to(torch.int64).mul_(page_size)  # [B, L]
    slots += positions % page_size
    # Positions beyond the length read the first one again: finite, whatever the cache holds there.
    beyond = positions >= lens[:, None]
    slots = torch.where(beyond, slots[:, :1].masked_fill(lens[:, None] == 0, 0), slots)
    lowest, highest = map(int, slots.aminmax())
    if lowest < 0 or highest >= num_pages * page_size:
        raise ValueError(f"block_table names a page outside the cache's {num_pages}; fill it for every used position")
    bias = torch.zeros_like(beyond, dtype=q.dtype).masked_fill_(beyond, float("-inf"))
    flat_k, flat_v = k_cache.flatten(0, 1).flatten(1), v_cache.flatten(0, 1).flatten(1)
    # The query heads of one key head form the query rows of one small attention: no key is copied per query head.
    queries = q.reshape(rows, num_kv_heads, num_heads // num_kv_heads, head_dim)[order]
    out = torch.zeros_like(queries)
    lengths, start = lens.tolist(), 0
    live = rows - lengths.count(0)
    while start < live:
        length = lengths[start]
        part = slice(start, min(live, start + max(1, _GATHER // (length * flat_k.shape[1]))))
        used = slots[part, :length]
        keys, values = (
            flat.index_select(0, used.flatten()).view(*used.shape, num_kv_heads, head_dim).transpose(1, 2)
            for flat in (flat_k, flat_v)
        )
        mask = bias[part, None, None, :length]
        out[part] = scaled_dot_product_attention(queries[part], keys, values, mask, scale=scale)
        start = part.stop
    return torch.empty_like(out).index_copy_(0, order, out).view_as(q)


def paged_attention_decode_reference(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    block_table: Tensor,
    context_lens: Tensor,
    *,
    scale: float,
) -> Tensor:
    """The same row by row in fp32 or, for fp64 inputs, fp64."""
    dtype = torch.promote_types(q.dtype, torch.float32)
    out = torch.zeros_like(q, dtype=dtype)
    group = q.shape[1] // k_cache.shape[2]
    for row, length in enumerate(context_lens.tolist()):
        pages = block_table[row, : -(-length // k_cache.shape[1])].long()
        if length:
            keys, values = (
                cache[pages].flatten(0, 1)[:length].to(dtype).repeat_interleave(group, dim=1)
                for cache in (k_cache, v_cache)
            )
            scores = torch.einsum("hd,lhd->hl", q[row].to(dtype), keys) * scale
            out[row] = torch.einsum("hl,lhd->hd", scores.softmax(-1), values)
    return out.to(q.dtype)
