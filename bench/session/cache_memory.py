"""Memory with a fixed address: how long giving it back and taking it again lasts, and a graph over it afterwards."""

from time import perf_counter

import torch

from bench.session.context import Context
from bench.session.record import at_least, at_most

_GB = 40  # of a cache that a trainer needs the memory of
_TURNS = 3


def run(context: Context) -> None:
    from corl.rollout.memory import HeldMemory, allocate

    nbytes = 1 << 26 if context.toy else _GB * 10**9
    start = perf_counter()
    memory = allocate(nbytes, context.device)
    _wait(context)
    kind, size = type(memory).__name__, f"{nbytes / 1e9:.3g} GB"
    context.record.claim(f"allocate {size}", perf_counter() - start, unit="s", kind=kind)
    # without the driver's calls the memory stays taken while the trainer works
    held = float(isinstance(memory, HeldMemory))
    context.record.claim("memory that cannot be given back", held, goal=at_most(0), kind=kind)

    numbers = memory.tensor().view(torch.float32)
    where = numbers.data_ptr()
    source = torch.arange(1000, dtype=torch.float32, device=context.device)
    target = torch.zeros_like(source)

    def step() -> None:
        numbers[-1000:] += source
        target.copy_(numbers[-1000:] * 2)

    replay = step if context.toy else _capture(step)
    seconds: dict[str, list[float]] = {"release": [], "restore": []}
    freed = []
    for _ in range(_TURNS):
        before = _free(context)
        for name, call in (("release", memory.release), ("restore", memory.restore)):
            _wait(context)
            start = perf_counter()
            call()
            _wait(context)
            seconds[name].append(perf_counter() - start)
            if name == "release":
                freed.append(_free(context) - before)
    for name, found in seconds.items():
        # of one rollout and one update of some 60 s each, 1 % for both
        context.record.claim(f"{name} {size}", sorted(found)[_TURNS // 2], unit="s", goal=at_most(0.5), all=found)
    if not context.toy:
        context.record.claim(f"given back of {size}", min(freed) / nbytes, unit="of it", goal=at_least(0.99))

    target.zero_()
    replay()
    _wait(context)
    wrong = int((target != 2 * source).sum()) + int(numbers[: 1 << 20].count_nonzero())
    context.record.claim("numbers that are wrong when a graph is replayed after it", wrong, must=at_most(0))
    context.record.claim("bytes the address has moved by", abs(numbers.data_ptr() - where), must=at_most(0))
    memory.close()


def _capture(step):
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def _wait(context: Context) -> None:
    if not context.toy:
        torch.cuda.synchronize()


def _free(context: Context) -> int:
    return 0 if context.toy else torch.cuda.mem_get_info()[0]
