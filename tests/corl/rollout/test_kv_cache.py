import pytest
import torch

from corl.rollout import kv_cache
from corl.rollout.kv_cache import KVCache, PageAllocator


def test_a_page_is_free_when_its_last_reference_is_given_back():
    pages = PageAllocator(4, 16)
    first = pages.allocate(3)
    pages.share(first[:2])
    pages.release(first)
    assert pages.num_free == 2
    assert not set(pages.allocate(2)) & set(first[:2])
    pages.release(first[:2])
    assert pages.num_free == 2


def test_misuse_is_a_bug():
    pages = PageAllocator(2, 16)
    held = pages.allocate(1)
    pages.release(held)
    for wrong in (lambda: pages.release(held), lambda: pages.share(held), lambda: pages.allocate(3)):
        with pytest.raises(AssertionError):
            wrong()


@pytest.mark.parametrize(("tokens", "count"), [(0, 0), (1, 1), (16, 1), (17, 2)])
def test_pages_for(tokens, count):
    assert PageAllocator(1, 16).pages_for(tokens) == count


def test_many_pages_are_copied_a_few_at_a_time(monkeypatch):
    cache = KVCache((2, 9, 4, 2, 5), dtype=torch.float32, device=torch.device("cpu"))
    cache._pages.normal_()
    before = cache._pages.clone()
    monkeypatch.setattr(kv_cache, "COPY_BYTES", 2 * 2 * 2 * 4 * 2 * 5 * 4 + 1)  # two pages of both layers
    sizes, select = [], torch.Tensor.index_select
    monkeypatch.setattr(torch.Tensor, "index_select", lambda x, dim, at: sizes.append(len(at)) or select(x, dim, at))
    cache.copy_pages([(0, 4), (0, 5), (1, 6), (2, 7), (3, 8)])
    assert sizes == [2, 2, 1]
    assert torch.equal(cache._pages, before[:, :, [0, 1, 2, 3, 0, 0, 1, 2, 3]])
    cache.copy_pages([])


def test_written_slots_are_read_and_copied_as_pages():
    cache = KVCache((2, 3, 4, 2, 5), dtype=torch.float32, device=torch.device("cpu"))
    k, v = torch.randn(3, 2, 5), torch.randn(3, 2, 5)
    cache.write(1, torch.tensor([4, 5, 11]), k, v)
    cache.copy_pages([(1, 0)])
    k_cache, v_cache = cache.layer(1)
    torch.testing.assert_close(k_cache[[1, 1, 2], [0, 1, 3]], k)
    torch.testing.assert_close(v_cache[[1, 1, 2], [0, 1, 3]], v)
    assert torch.equal(k_cache[0], k_cache[1])
    assert not cache.layer(0)[0].any()
