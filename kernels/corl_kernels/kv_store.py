"""Writing the keys and values of new tokens into a paged cache."""

import torch
from torch import Tensor

from corl_kernels.checks import check_tensor

# T tokens, P pages, Hkv key heads, D head dim; a slot is page * page size + offset
CACHE_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def check_caches(
    k_cache: Tensor, v_cache: Tensor, like: Tensor, *, head_dim: int, num_kv_heads: int | None = None
) -> None:
    """Raise ValueError unless both caches are contiguous [P, page, Hkv, D], with the dtype and device of `like`."""
    check_tensor("k_cache", k_cache, (None, None, num_kv_heads, head_dim), like, (like.dtype,))
    check_tensor("v_cache", v_cache, tuple(k_cache.shape), like, (like.dtype,))
    if not (k_cache.is_contiguous() and v_cache.is_contiguous()):
        raise ValueError(
            f"k_cache and v_cache have strides {k_cache.stride()} and {v_cache.stride()}; both must be contiguous"
        )


def store_kv(k: Tensor, v: Tensor, k_cache: Tensor, v_cache: Tensor, slot_mapping: Tensor) -> None:
    """Write the key and value of token t to slot slot_mapping[t] of the caches, in place.

    k             [T, Hkv, D], v the same; views of a projection are not copied, but their last dim is dense
    k_cache       [P, page, Hkv, D], contiguous, dtype of k; v_cache the same
    slot_mapping  [T] int64, page * page size + offset, each slot once; a token with a negative one is skipped
    Raises ValueError for shapes, dtypes, strides and devices, and on CPU for a slot beyond the cache, before anything
    is written; on CUDA such a token is skipped.
    """
    check_tensor("k", k, (None, None, None), k, CACHE_DTYPES)
    check_tensor("v", v, tuple(k.shape), k, (k.dtype,))
    check_caches(k_cache, v_cache, k, num_kv_heads=k.shape[1], head_dim=k.shape[2])
    check_tensor("slot_mapping", slot_mapping, (k.shape[0],), k, (torch.int64,))
    if k.stride(2) != 1 or v.stride(2) != 1:
        raise ValueError(f"k and v have strides {k.stride()} and {v.stride()}; the last must be 1, call contiguous()")
    if len(k) == 0:
        return
    if k.is_cuda:
        from corl_kernels.jit.kv_store import launch_store_kv

        launch_store_kv(k, v, k_cache, v_cache, slot_mapping.contiguous())
        return

    num_slots = k_cache.shape[0] * k_cache.shape[1]
    lowest, highest = map(int, slot_mapping.aminmax())
    if highest >= num_slots:
        raise ValueError(f"slot_mapping holds {highest}; a slot must be below {num_slots}, or negative to skip a token")
    if lowest < 0:
        kept = slot_mapping >= 0
        k, v, slot_mapping = k[kept], v[kept], slot_mapping[kept]
    for cache, rows in ((k_cache, k), (v_cache, v)):
        cache.flatten(0, 1).index_copy_(0, slot_mapping, rows)


def store_kv_reference(k: Tensor, v: Tensor, k_cache: Tensor, v_cache: Tensor, slot_mapping: Tensor) -> None:
    """The same token by token."""
    page_size = k_cache.shape[1]
    for token, slot in enumerate(slot_mapping.tolist()):
        if slot >= 0:
            k_cache[slot // page_size, slot % page_size] = k[token]
            v_cache[slot // page_size, slot % page_size] = v[token]
