"""The store kernel against the token-by-token reference."""

import pytest
import torch

pytest.importorskip("triton")
from corl_kernels.jit.kv_store import launch_store_kv
from corl_kernels.kv_store import store_kv_reference


def make(slots, device, *, heads=2, dim=16, page=4, pages=7, dtype=torch.float32):
    """k and v as views of a projection [T, q k v heads, D], caches of ones."""
    gen = torch.Generator().manual_seed(len(slots))
    projection = torch.randn(len(slots), 5 * heads, dim, generator=gen).to(device, dtype)
    caches = torch.ones(2, pages, page, heads, dim, dtype=dtype, device=device)
    return projection[:, 3 * heads : 4 * heads], projection[:, 4 * heads :], *caches, torch.tensor(slots, device=device)


@pytest.mark.parametrize("slots", [[5], [27, 0, 3, 4], [2, -1, 9, -7, 1], [-1, -1], [1, 28, 5, 1 << 40]], ids=str)
@pytest.mark.parametrize(("heads", "dim"), [(1, 16), (4, 128), (3, 80), (2, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64], ids=str)
def test_stores_what_the_reference_stores(slots, heads, dim, dtype, device):
    k, v, k_cache, v_cache, slot_mapping = make(slots, device, heads=heads, dim=dim, dtype=dtype)
    want_k, want_v = k_cache.clone(), v_cache.clone()
    store_kv_reference(k, v, want_k, want_v, slot_mapping.where(slot_mapping < 28, -1))
    launch_store_kv(k, v, k_cache, v_cache, slot_mapping)
    assert torch.equal(k_cache, want_k)
    assert torch.equal(v_cache, want_v)


def test_keys_and_values_of_different_strides(device):
    k, v, k_cache, v_cache, slot_mapping = make([3, 11, 8], device)
    k = k.transpose(0, 1).contiguous().transpose(0, 1)
    want_k, want_v = k_cache.clone(), v_cache.clone()
    store_kv_reference(k, v, want_k, want_v, slot_mapping)
    launch_store_kv(k, v, k_cache, v_cache, slot_mapping)
    assert torch.equal(k_cache, want_k)
    assert torch.equal(v_cache, want_v)


def test_no_number_of_tokens_compiles_anew(device, launches):
    for tokens in (1, 16, 5):
        launch_store_kv(*make(list(range(tokens)), device))
    assert len(launches) == 3
    assert len(set(launches)) == 1
