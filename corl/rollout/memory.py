"""Memory whose address is fixed for ever while its physical pages come and go.

The engine's cache and weights have no use for their memory while the trainer works, but captured CUDA graphs hold
their addresses. On a CPU the pages of an anonymous mapping are handed back to the system, on a GPU the driver's
virtual memory calls unmap them, and where neither is to be had the memory is held: a fixed budget.
"""

import logging
import mmap
import sys
import weakref
from collections.abc import Callable
from functools import cache, partial
from importlib.util import find_spec
from typing import Any, Protocol

import torch
from torch import Tensor

CHUNK_BYTES = 2**30  # physical memory is mapped in few large pieces: seconds become tenths (vLLM issues 45648, 29341)
logger = logging.getLogger(__name__)


class FixedMemory(Protocol):
    """`nbytes` bytes on a device. Whoever holds a view of tensor() must hold this too: it frees the memory at its end.

    mapped  whether there is memory behind the address; while there is none, reading a view is an error of the caller,
            which a GPU answers with an illegal access
    """

    nbytes: int
    mapped: bool

    def tensor(self) -> Tensor:
        """uint8 [nbytes], the same storage at every call.

        No inference tensor, but one viewed as another dtype in inference mode is: take that view outside of it where
        it is to be written outside of it.
        """

    def release(self) -> None:
        """Hand the physical memory back; waits for the device first. Nothing to do when that has been done."""

    def restore(self) -> None:
        """Memory again, all of it, reading as zeros; nothing to do while there is some.

        Raises torch.OutOfMemoryError when the device has too little, and is as released then as it was before.
        """

    def close(self) -> None:
        """Release, and give up the address; no view may be used again."""


def allocate(nbytes: int, device: torch.device) -> FixedMemory:
    """Memory of the best kind this device has, mapped and zeroed; which kind that is, the log says once.

    Zeros and not what was there: attention may read rows nobody wrote before it masks them, and 0 * NaN is NaN.
    """
    if nbytes < 1:
        raise ValueError(f"nbytes={nbytes} must be at least 1")
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", torch.cuda.current_device())
    return _kind(device)(nbytes)


@cache
def _kind(device: torch.device) -> Callable[[int], FixedMemory]:
    if device.type == "cpu" and sys.platform == "linux":  # elsewhere madvise gives nothing back at once
        logger.info("rollout memory on cpu: an anonymous mapping, its pages given back while released")
        return PageMemory
    missing = "no virtual memory calls on such a device"
    if device.type == "cuda":
        missing = "cuda-bindings is not installed"
        if find_spec("cuda") is not None and find_spec("cuda.bindings") is not None:
            from cuda.bindings import driver

            torch.cuda.synchronize(device)  # makes the driver's context of this device
            attribute = driver.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED
            if _checked(driver, "cuDeviceGetAttribute", attribute, device.index):
                logger.info("rollout memory on %s: the driver's virtual memory, unmapped while released", device)
                return partial(DriverMemory, device=device, driver=driver)
            missing = "the device has no virtual memory management"
    logger.info("rollout memory on %s: a fixed budget, kept while released (%s)", device, missing)
    return partial(HeldMemory, device=device)


class HeldMemory:
    """An ordinary tensor: release only says so, and the memory stays taken."""

    def __init__(self, nbytes: int, device: torch.device) -> None:
        self.nbytes, self.mapped = nbytes, True
        with torch.inference_mode(False):  # so that it can be written in and outside of that mode
            self._tensor = torch.zeros(nbytes, dtype=torch.uint8, device=device)

    def tensor(self) -> Tensor:
        return self._tensor

    def release(self) -> None:
        self.mapped = False

    def restore(self) -> None:
        if not self.mapped:
            self._tensor.zero_()
            self.mapped = True

    def close(self) -> None:
        self.release()


