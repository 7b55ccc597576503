"""Milliseconds of a call, sampled so that rivals share whatever the machine does meanwhile."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

Run = Callable[[], object]
Clock = Callable[[Run], float]
# Several times any L2 cache. Reading it takes about 0.1 ms, in which the host queues the timed call behind it.
_FLUSH_BYTES = 512 << 20
_ROUNDS_CUDA = 4


@dataclass(frozen=True, slots=True)
class Timing:
    """Percentiles of the samples, in milliseconds."""

    p20: float
    p50: float
    p80: float
    samples: int

    @classmethod
    def of(cls, samples_ms: list[float]) -> "Timing":
        low, middle, high = (float(value) for value in np.percentile(samples_ms, (20, 50, 80)))
        return cls(low, middle, high, len(samples_ms))


def wall_clock(run: Run) -> float:
    """One sample on the CPU."""
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1e3


def cuda_clock() -> Clock:
    """One sample on the current GPU: between two events, with a cold L2 cache."""
    flush = torch.ones(_FLUSH_BYTES // 4, device="cuda")

    def sample(run: Run) -> float:
        flush.sum()  # read, not written: dirty lines would be written back inside the timed region
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        end.record()
        end.synchronize()
        return start.elapsed_time(end)

    return sample


def captured(run: Run) -> Run:
    """Replay of a CUDA graph of `run`: what its kernels take, without the host's launches."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    torch.cuda.empty_cache()  # the graph allocates from a pool of its own and cannot take what the other stream cached
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def interleave(
    runs: Mapping[str, tuple[Run, Run]],
    clock: Clock,
    *,
    rounds: int,
    per_round: int = 1,
    settle: Run | None = None,
) -> dict[str, Timing]:
    """Time of each (prepare, run): in every round each takes `per_round` samples, odd rounds in reverse order.

    `prepare` precedes every call, off the clock. With `settle`, a turn begins with it and one call that is not counted.
    """
    samples: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds):
        for name in list(runs) if turn % 2 == 0 else reversed(runs):
            prepare, run = runs[name]
            if settle is not None:
                settle()
                prepare()
                run()
            for _ in range(per_round):
                prepare()
                samples[name].append(clock(run))
    return {name: Timing.of(values) for name, values in samples.items()}


def race(runs: Mapping[str, tuple[Run, Run]], device: torch.device, repeats: int) -> dict[str, Timing]:
    """`interleave` with at least `repeats` samples, as the device wants it.

    On a GPU a turn is several samples after an uncounted one that starts from an empty allocator cache: otherwise the
    buffers of one rival would have to be given back to the driver inside the time of the next.
    """
    if not runs:
        return {}
    if device.type == "cuda":
        rounds = min(_ROUNDS_CUDA, repeats)
        per_round = -(-repeats // rounds)
        return interleave(runs, cuda_clock(), rounds=rounds, per_round=per_round, settle=torch.cuda.empty_cache)
    return interleave(runs, wall_clock, rounds=repeats)
