"""Keys and values of new tokens into the slots of a paged cache."""

import triton
import triton.language as tl
from torch import Tensor

from corl_kernels.jit import on_its_device

# T tokens, Hkv key heads, D head dim


@triton.jit(do_not_specialize=["num_slots"])
def _store_kv_kernel(
    k_ptr, v_ptr, k_cache_ptr, v_cache_ptr, slots_ptr,
    num_slots, stride_k_token, stride_k_head, stride_v_token, stride_v_head,
    HEADS: tl.constexpr, DIM: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Program t copies token t; a slot outside the cache is skipped."""
    token = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots_ptr + token)
    heads, dims = tl.arange(0, BLOCK_H)[:, None], tl.arange(0, BLOCK_D)[None, :]
    mask = (heads < HEADS) & (dims < DIM) & (slot >= 0) & (slot < num_slots)
    k = tl.load(k_ptr + token * stride_k_token + heads * stride_k_head + dims, mask=mask)
    v = tl.load(v_ptr + token * stride_v_token + heads * stride_v_head + dims, mask=mask)
    offsets = slot * (HEADS * DIM) + heads * DIM + dims
    tl.store(k_cache_ptr + offsets, k, mask=mask)
    tl.store(v_cache_ptr + offsets, v, mask=mask)


@on_its_device
def launch_store_kv(k: Tensor, v: Tensor, k_cache: Tensor, v_cache: Tensor, slot_mapping: Tensor) -> None:
    """store_kv for k and v dense in the last dim."""
    tokens, heads, dim = k.shape
    block_h, block_d = triton.next_power_of_2(heads), triton.next_power_of_2(dim)
    # 16 bytes a thread and load: a token of 4 heads of 128 in bf16 takes two warps
    num_warps = min(8, max(1, block_h * block_d * k.element_size() // 512))
    _store_kv_kernel[(tokens,)](
        k, v, k_cache, v_cache, slot_mapping,
        k_cache.shape[0] * k_cache.shape[1], k.stride(0), k.stride(1), v.stride(0), v.stride(1),
        heads, dim, block_h, block_d,
        num_warps=num_warps,
    )  # fmt: skip
