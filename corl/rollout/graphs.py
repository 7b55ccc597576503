"""How a step over static buffers is repeated: called on a CPU, captured once and replayed on a GPU."""

from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch

# body(rows, width, truncated) runs one step for rows 0 .. rows - 1 of its buffers
# width: columns of the block table that it reads; truncated: some row uses top_k or top_p
Body = Callable[[int, int, bool], None]
BUCKETS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 160, 192, 256, 320, 384, 448, 512)
LARGE_STEP = 128  # between buckets beyond those


class Steps(Protocol):
    def run(self, rows: int, steps: int, *, width: int, truncated: bool) -> None:
        """`steps` steps for rows 0 .. rows - 1, none of which uses more than `width` columns of the block table by the
        last of them; in inference mode, without waiting for the device."""

    def forget(self) -> None:
        """Call before anything that the body reads or writes moves to another address."""


def make_steps(body: Body, max_rows: int, max_width: int, device: torch.device) -> Steps:
    """Graphs on a GPU, plain calls everywhere else."""
    return GraphedSteps(body, max_rows, max_width, CudaRecorder(device)) if device.type == "cuda" else EagerSteps(body)


def bucket(rows: int, max_rows: int) -> int:
    """The smallest size of a graph that holds so many rows; max_rows is always one."""
    assert 1 <= rows <= max_rows, f"{rows} rows of at most {max_rows}"
    larger = -(-rows // LARGE_STEP) * LARGE_STEP
    return min(next((size for size in BUCKETS if size >= rows), larger), max_rows)


def width_bucket(width: int, max_width: int) -> int:
    """The smallest power of two that is no less, at most max_width."""
    assert 1 <= width <= max_width, f"{width} pages of at most {max_width}"
    return min(1 << (width - 1).bit_length(), max_width)


class EagerSteps:
    def __init__(self, body: Body) -> None:
        self.body = body

    @torch.inference_mode()
    def run(self, rows: int, steps: int, *, width: int, truncated: bool) -> None:
        for _ in range(steps):
            self.body(rows, width, truncated)

    def forget(self) -> None:
        """Every call reads the addresses anew."""


class Recorder(Protocol):
    def warm_up(self, step: Callable[[], None]) -> None:
        """Run the step, leaving nothing that capture may not do: compiling, making handles and communicators."""

    def capture(self, step: Callable[[], None]) -> Callable[[], None]:
        """Record the step without running it; what comes back runs it."""

    def reset(self) -> None:
        """Nothing captured so far will be called again: wait for what is under way."""


class GraphedSteps:
    """One graph for each bucket of rows, bucket of widths and value of `truncated`, captured when first needed.

    Attention launches programs for every column of the table and keeps partial sums for all of them: a table as wide as
    the model's positions would cost a short batch more than its attention.

    A graph covers its whole bucket, so the body must leave everything in order when rows beyond the live ones are not
    in use (slot -1, context length 0). It may neither read from the device nor depend on what its buffers hold, and
    returns nothing: the graphs share one memory pool, in which a graph's temporaries may overwrite another's.

    The first step of a new key runs uncaptured, as its warm-up; the state moves on by exactly `steps` steps either way.
    A rollout starts with its largest batch and thins out, so capture as needed is largest first as well, which lets
    the smaller graphs use the larger ones' memory, and costs nothing for buckets that never occur. Tables widen as the
    samples grow: a wider graph's partial sums do not fit the memory of the narrower ones, which the pool keeps, but as
    widths double all of them together take less than twice the widest's. The pool grows after the cache was allocated;
    decode_memory.decode_bytes says how far.

    A body with collectives (tensor parallelism): all ranks must run the same keys in the same order, within one node
    (NCCL 2.28.9, torch 2.11's, can hang in graphs across nodes). init_world sets NCCL_GRAPH_MIXING_SUPPORT=0, which
    forbids uncaptured collectives of the same communicator while a replay is under way, so that it must not be the
    trainer's, and NCCL_GRAPH_REGISTER=0, since registered buffers that are released and restored make a replay hang.
    """

    def __init__(self, body: Body, max_rows: int, max_width: int, recorder: Recorder) -> None:
        self.body, self.max_rows, self.max_width = body, max_rows, max_width
        self._recorder = recorder
        self._graphs: dict[tuple[int, int, bool], Callable[[], None]] = {}

    def run(self, rows: int, steps: int, *, width: int, truncated: bool) -> None:
        key = bucket(rows, self.max_rows), width_bucket(width, self.max_width), truncated
        if steps > 0 and key not in self._graphs:
            step = partial(self.body, *key)
            self._recorder.warm_up(step)
            self._graphs[key] = self._recorder.capture(step)
            steps -= 1
        with torch.inference_mode(False):  # see CudaRecorder.capture
            for _ in range(steps):
                self._graphs[key]()

    def forget(self) -> None:
        self._recorder.reset()
        self._graphs.clear()


class CudaRecorder:
    """CUDA graphs in one memory pool, warmed up and captured on a stream of their own.

    Has never run on a GPU: written against torch 2.11 and 2.13, its calls tested with stand-ins.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def warm_up(self, step: Callable[[], None]) -> None:
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream), torch.inference_mode():
            step()
        current.wait_stream(self._stream)

    def capture(self, step: Callable[[], None]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        # The body belongs in inference mode, as its buffers may be inference tensors. The capture does not: the first
        # one makes the generator's seed and offset, and as inference tensors they break every graph captured or
        # replayed outside of that mode (pytorch issue 166792).
        # thread_local: a thread that writes a checkpoint may allocate pinned memory meanwhile
        with (
            torch.inference_mode(False),
            torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"),
            torch.inference_mode(),
        ):
            step()
        return graph.replay

    def reset(self) -> None:
        torch.cuda.synchronize(self._device)
        self._pool = torch.cuda.graph_pool_handle()  # a pool whose graphs are all gone takes no others
