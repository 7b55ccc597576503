"""Several ways of doing the same work, measured side by side: time, memory, distance to the floor and to the roof."""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from bench.memory import peak_bytes, peak_bytes_cuda
from bench.roofline import Peaks
from bench.timing import Run, Timing, captured, race

# What a rival may raise for a shape, a version or a device it does not know: a row that says so, not the end.
PEER_ERRORS = (RuntimeError, ValueError, TypeError, AttributeError, ImportError, AssertionError)


def nothing() -> None:
    """The `prepare` of a run that needs none."""


@dataclass(frozen=True, slots=True)
class Contender:
    """`run` does the work `op` once, after `prepare`, which is never timed.

    flops, traffic   of the work itself, whoever does it: FLOP, and the fewest bytes read and written
    floor            the contender whose time it is compared with
    gradients        bytes of what the run leaves behind, by name; part of its peak memory
    peer             somebody else's: if it cannot run, it is skipped
    graph            on a GPU, time the replay of a CUDA graph
    own_buffers      works in buffers made beforehand, so that its memory would say nothing
    skipped          why it does not run
    """

    op: str
    name: str
    run: Run = nothing
    prepare: Run = nothing
    flops: float = 0.0
    traffic: float = 0.0
    floor: str | None = None
    gradients: Mapping[str, int] = field(default_factory=dict)
    peer: bool = False
    graph: bool = False
    own_buffers: bool = False
    skipped: str | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """Where a contest takes place; `shape` names its sizes."""

    suite: str
    model: str
    dtype: str
    shape: Mapping[str, int]

    @property
    def title(self) -> str:
        sizes = " ".join(f"{key}={size}" for key, size in self.shape.items())
        return f"{self.suite} {self.model} {self.dtype} {sizes}"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the results: times in ms, rates in TFLOP/s and GB/s, `roof_percent` of the higher of the two."""

    case: Case
    op: str
    name: str
    skipped: str | None = None
    timing: Timing | None = None
    floor: str | None = None
    floor_ratio: float | None = None
    flops: float = 0.0
    traffic: float = 0.0
    tflops: float = 0.0
    gbps: float = 0.0
    roof_percent: float = 0.0
    peak_bytes: int | None = None
    gradient_bytes: Mapping[str, int] = field(default_factory=dict)
    errors: Mapping[str, float] = field(default_factory=dict)


def missing(package: str) -> str | None:
    """Why a rival is skipped, where its package is not installed."""
    return None if importlib.util.find_spec(package) else f"{package} is not installed"


def hold(
    case: Case,
    contenders: Sequence[Contender],
    device: torch.device,
    peaks: Peaks,
    *,
    repeats: int,
    errors: Mapping[str, Mapping[str, float]] | None = None,
) -> list[Row]:
    """Rows in the order of the contenders, timed interleaved after a warm-up; `errors` by name are copied into them."""
    memory: dict[str, int] = {}
    runs: dict[str, tuple[Run, Run]] = {}
    entries = list(contenders)
    for index, entry in enumerate(entries):
        if entry.skipped is not None:
            continue
        try:
            memory[entry.name], timed = _warm_up(entry, device)
            runs[entry.name] = (entry.prepare, timed)
        except PEER_ERRORS as error:
            if not entry.peer:
                raise
            entries[index] = replace(entry, skipped=f"{type(error).__name__}: {error}".splitlines()[0][:200])
        entry.prepare()
        if device.type == "cuda":
            torch.cuda.empty_cache()
    timings = race(runs, device, repeats)
    for entry in entries:
        entry.prepare()
    return [_row(case, entry, timings, memory, peaks, (errors or {}).get(entry.name, {})) for entry in entries]


def _warm_up(entry: Contender, device: torch.device) -> tuple[int, Run]:
    """Peak memory of one run after the first ones, and what is to be timed."""
    on_gpu = device.type == "cuda"
    for _ in range(2 if on_gpu else 1):
        entry.prepare()
        entry.run()
    entry.prepare()
    peak = (peak_bytes_cuda if on_gpu else peak_bytes)(entry.run)
    entry.prepare()
    return peak, captured(entry.run) if on_gpu and entry.graph else entry.run


def _row(
    case: Case,
    entry: Contender,
    timings: Mapping[str, Timing],
    memory: Mapping[str, int],
    peaks: Peaks,
    errors: Mapping[str, float],
) -> Row:
    if entry.skipped is not None:
        return Row(case, entry.op, entry.name, skipped=entry.skipped)
    timing = timings[entry.name]
    floor = timings.get(entry.floor) if entry.floor else None
    return Row(
        case,
        entry.op,
        entry.name,
        timing=timing,
        floor=entry.floor if floor else None,
        floor_ratio=timing.p50 / floor.p50 if floor else None,
        flops=entry.flops,
        traffic=entry.traffic,
        tflops=entry.flops / timing.p50 * 1e-9,
        gbps=entry.traffic / timing.p50 * 1e-6,
        roof_percent=100 * peaks.floor_ms(entry.flops, entry.traffic) / timing.p50,
        peak_bytes=None if entry.own_buffers else memory[entry.name],
        gradient_bytes=entry.gradients,
        errors=errors,
    )
