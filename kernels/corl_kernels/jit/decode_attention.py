"""Split-KV attention of one new token per row over a paged cache, and the merge of its splits."""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from corl_kernels.jit import on_its_device
from corl_kernels.paged_attention import SPLIT

# B rows, Hq query heads, Hkv key heads, G = Hq / Hkv, D head dim, M pages of a row at most, S splits of a row at most
# partial [S, B, Hq, D], top [S, B, Hq], total [S, B, Hq]: sum of w v, the largest score and the sum of w, in fp32,
# with w = 2^(score - top) over the positions of one split; scores are in units of log2, as exp2 is one instruction

# Programs of a launch, about: 20 waves of the three that fit on each of 132 multiprocessors. More would even out
# ragged lengths better, but where a table is far wider than the lengths most would only start and stop.
_PROGRAMS = 8192
_TILE_BYTES = 16384  # of keys in flight in one stage; values the same
_MERGED = 16  # splits read at a time by the merge


@triton.jit
def _load_pages(table_ptr, start, end, PAGE_SIZE: tl.constexpr, BLOCK_N: tl.constexpr):
    """The pages of a block from `start` on, one where all its positions share it; never an entry beyond `end`."""
    positions = start if PAGE_SIZE % BLOCK_N == 0 else start + tl.arange(0, BLOCK_N)
    return tl.load(table_ptr + tl.minimum(positions, end - 1) // PAGE_SIZE).to(tl.int64)


@triton.jit(do_not_specialize=["rows", "max_len", "stride_table", "num_programs"])
def _decode_split_kernel(
    q_ptr, k_ptr, v_ptr, table_ptr, lens_ptr, partial_ptr, top_ptr, total_ptr,
    rows, max_len, stride_q_row, stride_q_head, stride_table, num_programs,
    scale_log2,
    KV_HEADS: tl.constexpr, GROUP: tl.constexpr, DIM: tl.constexpr, PAGE_SIZE: tl.constexpr, SPLIT: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Program (i, row, kv head) sums up splits i, i + num_programs, ... of its row, for the GROUP heads on one key."""
    # Heads run fastest, so neighbours read neighbouring bytes, and rows before splits, so the rows of a group read the
    # prompt they share while it is in the L2 cache.
    program = tl.program_id(0)
    kv_head = program % KV_HEADS
    row = (program // KV_HEADS % rows).to(tl.int64)
    length = tl.minimum(tl.load(lens_ptr + row), max_len)

    table_ptr += row * stride_table
    lanes, dims = tl.arange(0, BLOCK_N), tl.arange(0, BLOCK_D)
    members = tl.arange(0, BLOCK_M)
    heads = kv_head * GROUP + members
    q_mask = (members < GROUP)[:, None] & (dims < DIM)[None, :]
    q_offsets = row * stride_q_row + heads[:, None] * stride_q_head + dims[None, :]
    columns = kv_head * DIM + dims[None, :]

    for split in range(program // KV_HEADS // rows, tl.cdiv(length, SPLIT), num_programs):
        q = tl.load(q_ptr + q_offsets, mask=q_mask, other=0.0)  # [M, D]
        # Finite, so that a score of -inf has weight 0 also where it is the largest so far.
        top = tl.full((BLOCK_M,), -1e38, tl.float32)
        total = tl.zeros((BLOCK_M,), tl.float32)
        acc = tl.zeros((BLOCK_M, BLOCK_D), tl.float32)
        end = tl.minimum(split * SPLIT + SPLIT, length)
        # One block ahead, so that the pipeline of keys and values never waits for the table.
        page = _load_pages(table_ptr, split * SPLIT, end, PAGE_SIZE, BLOCK_N)
        for start in range(split * SPLIT, end, BLOCK_N):
            positions = start + lanes
            used = positions < end
            slots = page * PAGE_SIZE + positions % PAGE_SIZE
            page = _load_pages(table_ptr, start + BLOCK_N, end, PAGE_SIZE, BLOCK_N)
            offsets = slots[:, None] * (KV_HEADS * DIM) + columns
            mask = used[:, None] & (dims < DIM)[None, :]
            k = tl.load(k_ptr + offsets, mask=mask, other=0.0)  # [N, D]
            scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scale_log2  # [M, N]
            scores = tl.where(used[None, :], scores, float("-inf"))
            new_top = tl.maximum(top, tl.max(scores, 1))
            weights = tl.exp2(scores - new_top[:, None])
            decay = tl.exp2(top - new_top)
            v = tl.load(v_ptr + offsets, mask=mask, other=0.0)  # [N, D]
            acc = tl.dot(weights.to(v.dtype), v, acc * decay[:, None], input_precision="ieee")
            total = total * decay + tl.sum(weights, 1)
            top = new_top
        out = (split * rows + row) * (KV_HEADS * GROUP) + heads
        tl.store(partial_ptr + out[:, None] * DIM + dims[None, :], acc, mask=q_mask)
        tl.store(top_ptr + out, top, mask=members < GROUP)
        tl.store(total_ptr + out, total, mask=members < GROUP)


@triton.jit(do_not_specialize=["rows", "max_len"])
def _merge_splits_kernel(
    partial_ptr, top_ptr, total_ptr, lens_ptr, out_ptr,
    rows, max_len,
    HEADS: tl.constexpr, DIM: tl.constexpr, SPLIT: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Program (row, head) adds up the splits of its row in order; a row without positions becomes zeros."""
    row_head = tl.program_id(0).to(tl.int64)
    length = tl.minimum(tl.load(lens_ptr + row_head // HEADS), max_len)
    num_splits = tl.cdiv(length, SPLIT)
    dims = tl.arange(0, BLOCK_D)
    top = -1e38
    total = 0.0
    acc = tl.zeros((BLOCK_D,), tl.float32)
    for start in range(0, num_splits, BLOCK_S):
        splits = start + tl.arange(0, BLOCK_S)
        used = splits < num_splits
        entries = splits.to(tl.int64) * rows * HEADS + row_head
        tops = tl.load(top_ptr + entries, mask=used, other=float("-inf"))
        totals = tl.load(total_ptr + entries, mask=used, other=0.0)
        mask = used[:, None] & (dims < DIM)[None, :]
        partials = tl.load(partial_ptr + entries[:, None] * DIM + dims[None, :], mask=mask, other=0.0)
        new_top = tl.maximum(top, tl.max(tops, 0))
        weights, decay = tl.exp2(tops - new_top), tl.exp2(top - new_top)
        acc = acc * decay + tl.sum(partials * weights[:, None], 0)
        total = total * decay + tl.sum(totals * weights, 0)
        top = new_top
    acc /= tl.where(length > 0, total, 1.0)
    tl.store(out_ptr + row_head * DIM + dims, acc.to(out_ptr.dtype.element_ty), mask=dims < DIM)


@on_its_device
def launch_decode_attention(
    q: Tensor, k_cache: Tensor, v_cache: Tensor, block_table: Tensor, context_lens: Tensor, *, scale: float
) -> Tensor:
    """paged_attention_decode for B > 0 rows and M > 0 pages; q and block_table may be views, dense in the last dim.

    Allocates S * B * Hq * (D + 2) fp32 of partials, S = ceil(M * page / SPLIT): 0.1 GiB for 256 rows of 28 heads of
    128 over a table of 16,384 positions.
    """
    rows, num_heads, head_dim = q.shape
    _, page_size, kv_heads, _ = k_cache.shape
    group, max_len = num_heads // kv_heads, block_table.shape[1] * page_size
    num_splits = triton.cdiv(max_len, SPLIT)
    num_programs = min(num_splits, triton.cdiv(_PROGRAMS, rows * kv_heads))
    block_m, block_d = (max(16, triton.next_power_of_2(size)) for size in (group, head_dim))
    block_n = min(128, max(16, _TILE_BYTES // (block_d * q.element_size())))

    partial = torch.empty(num_splits, rows, num_heads, head_dim, dtype=torch.float32, device=q.device)
    top, total = (torch.empty(partial.shape[:-1], dtype=torch.float32, device=q.device) for _ in range(2))
    _decode_split_kernel[(num_programs * rows * kv_heads,)](
        q, k_cache, v_cache, block_table, context_lens, partial, top, total,
        rows, max_len, q.stride(0), q.stride(1), block_table.stride(0), num_programs,
        scale * math.log2(math.e),
        kv_heads, group, head_dim, page_size, SPLIT, block_m, block_n, block_d,
        num_warps=4 if block_m < 64 else 8, num_stages=3,
    )  # fmt: skip
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    _merge_splits_kernel[(rows * num_heads,)](
        partial, top, total, context_lens, out,
        rows, max_len,
        num_heads, head_dim, SPLIT, _MERGED, block_d,
        num_warps=2,
    )  # fmt: skip
    return out
