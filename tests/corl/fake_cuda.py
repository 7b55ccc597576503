"""A CUDA device that is not there: the CUDA branches run on fake tensors, and what they would ask of a device is noted.

It takes the library of fake_cuda.cpp, which LD_PRELOAD loads before torch. Fake tensors have shapes, dtypes and devices
but no values; kernels are not launched but counted, a graph's capture is a flag, and every read by the host is answered
with zeros. What a real device would do with the numbers, or how fast, nothing here can tell.
"""

import ctypes
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ROOT = Path(__file__).resolve().parents[2]
FREE_BYTES, TOTAL_BYTES = 120 << 30, 141 << 30
# ops that wait for their values, whatever the arguments
_WAITING = {"nonzero", "unique_dim", "_unique2", "unique_consecutive", "masked_select", "equal", "is_nonzero"}
_COPIES = {"_to_copy", "copy_", "_copy_from"}
_NO_KERNEL = {
    "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view", "lift_fresh", "resize_"
}  # fmt: skip


class Place(NamedTuple):
    """What would have happened, and the innermost function of corl or corl_kernels that caused it."""

    kind: str  # "read", "write" (of the device by the host), "wait", "mixed devices", "host tensor for a kernel"
    capture: bool  # while a graph was being captured
    file: str
    function: str


class Record:
    """What was found, how often and first how, and the kernels launched: all, and those of the captures."""

    def __init__(self) -> None:
        self.findings: dict[Place, tuple[int, str]] = {}
        self.kernels: Counter[str] = Counter()
        self.captured: Counter[str] = Counter()
        self.capturing = False
        self.gemm_rows = 0  # of the largest GEMM captured

    def note(self, kind: str, what: str) -> None:
        frame: Any = sys._getframe(1)
        place, line = Place(kind, self.capturing, "?", "?"), 0
        while frame is not None and not line:
            name = Path(frame.f_code.co_filename)
            if name.is_relative_to(ROOT / "corl") or name.is_relative_to(ROOT / "kernels"):
                function = frame.f_code.co_qualname.replace(".<locals>", "")
                place, line = Place(kind, self.capturing, name.relative_to(ROOT).as_posix(), function), frame.f_lineno
            frame = frame.f_back
        count, first = self.findings.get(place, (0, f"line {line}: {what}"))
        self.findings[place] = count + 1, first

    def launch(self, name: str) -> None:
        self.kernels[name] += 1
        if self.capturing:
            self.captured[name] += 1


class Watch(TorchDispatchMode):
    """Notes every op on fake tensors; it is entered above the FakeTensorMode."""

    def __init__(self, record: Record) -> None:
        super().__init__()
        self.record = record

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        name = func.name().partition("::")[2].partition(".")[0]
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        devices = {x.device.type for x in tensors}
        target = kwargs.get("device")
        if target is not None:
            devices.add(torch.device(target).type)
        assert func.namespace != "corl_kernels", f"{func.name()}: a registered op hides what it launches"
        if func.namespace == "aten":  # in inference mode ops that are made of others come here whole
            with self:
                made_of_others = func.decompose(*args, **kwargs)
            if made_of_others is not NotImplemented:
                return made_of_others
        if "cuda" in devices:
            self._look(name, func, tensors, devices, args, kwargs)
        if name == "_local_scalar_dense":
            return _scalar(tensors[0])
        if func is torch.ops.aten.addmm.dtype_out:  # its own fake raises a TypeError in torch 2.11 to 2.13
            return _checked_addmm(*args[:3], kwargs["out"])
        if name == "segment_reduce":  # has none
            return args[0].new_empty(len(kwargs["offsets"]) - 1)
        return func(*args, **kwargs)

    def _look(
        self, name: str, func: Any, tensors: list[Tensor], devices: set[str], args: tuple, kwargs: dict[str, Any]
    ) -> None:
        shapes = " ".join(f"{x.device.type}{list(x.shape)}" for x in tensors)
        if name in _COPIES:
            source, into = tensors[-1 if name == "copy_" else 0].device.type, tensors[0].device.type
            into = torch.device(kwargs.get("device") or into).type
            if source != into:
                self.record.note("read" if source == "cuda" else "write", f"{name} {shapes}")
                return
        elif name == "_local_scalar_dense":
            self.record.note("read", f"{name} {shapes}")
            return
        elif name in _WAITING or (name == "repeat_interleave" and kwargs.get("output_size") is None):
            self.record.note("wait", f"{name} {shapes}")
        elif name in ("index", "index_put_", "index_put") and any(
            x is not None and x.dtype == torch.bool for x in args[1]
        ):
            self.record.note("wait", f"{name} by a mask, {shapes}")
        elif len({x.device.type for x in tensors if x.ndim}) > 1:
            self.record.note("mixed devices", f"{name} {shapes}")
        returns = func._schema.returns
        is_view = bool(returns) and all(r.alias_info is not None and not r.alias_info.is_write for r in returns)
        if self.record.capturing and name in ("mm", "addmm"):
            self.record.gemm_rows = max(self.record.gemm_rows, len(args[name == "addmm"]))
        if func.namespace != "prim" and name not in _NO_KERNEL and not is_view:
            self.record.launch(name)


