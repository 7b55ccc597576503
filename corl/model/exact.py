"""Exact mode of attention: a query's keys are summed up in an order and in shapes that its position alone decides, the
same in a pack as in a decode step.

On a CPU the query heads of a token that share a key head are one small attention over keys padded to a multiple of 128.
On a GPU every token is a row of corl_kernels' decode kernel, in a pack too; that way has never been run on a GPU.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from corl_kernels import paged_attention_decode
from corl_kernels.paged_attention import SPLIT

# T packed tokens, S sequences, N queries, H query heads, K kv heads, G = H / K, E head dim, L padded keys, P pages
KEYS = 128
# chunk_rows of the head wherever exact mode compares log-probs: every GEMM there has so many rows, whatever the pack.
HEAD_ROWS = 256
# Rows that each small attention is filled up to: with a multiple of 8 the scratch memory that torch gives every thread
# starts on a cache line, and MKL sums the rows of another in another order.
HEADS = 8
PAGE = 64  # tokens of a page into which the keys of a pack are laid
_GATHERED = 1 << 20  # cache elements gathered at a time
_PARTIAL = 1 << 26  # fp32 numbers (256 MiB) that one launch of the decode kernel may allocate


def exact_packed_attention(cu_seqlens: Tensor, max_seqlen: int) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """attend(q [T, H, E], k [T, K, E], v) -> [T, H, E] for one pack, causal, scale 1 / sqrt(E), without gradients.

    cu_seqlens, max_seqlen as in packed_attention; on a CPU the lengths are read at the first call.
    """

    @cache
    def lengths() -> list[int]:
        return cu_seqlens.diff().tolist()

    @cache
    def pages(device: torch.device, tokens: int) -> Pages:
        return _lay_out(cu_seqlens.to(device, torch.int64), max_seqlen, tokens)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if q.is_cuda:
            return _over_pages(q, k, v, pages(q.device, len(q)))
        parts = zip(*(x.split(lengths()) for x in (q, k, v)), strict=True)
        return torch.cat([_over_sequence(*part) for part in parts])

    return attend


def exact_decode_attention(
    q: Tensor, k_cache: Tensor, v_cache: Tensor, block_table: Tensor, context_lens: Tensor, *, scale: float
) -> Tensor:
    """paged_attention_decode, with the bits that exact_packed_attention gives the same query over the same keys.

    q             [B, H, E]; the other arguments and the result are those of paged_attention_decode
    context_lens  [B] i32, the new token included; a row of length 0 gives zeros
    """
    if q.is_cuda:
        return paged_attention_decode(q, k_cache, v_cache, block_table, context_lens, scale=scale)
    page_size, out = k_cache.shape[1], torch.zeros(q.shape, dtype=q.dtype)
    flat_caches = [x.flatten(0, 1) for x in (k_cache, v_cache)]
    last = context_lens.long() - 1
    widths = (last // KEYS + 1) * KEYS  # 0 for a row without keys
    for width in filter(None, widths.unique().tolist()):
        positions = torch.arange(width)
        for rows in (widths == width).nonzero()[:, 0].split(max(1, _GATHERED // (width * k_cache[0, 0].numel()))):
            # beyond the length the last key again: finite, whatever the cache holds there
            used = torch.minimum(positions, last[rows, None])
            slots = block_table[rows].long().gather(1, used // page_size) * page_size + used % page_size
            keys, values = (x.index_select(0, slots.flatten()).unflatten(0, (-1, width)) for x in flat_caches)
            out[rows] = _each_alone(q[rows], keys, values, last[rows], scale)
    return out


def _over_sequence(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Of one sequence's q [N, H, E], k and v [N, K, E]."""
    out, positions = torch.empty(q.shape, dtype=q.dtype), torch.arange(len(q))
    k, v = (F.pad(x, (0, 0, 0, 0, 0, -len(x) % KEYS)).contiguous() for x in (k, v))
    for start in range(0, len(q), KEYS):
        part, seen = slice(start, start + KEYS), slice(start + KEYS)
        out[part] = _each_alone(q[part], k[None, seen], v[None, seen], positions[part], q.shape[-1] ** -0.5)
    return out


def _each_alone(q: Tensor, keys: Tensor, values: Tensor, last: Tensor, scale: float) -> Tensor:
    """[N, H, E] of q [N, H, E], each over keys [N, L, K, E] (or [1, L, K, E], for all of them) up to its `last` [N]."""
    # A single attention runs outside of torch's parallel regions, where MKL may split a GEMM among threads (not seen
    # to, on AVX2): so there are always two.
    count, (_, width, kv_heads, head_dim) = max(len(q), 2), keys.shape
    grouped = q.unflatten(1, (kv_heads, -1))
    group = grouped.shape[2]
    queries = q.new_zeros(count, kv_heads, -(-group // HEADS) * HEADS, head_dim)
    queries[: len(q), :, :group] = grouped
    unseen = torch.arange(width) > F.pad(last, (0, count - len(q)))[:, None]
    bias = torch.zeros(unseen.shape, dtype=q.dtype).masked_fill_(unseen, float("-inf"))[:, None, None]
    keys, values = (x.expand(count, -1, -1, -1).transpose(1, 2) for x in (keys, values))
    out = F.scaled_dot_product_attention(queries, keys, values, bias, scale=scale)
    return out[: len(q), :, :group].flatten(1, 2)


class Pages(NamedTuple):
    """Where a pack's tokens lie: `slots` [T] i64 in `num_pages` pages, `owners` [T] i64 the sequence of each token,
    `context_lens` [T] i32, `table` [S, pages of a sequence at most] i32."""

    num_pages: int
    slots: Tensor
    owners: Tensor
    context_lens: Tensor
    table: Tensor


def _lay_out(cu_seqlens: Tensor, max_seqlen: int, tokens: int) -> Pages:
    """Every sequence begins on a page of its own; nothing here waits for a GPU."""
    num_pages = tokens // PAGE + len(cu_seqlens) - 1
    ends = (-(-cu_seqlens.diff() // PAGE)).cumsum(0)
    first = F.pad(ends, (1, 0))[:-1]
    index = torch.arange(tokens, device=cu_seqlens.device)
    owners = torch.searchsorted(cu_seqlens[1:], index, right=True)
    positions = index - cu_seqlens[owners]
    columns = torch.arange(-(-max_seqlen // PAGE), device=cu_seqlens.device)
    table = (first[:, None] + columns).clamp(max=num_pages - 1).int()
    return Pages(num_pages, first[owners] * PAGE + positions, owners, (positions + 1).int(), table)


def _over_pages(q: Tensor, k: Tensor, v: Tensor, pages: Pages) -> Tensor:
    """Every token as a row of the decode kernel over its sequence's pages, as many at a time as memory allows."""
    k_cache, v_cache = (_paged(x, pages) for x in (k, v))
    _, num_heads, head_dim = q.shape
    splits = -(-pages.table.shape[1] * PAGE // SPLIT)
    step = max(1, _PARTIAL // (splits * num_heads * (head_dim + 2)))
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    for start in range(0, len(q), step):
        rows = slice(start, start + step)
        table, lens = pages.table[pages.owners[rows]], pages.context_lens[rows]
        out[rows] = paged_attention_decode(q[rows], k_cache, v_cache, table, lens, scale=head_dim**-0.5)
    return out


def _paged(x: Tensor, pages: Pages) -> Tensor:
    laid = x.new_zeros(pages.num_pages * PAGE, *x.shape[1:])
    laid[pages.slots] = x
    return laid.unflatten(0, (-1, PAGE))
