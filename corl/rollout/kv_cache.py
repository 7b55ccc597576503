"""The paged KV cache: which pages are whose, and the tensors behind them."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from corl.rollout.memory import allocate
from corl_kernels import store_kv

COPY_BYTES = 2**28  # of pages copied at a time


class PageAllocator:
    """Free list and reference counts of the cache's pages; a page is shared by every sequence that reads it."""

    def __init__(self, num_pages: int, page_size: int) -> None:
        self.num_pages = num_pages
        self.page_size = page_size
        self._free = list(range(num_pages - 1, -1, -1))
        self._references = [0] * num_pages
        self.peak_used = 0

    @property
    def num_free(self) -> int:
        return len(self._free)

    def pages_for(self, tokens: int) -> int:
        """Pages that hold so many tokens."""
        return -(-tokens // self.page_size)

    def allocate(self, count: int) -> list[int]:
        """`count` pages with one reference each; the caller has seen that they are free."""
        assert count <= len(self._free), f"{count} pages asked, {len(self._free)} free"
        pages = [self._free.pop() for _ in range(count)]
        for page in pages:
            self._references[page] = 1
        self.peak_used = max(self.peak_used, self.num_pages - len(self._free))
        return pages

    def share(self, pages: Sequence[int]) -> list[int]:
        """The same pages with one more reference each."""
        for page in pages:
            assert self._references[page] > 0, f"page {page} is free and cannot be shared"
            self._references[page] += 1
        return list(pages)

    def release(self, pages: Sequence[int]) -> None:
        """Give one reference of each page back; a page without references is free."""
        for page in pages:
            assert self._references[page] > 0, f"page {page} is freed twice"
            self._references[page] -= 1
            if self._references[page] == 0:
                self._free.append(page)


class KVCache:
    """Keys and values of every layer, in pages.

    L layers, P pages, K kv heads, E head dim; a slot is page * page_size + offset.
    """

    def __init__(self, shape: tuple[int, int, int, int, int], *, dtype: torch.dtype, device: torch.device) -> None:
        """shape = (L, P, page_size, K, E)."""
        layers, *page = shape
        # zeroed memory: attention may read a page's unwritten rows before it masks them, and 0 * NaN is NaN
        self._memory = allocate(2 * math.prod(shape) * dtype.itemsize, device)
        self._pages = self._memory.tensor().view(dtype).view(layers, 2, *page)
        self._layers = [(pages[0], pages[1]) for pages in self._pages]

    @property
    def mapped(self) -> bool:
        """Whether there is memory behind the addresses."""
        return self._memory.mapped

    def close(self) -> None:
        """Give memory and addresses back."""
        self._memory.close()

    def release(self) -> None:
        """Give the memory back; the addresses stay."""
        self._memory.release()

    def restore(self) -> None:
        """Have memory again, zeros, at the same addresses; nothing to do where it was not released."""
        self._memory.restore()

    def layer(self, index: int) -> tuple[Tensor, Tensor]:
        """k_cache, v_cache of one layer, each [P, page_size, K, E]."""
        return self._layers[index]

    def write(self, layer: int, slots: Tensor, k: Tensor, v: Tensor) -> None:
        """Store k, v [T, K, E] at slots [T] i64; a token with a negative slot is skipped."""
        store_kv(k, v, *self._layers[layer], slots)

    def copy_pages(self, copies: Sequence[tuple[int, int]]) -> None:
        """Copy whole pages (source, destination), in every layer."""
        if not copies:
            return
        sources, destinations = torch.tensor(copies, device=self._pages.device).T
        # a rollout starts with hundreds of copies; between the two calls they exist twice, 64 MiB each in a 32B model
        at_once = max(1, COPY_BYTES // (self._pages.nbytes // self._pages.shape[2]))
        for part, into in zip(sources.split(at_once), destinations.split(at_once), strict=True):
            self._pages.index_copy_(2, into, self._pages.index_select(2, part))