def _scalar(x: Tensor) -> bool | float | int:
    return True if x.dtype == torch.bool else 0.0 if x.is_floating_point() else 0


def _checked_addmm(c: Tensor, a: Tensor, b: Tensor, out: Tensor) -> Tensor:
    assert out.shape == c.shape == (a.shape[0], b.shape[1]) and a.shape[1] == b.shape[0], (c.shape, a.shape, b.shape)
    assert a.dtype == b.dtype == torch.bfloat16 and out.dtype == torch.float32, (a.dtype, b.dtype, out.dtype)
    return out


class _Stream:
    cuda_stream = 0

    def __init__(self, *_: Any, **__: Any) -> None:
        self.device = torch.device("cuda", 0)

    def wait_stream(self, other: Any) -> None: ...

    def wait_event(self, event: Any) -> None: ...

    def record_event(self, event: Any = None) -> Any:
        return event or _Event()


class _Event:
    def __init__(self, **_: Any) -> None: ...

    def record(self, *_: Any) -> None: ...

    def wait(self, *_: Any) -> None: ...


class _Graph:
    def replay(self) -> None: ...


def install(record: Record) -> None:
    """Put stand-ins for what has no device: torch.cuda, launches of Triton kernels, reads of a tensor's values."""
    from triton.runtime.jit import JITFunction

    @contextmanager
    def capture(*_: Any, **__: Any) -> Iterator[None]:
        record.capturing = True
        try:
            yield
        finally:
            record.capturing = False

    def launch(kernel: Any, *args: Any, grid: Any = None, warmup: bool = False, **options: Any) -> None:
        record.launch(kernel.fn.__name__)
        for x in tree_leaves((args, options)):
            if isinstance(x, Tensor) and not x.is_cuda:
                record.note("host tensor for a kernel", f"{kernel.fn.__name__} {list(x.shape)}")

    stand_ins = {
        "_lazy_init": lambda: None, "is_available": lambda: True, "current_device": lambda: 0,
        "device_count": lambda: 1, "get_device_capability": lambda *_: (9, 0), "set_device": lambda *_: None,
        "mem_get_info": lambda *_: (FREE_BYTES, TOTAL_BYTES), "empty_cache": lambda: None,
        "synchronize": lambda *_: record.note("wait", "torch.cuda.synchronize"),
        "Stream": _Stream, "Event": _Event, "current_stream": _Stream, "stream": nullcontext, "device": nullcontext,
        "is_current_stream_capturing": lambda: record.capturing,
        "CUDAGraph": _Graph, "graph": capture, "graph_pool_handle": lambda: (0, 0),
    }  # fmt: skip
    for name, stand_in in stand_ins.items():
        setattr(torch.cuda, name, stand_in)
    ctypes.CDLL(None).install_guard()
    fake_tensor.init_gpu_context = lambda device: None
    JITFunction.run = launch  # type: ignore[method-assign]
    JITFunction.__getitem__ = lambda kernel, grid: lambda *args, **options: launch(kernel, *args, grid=grid, **options)

    to_list, from_data = Tensor.tolist, torch.tensor

    def read_list(x: Tensor) -> Any:
        if x.is_cuda:
            record.note("read", f"tolist {list(x.shape)}")
        if not isinstance(x, FakeTensor):
            return to_list(x)
        nested: Any = _scalar(x)
        for size in reversed(x.shape):
            nested = [nested] * size
        return nested

    def from_list(data: Any, *, device: Any = None, **options: Any) -> Tensor:
        made = from_data(data, **options)
        if device is None or torch.device(device).type != "cuda":
            return made
        record.note("write", f"torch.tensor {list(made.shape)}")
        return torch.empty(made.shape, dtype=made.dtype, device=device)

    Tensor.tolist = FakeTensor.tolist = read_list  # type: ignore[method-assign]
    torch.tensor = from_list


@contextmanager
def walking(record: Record) -> Iterator[None]:
    """Within the block tensors are fake, whatever device they name, and `record` sees what becomes of them."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with mode, Watch(record):
        yield
