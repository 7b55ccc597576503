"""Attention of one new token per row over a paged key-value cache."""

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from corl_kernels.checks import check_tensor
from corl_kernels.kv_store import CACHE_DTYPES, check_caches

# B rows, Hq query heads, Hkv key heads, D head dim, P pages, M pages of a row at most, L = M * page size positions
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

    longest, width = int(context_lens.max()), block_table.shape[1] * page_size
    if longest > width or int(context_lens.min()) < 0:
        raise ValueError(f"context_lens reach {longest}; they must be in [0, {width}], the positions of block_table")
    if longest == 0:
        return torch.zeros_like(q)
    lens = context_lens.to(torch.int64)[:, None]
    positions = torch.arange(longest, device=q.device)
    # Positions beyond the length read the last valid one again: finite, whatever the cache holds there.
    used = torch.minimum(positions, (lens - 1).clamp(min=0))
    slots = block_table.to(torch.int64).gather(1, used // page_size) * page_size + used % page_size  # [B, L]
    slots.masked_fill_(lens == 0, 0)
    if int(slots.min()) < 0 or int(slots.max()) >= num_pages * page_size:
        raise ValueError(f"block_table names a page outside the cache's {num_pages}; fill it for every used position")
    bias = torch.zeros_like(slots, dtype=q.dtype).masked_fill_(positions >= lens, float("-inf"))
    bias.masked_fill_(lens == 0, 0)
    flat_k, flat_v = k_cache.flatten(0, 1).flatten(1), v_cache.flatten(0, 1).flatten(1)
    # The query heads of one key head form the query rows of one small attention: no key is copied per query head.
    queries = q.reshape(rows, num_kv_heads, num_heads // num_kv_heads, head_dim)
    out = torch.empty_like(queries)
    step = max(1, _GATHER // (longest * flat_k.shape[1]))
    for start in range(0, rows, step):
        part = slice(start, start + step)
        keys, values = (
            flat.index_select(0, slots[part].flatten()).view(-1, longest, num_kv_heads, head_dim).transpose(1, 2)
            for flat in (flat_k, flat_v)
        )
        out[part] = scaled_dot_product_attention(queries[part], keys, values, bias[part, None, None], scale=scale)
    return out.view_as(q).masked_fill_(lens[:, None] == 0, 0)


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