class PageMemory:
    """Anonymous private pages on Linux: MADV_DONTNEED returns them to the system, and touched again they are zeros."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes, self.mapped = nbytes, True
        try:
            self._pages = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except OSError as error:
            raise torch.OutOfMemoryError(_out_of_memory(nbytes, "cpu", str(error))) from error
        with torch.inference_mode(False):
            self._tensor = torch.frombuffer(self._pages, dtype=torch.uint8)

    def tensor(self) -> Tensor:
        return self._tensor

    def release(self) -> None:
        if self.mapped:
            self._pages.madvise(mmap.MADV_DONTNEED)
            self.mapped = False

    def restore(self) -> None:
        self.mapped = True

    def close(self) -> None:
        self.release()  # the address space goes with the last view, which holds the mapping


class DriverMemory:
    """CUDA's virtual memory management: addresses reserved once, physical chunks mapped into them and unmapped.

    driver  cuda.bindings.driver, whose functions return (status, value) or (status,)

    It lies outside torch's caching allocator, so expandable_segments may be on. Has never run on a GPU: written
    against cuda-bindings 13, and tested with a stand-in for the driver that keeps its rules.
    """

    def __init__(self, nbytes: int, device: torch.device, driver: Any) -> None:
        self.nbytes, self.mapped, self._device, self._driver = nbytes, False, device, driver
        location_type = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
        self._properties = driver.CUmemAllocationProp()
        self._properties.type = driver.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
        self._properties.location.type, self._properties.location.id = location_type, device.index
        self._access = driver.CUmemAccessDesc()
        self._access.location.type, self._access.location.id = location_type, device.index
        self._access.flags = driver.CUmemAccess_flags.CU_MEM_ACCESS_FLAGS_PROT_READWRITE

        recommended = driver.CUmemAllocationGranularity_flags.CU_MEM_ALLOC_GRANULARITY_RECOMMENDED
        granularity = _checked(driver, "cuMemGetAllocationGranularity", self._properties, recommended)
        self._chunk = -(-CHUNK_BYTES // granularity) * granularity
        self._size = -(-nbytes // granularity) * granularity
        self._address = int(_checked(driver, "cuMemAddressReserve", self._size, granularity, 0, 0))
        self._chunks: list[tuple[int, int]] = []  # (address, size) of what is mapped
        self._finalizer = weakref.finalize(self, _free, driver, device, self._address, self._size, self._chunks)
        self._finalizer.atexit = False  # a process that ends gives everything back anyway, in an order of its own
        self._map()
        self._tensor = _tensor_at(self._address, nbytes, device)
        self._zero()

    def tensor(self) -> Tensor:
        return self._tensor

    def release(self) -> None:
        if self.mapped:
            self.mapped = False
            torch.cuda.synchronize(self._device)
            _unmap(self._driver, self._chunks)

    def restore(self) -> None:
        if not self.mapped:
            self._map()
            self._zero()

    def close(self) -> None:
        self.mapped = False
        self._finalizer()

    def _map(self) -> None:
        assert self._finalizer.alive, "the address of this memory has been given up"
        torch.cuda.synchronize(self._device)
        torch.cuda.empty_cache()  # what torch's allocator caches is physical memory that cannot be had here
        try:
            for offset in range(0, self._size, self._chunk):
                self._map_chunk(self._address + offset, min(self._chunk, self._size - offset))
            _checked(self._driver, "cuMemSetAccess", self._address, self._size, [self._access], 1)
        except RuntimeError as error:
            _unmap(self._driver, self._chunks)
            if isinstance(error, torch.OutOfMemoryError):
                free = f"{torch.cuda.mem_get_info(self._device)[0]} bytes are free, {error}"
                raise torch.OutOfMemoryError(_out_of_memory(self._size, self._device, free)) from error
            raise
        self.mapped = True

    def _map_chunk(self, address: int, size: int) -> None:
        handle = _checked(self._driver, "cuMemCreate", size, self._properties, 0)
        try:
            _checked(self._driver, "cuMemMap", address, size, 0, handle, 0)
            self._chunks.append((address, size))
        finally:
            _checked(self._driver, "cuMemRelease", handle)  # the mapping alone keeps the memory from here on

    def _zero(self) -> None:
        self._tensor.zero_()
        torch.cuda.synchronize(self._device)  # whichever stream writes next comes after the zeros


def _free(driver: Any, device: torch.device, address: int, size: int, chunks: list[tuple[int, int]]) -> None:
    if chunks:
        torch.cuda.synchronize(device)
        _unmap(driver, chunks)
    _checked(driver, "cuMemAddressFree", address, size)


def _unmap(driver: Any, chunks: list[tuple[int, int]]) -> None:
    while chunks:
        _checked(driver, "cuMemUnmap", *chunks[-1])  # chunk by chunk: a mapping can only be undone as it was made
        chunks.pop()


def _checked(driver: Any, function: str, *arguments: Any) -> Any:
    """What a function of the driver returns besides its status."""
    status, *values = getattr(driver, function)(*arguments)
    if status != driver.CUresult.CUDA_SUCCESS:
        out_of_memory = status == driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY
        raise (torch.OutOfMemoryError if out_of_memory else RuntimeError)(f"{function} says {status.name}")
    return values[0] if values else None


def _out_of_memory(nbytes: int, device: torch.device | str, why: str) -> str:
    return f"{nbytes} bytes of rollout memory wanted on {device}: {why}; lower kv_tokens, or free memory before rollout"


class _CudaArray:
    """A range of device memory as the CUDA array interface shows it."""

    def __init__(self, address: int, nbytes: int) -> None:
        self.__cuda_array_interface__ = {
            "shape": (nbytes,), "typestr": "|u1", "data": (address, False), "strides": None, "version": 3,
        }  # fmt: skip


def _tensor_at(address: int, nbytes: int, device: torch.device) -> Tensor:
    construct = getattr(torch._C, "_construct_storage_from_data_pointer", None)  # private, so perhaps not for ever
    with torch.inference_mode(False):  # so that it can be written in and outside of that mode
        if construct is None:
            return torch.as_tensor(_CudaArray(address, nbytes), device=device)
        return torch.empty(0, dtype=torch.uint8, device=device).set_(construct(address, device, nbytes))
