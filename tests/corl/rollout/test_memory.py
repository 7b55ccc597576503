import ctypes
import gc
import logging
import mmap
import sys
from enum import IntEnum
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import pytest
import torch

from corl.rollout import memory
from corl.rollout.memory import DriverMemory, HeldMemory, PageMemory, allocate

CPU = torch.device("cpu")
MIB = 2**20


@pytest.fixture(autouse=True)
def fresh_choice():
    memory._kind.cache_clear()
    yield
    memory._kind.cache_clear()


def resident_bytes():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * mmap.PAGESIZE


# ---- a CPU ----


def test_pages_go_back_to_the_system_and_come_again_as_zeros_at_the_same_address():
    size = 256 * MIB
    before = resident_bytes()
    block = allocate(size, CPU)
    assert isinstance(block, PageMemory) and block.mapped
    view = block.tensor().view(torch.float32).view(-1, 1024)
    address = view.data_ptr()
    assert not view[:: view.shape[0] // 7].any()
    view.fill_(torch.nan)
    assert resident_bytes() - before > 0.9 * size
    block.release()
    block.release()
    assert not block.mapped
    assert resident_bytes() - before < 0.1 * size
    block.restore()
    block.restore()
    assert block.mapped
    assert block.tensor().data_ptr() == view.data_ptr() == address and address % mmap.PAGESIZE == 0
    assert not view.any()
    view.fill_(1.0)
    assert resident_bytes() - before > 0.9 * size
    del block, view
    assert resident_bytes() - before < 0.1 * size


def test_views_outlive_the_block_on_a_cpu():
    block = allocate(5000, CPU)
    view = block.tensor()[17:]
    block.close()
    del block
    gc.collect()
    assert len(view) == 4983 and not view.any()


@pytest.mark.parametrize("make", [PageMemory, lambda n: HeldMemory(n, CPU)], ids=["pages", "held"])
def test_views_are_written_in_and_outside_inference_mode(make):
    with torch.inference_mode():
        block = make(64)
        view = block.tensor()[48:]
        view.fill_(3)
    view += 1
    assert view.tolist() == [4] * 16


def test_a_fixed_budget_keeps_its_memory_and_reads_as_zeros_after_restore():
    block = HeldMemory(32, CPU)
    view, address = block.tensor(), block.tensor().data_ptr()
    view.fill_(255)
    block.restore()
    assert view.all(), "restore while mapped leaves the content alone"
    block.release()
    assert not block.mapped
    block.restore()
    assert block.mapped and not view.any() and block.tensor().data_ptr() == address
    block.close()
    assert not block.mapped


def test_too_much_is_one_clear_error():
    with pytest.raises(ValueError, match="nbytes=0 must be at least 1"):
        allocate(0, CPU)
    with pytest.raises(torch.OutOfMemoryError, match=f"^{2**60} bytes of rollout memory wanted on cpu: .*kv_tokens"):
        allocate(2**60, CPU)


# ---- the driver's virtual memory, over a stand-in ----


class Result(IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_INVALID_VALUE = 1
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_NOT_SUPPORTED = 801


class Driver(ModuleType):
    """cuda.bindings.driver as far as it is used, over host memory: the address range is real, so a CPU tensor lies in
    it, and what is mapped or unmapped holds NaN patterns. It refuses what the CUDA driver refuses."""

    CUresult = Result
    CUmemLocationType = SimpleNamespace(CU_MEM_LOCATION_TYPE_DEVICE="device")
    CUmemAllocationType = SimpleNamespace(CU_MEM_ALLOCATION_TYPE_PINNED="pinned")
    CUmemAccess_flags = SimpleNamespace(CU_MEM_ACCESS_FLAGS_PROT_READWRITE="readwrite")
    CUmemAllocationGranularity_flags = SimpleNamespace(CU_MEM_ALLOC_GRANULARITY_RECOMMENDED="recommended")
    CUdevice_attribute = SimpleNamespace(CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED=102)
    GRANULARITY = 4096

    def __init__(self):
        super().__init__("cuda.bindings.driver")
        self.__spec__ = ModuleSpec(self.__name__, None)
        self.calls = []
        self.fail = {}  # function: (which call of it, counted from now, fails; how)
        self.handles = {}  # of physical memory: bytes
        self.reserved, self.mapped, self.accessible = {}, {}, set()
        self.vmm = 1

    def CUmemAllocationProp(self):
        return SimpleNamespace(type=None, location=SimpleNamespace(type=None, id=None))

    def CUmemAccessDesc(self):
        return SimpleNamespace(flags=None, location=SimpleNamespace(type=None, id=None))

    def _status(self, name, *rules):
        self.calls.append(name)
        if name in self.fail:
            left, status = self.fail[name]
            self.fail[name] = left - 1, status
            if left == 0:
                del self.fail[name]
                return status
        return Result.CUDA_SUCCESS if all(rules) else Result.CUDA_ERROR_INVALID_VALUE

    def cuDeviceGetAttribute(self, attribute, device):
        return self._status("cuDeviceGetAttribute", attribute == 102, isinstance(device, int)), self.vmm

    def cuMemGetAllocationGranularity(self, properties, option):
        self._check(properties)
        return self._status("cuMemGetAllocationGranularity", option == "recommended"), self.GRANULARITY

    def _check(self, properties):
        assert (properties.type, properties.location.type, properties.location.id) == ("pinned", "device", 0)

    def cuMemAddressReserve(self, size, alignment, address, flags):
        status = self._status("cuMemAddressReserve", size % alignment == 0, address == flags == 0)
        if status:
            return status, None
        host = mmap.mmap(-1, size)
        start = ctypes.addressof(ctypes.c_char.from_buffer(host))
        self.reserved[start] = size, host
        return status, start

    def cuMemCreate(self, size, properties, flags):
        self._check(properties)
        status = self._status("cuMemCreate", size > 0, size % self.GRANULARITY == 0, flags == 0)
        if status:
            return status, None
        self.handles[handle := 1000 + len(self.calls)] = size
        return status, handle

    def cuMemMap(self, address, size, offset, handle, flags):
        inside = any(start <= address and address + size <= start + n for start, (n, _) in self.reserved.items())
        free = all(address + size <= start or start + n <= address for start, n in self.mapped.items())
        status = self._status("cuMemMap", inside, free, offset == flags == 0, self.handles.get(handle) == size)
        if not status:
            self.mapped[address] = size
            ctypes.memset(address, 255, size)
        return (status,)

    def cuMemSetAccess(self, address, size, descriptors, count):
        (descriptor,) = descriptors
        device = descriptor.location.type, descriptor.location.id, descriptor.flags
        covered = [start for start in self.mapped if address <= start < address + size]
        whole = sum(self.mapped[start] for start in covered) == size
        status = self._status("cuMemSetAccess", count == 1, device == ("device", 0, "readwrite"), whole)
        if not status:
            self.accessible |= set(covered)
        return (status,)

    def cuMemUnmap(self, address, size):
        status = self._status("cuMemUnmap", self.mapped.get(address) == size)
        if not status:
            del self.mapped[address]
            self.accessible.discard(address)
            ctypes.memset(address, 255, size)
        return (status,)

    def cuMemRelease(self, handle):
        status = self._status("cuMemRelease", handle in self.handles)
        if not status:
            del self.handles[handle]
        return (status,)

    def cuMemAddressFree(self, address, size):
        nothing_mapped = not any(address <= start < address + size for start in self.mapped)
        status = self._status("cuMemAddressFree", self.reserved.get(address, (0,))[0] == size, nothing_mapped)
        if not status:
            del self.reserved[address]
        return (status,)

    def counts(self):
        """What is taken: physical allocations behind handles, mapped bytes, reserved ranges."""
        return len(self.handles), sum(self.mapped.values()), len(self.reserved)


@pytest.fixture
def driver(monkeypatch):
    made = Driver()
    monkeypatch.setattr(memory, "CHUNK_BYTES", 16384)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: made.calls.append("synchronize"))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: made.calls.append("empty_cache"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (777, 10**9))
    return made


class HostDevice(SimpleNamespace):
    """cuda:0 to the driver, the CPU to torch."""

    def __str__(self):
        return "cuda:0"


@pytest.fixture
def make(driver, monkeypatch):
    tensor_at = memory._tensor_at
    monkeypatch.setattr(memory, "_tensor_at", lambda address, nbytes, device: tensor_at(address, nbytes, CPU))
    return lambda nbytes: DriverMemory(nbytes, HostDevice(index=0), driver)


SIZE = 3 * 16384 + 5000  # four chunks, the last of two granules
ROUNDED = 3 * 16384 + 8192


def test_chunks_are_mapped_in_order_and_keep_no_handle(driver, make):
    block = make(SIZE)
    one = ["cuMemCreate", "cuMemMap", "cuMemRelease"]
    assert driver.calls == [
        "cuMemGetAllocationGranularity", "cuMemAddressReserve", "synchronize", "empty_cache",
        *4 * one, "cuMemSetAccess", "synchronize",
    ]  # fmt: skip
    assert driver.counts() == (0, ROUNDED, 1) and driver.accessible == set(driver.mapped)
    assert list(driver.mapped.values()) == [16384] * 3 + [8192]
    assert block.mapped and block.nbytes == SIZE and block.tensor().shape == (SIZE,)
    assert not block.tensor().any()


def test_release_waits_for_the_device_and_restore_gives_zeros_at_the_same_address(driver, make):
    block = make(SIZE)
    view = block.tensor()[:4096].view(torch.float32)
    address = block.tensor().data_ptr()
    assert [address] == list(driver.reserved)
    driver.calls.clear()
    block.release()
    block.release()
    assert driver.calls == ["synchronize", *4 * ["cuMemUnmap"]]
    assert driver.counts() == (0, 0, 1) and not block.mapped
    assert view.isnan().all(), "the stand-in leaves NaN patterns"
    driver.calls.clear()
    block.restore()
    block.restore()
    assert driver.calls.count("cuMemMap") == 4 and driver.calls[:2] == ["synchronize", "empty_cache"]
    assert driver.counts() == (0, ROUNDED, 1) and block.mapped
    assert block.tensor().data_ptr() == address and not view.any() and not block.tensor().any()


FAILURES = [("cuMemCreate", 0), ("cuMemCreate", 2), ("cuMemMap", 0), ("cuMemMap", 3), ("cuMemSetAccess", 0)]


@pytest.mark.parametrize(("function", "nth"), FAILURES, ids=str)
def test_a_failed_restore_takes_nothing_and_can_be_tried_again(driver, make, function, nth):
    block = make(SIZE)
    block.release()
    driver.fail[function] = nth, Result.CUDA_ERROR_OUT_OF_MEMORY
    want = f"^{ROUNDED} bytes of rollout memory wanted on cuda:0: 777 bytes are free, {function} says CUDA_ERROR_OUT_OF"
    with pytest.raises(torch.OutOfMemoryError, match=want):
        block.restore()
    assert driver.counts() == (0, 0, 1) and not block.mapped
    block.release()
    block.restore()
    assert driver.counts() == (0, ROUNDED, 1) and block.mapped and not block.tensor().any()


def test_another_failure_is_named_and_rolled_back_too(driver, make):
    block = make(SIZE)
    block.release()
    driver.fail["cuMemMap"] = 1, Result.CUDA_ERROR_NOT_SUPPORTED
    with pytest.raises(RuntimeError, match="^cuMemMap says CUDA_ERROR_NOT_SUPPORTED$") as caught:
        block.restore()
    assert not isinstance(caught.value, torch.OutOfMemoryError)
    assert driver.counts() == (0, 0, 1) and not block.mapped


def test_a_failed_construction_leaves_nothing(driver, make):
    driver.fail["cuMemCreate"] = 1, Result.CUDA_ERROR_OUT_OF_MEMORY
    with pytest.raises(torch.OutOfMemoryError):
        make(SIZE)
    gc.collect()
    assert driver.counts() == (0, 0, 0)


@pytest.mark.parametrize("released", [True, False], ids=["released", "mapped"])
@pytest.mark.parametrize("end", [DriverMemory.close, lambda block: None], ids=["close", "drop"])
def test_its_end_gives_everything_back_once(driver, make, released, end):
    block = make(SIZE)
    if released:
        block.release()
    driver.calls.clear()
    end(block)
    del block
    gc.collect()
    assert driver.counts() == (0, 0, 0)
    unmapping = [] if released else ["synchronize", *4 * ["cuMemUnmap"]]
    assert driver.calls == [*unmapping, "cuMemAddressFree"]


def test_closed_memory_cannot_be_restored(make):
    block = make(SIZE)
    block.close()
    block.close()
    assert not block.mapped
    with pytest.raises(AssertionError, match="given up"):
        block.restore()


def test_without_torchs_private_constructor_the_array_interface_describes_the_range(monkeypatch):
    monkeypatch.delattr(torch._C, "_construct_storage_from_data_pointer")
    monkeypatch.setattr(torch, "as_tensor", lambda source, device: (source.__cuda_array_interface__, device))
    shown, device = memory._tensor_at(4096, 10, CPU)
    assert device == CPU
    assert shown == {"shape": (10,), "typestr": "|u1", "data": (4096, False), "strides": None, "version": 3}


# ---- which kind ----


@pytest.fixture
def bindings(driver, monkeypatch):
    """install(): cuda.bindings.driver is the stand-in; nothing of the kind is importable without it."""

    def install():
        for name in ("cuda", "cuda.bindings"):
            package = ModuleType(name)
            package.__spec__, package.__path__ = ModuleSpec(name, None), []
            monkeypatch.setitem(sys.modules, name, package)
        monkeypatch.setitem(sys.modules, "cuda.bindings.driver", driver)
        monkeypatch.setattr(sys.modules["cuda.bindings"], "driver", driver, raising=False)

    monkeypatch.setitem(sys.modules, "cuda", None)
    return install


def test_one_line_names_the_kind_of_memory(bindings, driver, monkeypatch, caplog):
    caplog.set_level(logging.INFO, logger=memory.__name__)
    made = []
    for kind in ("DriverMemory", "HeldMemory", "PageMemory"):
        monkeypatch.setattr(memory, kind, lambda *args, kind=kind, **kwargs: made.append((kind, args, kwargs)))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    cuda = torch.device("cuda", 1)

    def lines(device):
        memory._kind.cache_clear()
        caplog.clear()
        made.clear()
        for _ in range(2):
            allocate(10, device)
        assert made[0] == made[1]
        return caplog.messages, made[0]

    said, (kind, args, kwargs) = lines(CPU)
    assert said == ["rollout memory on cpu: an anonymous mapping, its pages given back while released"]
    assert (kind, args, kwargs) == ("PageMemory", (10,), {})
    held = "rollout memory on {}: a fixed budget, kept while released ({})"
    said, (kind, args, kwargs) = lines(cuda)
    assert said == [held.format("cuda:1", "cuda-bindings is not installed")]
    assert (kind, args, kwargs) == ("HeldMemory", (10,), {"device": cuda})
    bindings()
    said, (kind, args, kwargs) = lines(torch.device("cuda"))
    assert said == ["rollout memory on cuda:1: the driver's virtual memory, unmapped while released"]
    assert (kind, args, kwargs) == ("DriverMemory", (10,), {"device": cuda, "driver": driver})
    driver.vmm = 0
    said, (kind, args, kwargs) = lines(cuda)
    assert said == [held.format("cuda:1", "the device has no virtual memory management")] and kind == "HeldMemory"
    monkeypatch.setattr(sys, "platform", "darwin")
    said, (kind, args, kwargs) = lines(CPU)
    assert said == [held.format("cpu", "no virtual memory calls on such a device")] and kind == "HeldMemory"


# ---- a real device ----


@pytest.mark.gpu
def test_memory_of_the_device_goes_and_comes_back_at_the_same_address():
    pytest.importorskip("cuda.bindings.driver")
    device, size = torch.device("cuda", 0), 2**31 + 12345  # three chunks
    block = allocate(size, device)
    assert isinstance(block, DriverMemory)
    view, address = block.tensor(), block.tensor().data_ptr()
    free = [torch.cuda.mem_get_info(device)[0]]
    for _ in range(2):
        view.fill_(255)
        block.release()
        free.append(torch.cuda.mem_get_info(device)[0])
        assert free[-1] - free[0] >= 0.95 * size
        block.restore()
        assert block.tensor().data_ptr() == view.data_ptr() == address
        assert not view.view(torch.uint8).any()
    with pytest.raises(torch.OutOfMemoryError, match="bytes are free"):
        allocate(2**40, device)
    assert abs(torch.cuda.mem_get_info(device)[0] - free[0]) < 0.05 * size
    block.close()
    assert torch.cuda.mem_get_info(device)[0] - free[0] >= 0.95 * size


@pytest.mark.gpu
def test_a_graph_replays_after_its_memory_was_released_and_restored():
    pytest.importorskip("cuda.bindings.driver")
    device = torch.device("cuda", 0)
    block = allocate(64 * MIB, device)
    x = block.tensor().view(torch.float32)
    graph = torch.cuda.CUDAGraph()
    x.add_(1).mul_(2)
    with torch.cuda.graph(graph):
        x.add_(1).mul_(2)
    graph.replay()
    assert x.eq(6).all()
    block.release()
    ballast = torch.full((64 * MIB,), 7, dtype=torch.uint8, device=device)  # what was ours may be another's now
    block.restore()
    graph.replay()
    assert x.eq(2).all() and ballast.eq(7).all()
