"""store_kv against a token-by-token reference."""

import pytest
import torch

from corl_kernels.kv_store import store_kv, store_kv_reference

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


def make(slots, *, heads=2, dim=8, page=4, pages=7, dtype=torch.float32, device="cpu"):
    """k and v as views of a projection [T, q k v heads, D], caches of ones."""
    gen = torch.Generator().manual_seed(len(slots))
    projection = torch.randn(len(slots), 5 * heads, dim, generator=gen).to(device, dtype)
    caches = torch.ones(2, pages, page, heads, dim, dtype=dtype, device=device)
    slot_mapping = torch.tensor(slots, dtype=torch.int64, device=device)
    return projection[:, 3 * heads : 4 * heads], projection[:, 4 * heads :], *caches, slot_mapping


def assert_stores(k, v, k_cache, v_cache, slot_mapping):
    want_k, want_v = k_cache.clone(), v_cache.clone()
    store_kv_reference(k, v, want_k, want_v, slot_mapping)
    assert store_kv(k, v, k_cache, v_cache, slot_mapping) is None
    assert torch.equal(k_cache, want_k)
    assert torch.equal(v_cache, want_v)
    return k_cache


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("slots", [[], [5], [27, 0, 3, 4], [2, -1, 9, -7, 1], [-1, -1]], ids=str)
def test_stores_what_the_reference_stores(slots, dtype):
    k_cache = assert_stores(*make(slots, dtype=dtype))
    used = [slot for slot in slots if slot >= 0]
    written = (k_cache != 1).flatten(0, 1).flatten(1).any(1)
    assert sorted(used) == written.nonzero()[:, 0].tolist()


@pytest.mark.parametrize(("heads", "page"), [(1, 1), (3, 5), (4, 16)])
def test_heads_and_pages_of_any_size(heads, page):
    assert_stores(*make([0, page * 2 + page - 1, page], heads=heads, page=page))


WRONG = {
    r"k has shape \[3, 16\]": (0, lambda x: x.flatten(1)),
    "k and v have strides": (0, lambda x: x.mT.contiguous().mT),
    r"v has shape \[2, 2, 8\]": (1, lambda x: x[:2]),
    "v is torch.float64": (1, lambda x: x.double()),
    r"k_cache has shape \[7, 4, 1, 8\]; it must be \[\*, \*, 2, 8\]": (2, lambda x: x[:, :, :1]),
    "k_cache is torch.bfloat16": (2, lambda x: x.bfloat16()),
    r"v_cache has shape \[6, 4, 2, 8\]": (3, lambda x: x[1:]),
    "k_cache and v_cache have strides": (3, lambda x: x.transpose(1, 2).contiguous().transpose(1, 2)),
    "slot_mapping is torch.int32": (4, lambda x: x.int()),
    r"slot_mapping has shape \[2\]": (4, lambda x: x[1:]),
    "slot_mapping holds 28; a slot must be below 28": (4, lambda x: x.clamp(min=28)),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_arguments_raise_and_write_nothing(message):
    inputs = list(make([3, 4, -1]))
    index, change = WRONG[message]
    inputs[index] = change(inputs[index])
    with pytest.raises(ValueError, match=message):
        store_kv(*inputs)
    assert (inputs[2] == 1).all()
    assert (inputs[3] == 1).all()


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("heads", "dim", "page"), [(4, 128, 256), (8, 128, 16), (3, 80, 1)])
def test_stores_on_a_gpu(heads, dim, page, dtype):
    pages = 1 + 600 // page
    slots = torch.randperm(pages * page, generator=torch.Generator().manual_seed(0))[:500]
    slots[::7] = -1
    assert_stores(*make(slots.tolist(), heads=heads, dim=dim, page=page, pages=pages, dtype=dtype, device="cuda"))


@pytest.mark.gpu
def test_slots_beyond_two_to_the_31_elements_and_beyond_the_cache():
    heads, dim, page = 4, 128, 256
    pages = 2**31 // (heads * dim * page) + 2
    last = pages * page - 1
    sizes = {"heads": heads, "dim": dim, "page": page, "dtype": torch.bfloat16, "device": "cuda"}
    k, v, k_cache, v_cache, slot_mapping = make([last, last + 1, 0, -1, last - page], pages=pages, **sizes)
    store_kv(k, v, k_cache, v_cache, slot_mapping)
    for rows, cache in ((k, k_cache), (v, v_cache)):
        cache = cache.flatten(0, 1)
        used = [last, 0, last - page]
        assert torch.equal(cache[used], rows[[0, 2, 4]])
        cache[used] = 1
        assert all((part == 1).all() for part in cache.split(1 << 18))
