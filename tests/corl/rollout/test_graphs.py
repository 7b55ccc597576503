from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from corl.rollout import graphs
from corl.rollout.graphs import CudaRecorder, EagerSteps, GraphedSteps, bucket, make_steps, width_bucket
from corl.rollout.memory import DriverMemory, allocate


class Toy:
    """A body over static buffers: every row in use moves on by its own arithmetic."""

    def __init__(self, rows, device="cpu"):
        self.state = torch.arange(rows, dtype=torch.float32, device=device)
        self.live = torch.ones(rows, dtype=torch.bool, device=device)
        self.calls = []

    def __call__(self, rows, width, truncated):
        self.calls.append((rows, width, truncated))
        assert torch.is_inference_mode_enabled()
        state = self.state[:rows]
        moved = torch.sin(state * 3 + (0.5 if truncated else 0.25))
        state.copy_(torch.where(self.live[:rows], moved, state))


class Recorder:
    """Keeps what CudaRecorder records as a closure; `events` is what it was asked for, with the key."""

    def __init__(self):
        self.events = []
        self.resets = 0

    def warm_up(self, step):
        self.events.append(("warm up", *step.args))
        with torch.inference_mode():
            step()

    def capture(self, step):
        self.events.append(("capture", *step.args))

        def replay():
            self.events.append(("replay", *step.args))
            assert not torch.is_inference_mode_enabled()
            with torch.inference_mode():
                step()

        return replay

    def reset(self):
        self.events.append(("reset",))


def test_buckets_hold_the_rows_and_end_with_the_largest_batch():
    sizes = {m: sorted({bucket(rows, m) for rows in range(1, m + 1)}) for m in (1, 3, 100, 256, 512, 513, 1000)}
    assert sizes[1] == [1] and sizes[3] == [1, 2, 3]
    assert sizes[100] == [1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 100]
    assert sizes[512] == [1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 160, 192, 256, 320, 384, 448, 512]
    assert sizes[256] == sizes[512][:14]
    assert sizes[513] == [*sizes[512], 513] and sizes[1000] == [*sizes[512], 640, 768, 896, 1000]
    for limit in sizes:
        fits = [bucket(rows, limit) for rows in range(1, limit + 1)]
        assert fits == sorted(fits) and all(rows <= size <= limit for rows, size in enumerate(fits, 1))
        assert all(size <= max(2 * rows, rows + 127) for rows, size in enumerate(fits, 1))
    for rows in (0, 101):
        with pytest.raises(AssertionError):
            bucket(rows, 100)


def test_widths_are_powers_of_two_up_to_the_longest_sample():
    assert [width_bucket(width, 100) for width in (1, 2, 3, 5, 8, 64, 65, 100)] == [1, 2, 4, 8, 8, 64, 100, 100]
    assert {width_bucket(width, 128) for width in range(1, 129)} == {1, 2, 4, 8, 16, 32, 64, 128}
    for width in (0, 101):
        with pytest.raises(AssertionError):
            width_bucket(width, 100)


def test_the_cpu_calls_the_body_for_just_the_rows_and_pages_in_use():
    toy = Toy(5)
    steps = make_steps(toy, 5, 9, torch.device("cpu"))
    assert isinstance(steps, EagerSteps)
    steps.run(3, 4, width=5, truncated=True)
    steps.forget()
    steps.run(5, 0, width=5, truncated=False)
    assert toy.calls == [(3, 5, True)] * 4


def test_a_key_is_warmed_up_then_captured_once_and_replayed_for_the_rest_of_the_steps():
    recorder = Recorder()
    steps = GraphedSteps(Toy(40), 40, 12, recorder)

    def events(rows, count, truncated, width=3):
        recorder.events.clear()
        steps.run(rows, count, width=width, truncated=truncated)
        return recorder.events.copy()

    first = [("warm up", 24, 4, False), ("capture", 24, 4, False)]
    assert events(17, 0, False) == []
    assert events(17, 3, False) == first + [("replay", 24, 4, False)] * 2
    assert events(24, 2, False, width=4) == [("replay", 24, 4, False)] * 2
    assert events(20, 1, True) == [("warm up", 24, 4, True), ("capture", 24, 4, True)]
    assert events(33, 2, False) == [("warm up", 40, 4, False), ("capture", 40, 4, False), ("replay", 40, 4, False)]
    assert events(24, 1, False, width=9) == [("warm up", 24, 12, False), ("capture", 24, 12, False)]
    assert events(24, 1, False) == [("replay", 24, 4, False)]
    recorder.events.clear()
    steps.forget()
    assert recorder.events == [("reset",)]
    assert events(24, 1, False) == first


def test_warm_up_counts_as_a_step_so_that_graphs_equal_calls():
    eager, graphed = Toy(9), Toy(9)
    for toy in (eager, graphed):
        toy.live[5:] = False
    runs = [EagerSteps(eager), GraphedSteps(graphed, 9, 4, Recorder())]
    for rows, steps, truncated in ((5, 3, False), (5, 1, True), (3, 2, False), (5, 4, False), (1, 1, False)):
        for toy in (eager, graphed):
            toy.live[rows:] = False
        for run in runs:
            run.run(rows, steps, width=3, truncated=truncated)
        assert torch.equal(eager.state, graphed.state)


class BrokenRecorder(Recorder):
    def capture(self, step):
        raise RuntimeError("operation not permitted when stream is capturing")


def test_a_capture_that_fails_leaves_no_graph_behind():
    steps = GraphedSteps(Toy(4), 4, 1, BrokenRecorder())
    with pytest.raises(RuntimeError, match="capturing"):
        steps.run(4, 2, width=1, truncated=False)
    steps._recorder = Recorder()
    steps.run(4, 1, width=1, truncated=False)
    assert steps._recorder.events == [("warm up", 4, 1, False), ("capture", 4, 1, False)]


@pytest.fixture
def cuda(monkeypatch):
    """Stand-ins for what CudaRecorder calls; a list of what they were asked for, in order."""
    log = []

    class Stream:
        def __init__(self, device, name="own"):
            self.device, self.name = device, name

        def wait_stream(self, other):
            log.append(f"{self.name} waits for {other.name}")

    class Graph:
        def replay(self):
            log.append("replay")

    @contextmanager
    def stream(which):
        log.append(f"on {which.name}")
        yield
        log.append(f"off {which.name}")

    @contextmanager
    def graph(made, pool=None, stream=None, capture_error_mode="global"):
        assert isinstance(made, Graph)
        log.append(("capture", pool, stream.name, capture_error_mode, torch.is_inference_mode_enabled()))
        yield
        log.append(("captured", torch.is_inference_mode_enabled()))

    pools = iter("ABC")
    fakes = {
        "Stream": Stream, "CUDAGraph": Graph, "stream": stream, "graph": graph,
        "graph_pool_handle": lambda: next(pools), "current_stream": lambda device: Stream(device, "main"),
        "synchronize": lambda device: log.append("synchronize"),
    }  # fmt: skip
    monkeypatch.setattr(graphs.torch, "cuda", SimpleNamespace(**fakes))
    return log


@pytest.mark.parametrize("outside", [True, False], ids=["inference_mode", "grad_mode"])
def test_the_body_is_in_inference_mode_and_the_capture_is_not(cuda, outside):
    def step():
        cuda.append(("step", torch.is_inference_mode_enabled()))

    recorder = CudaRecorder(torch.device("cuda", 0))
    with torch.inference_mode(outside):
        recorder.warm_up(step)
        replays = [recorder.capture(step) for _ in range(2)]
    assert cuda[:5] == ["own waits for main", "on own", ("step", True), "off own", "main waits for own"]
    assert cuda[5:] == 2 * [("capture", "A", "own", "thread_local", False), ("step", True), ("captured", False)]
    cuda.clear()
    replays[1]()
    recorder.reset()
    recorder.capture(step)
    assert cuda[:3] == ["replay", "synchronize", ("capture", "B", "own", "thread_local", False)]


def test_a_gpu_gets_graphs(cuda):
    steps = make_steps(Toy(4), 4, 1, torch.device("cuda", 0))
    assert isinstance(steps, GraphedSteps) and isinstance(steps._recorder, CudaRecorder)


@pytest.mark.gpu
def test_graphs_on_cuda_equal_calls_bitwise():
    device = torch.device("cuda", 0)
    with torch.inference_mode():
        eager, graphed = Toy(300, device), Toy(300, device)
    runs = [EagerSteps(eager), make_steps(graphed, 300, 1, device)]
    for rows, steps, truncated in ((300, 8, False), (171, 5, True), (171, 1, False), (40, 3, False), (300, 2, False)):
        for toy, run in zip((eager, graphed), runs, strict=True):
            with torch.inference_mode():
                toy.live.fill_(True)
                toy.live[rows:] = False
            with torch.inference_mode(rows > 100):
                run.run(rows, steps, width=1, truncated=truncated)
        assert torch.equal(eager.state, graphed.state)
    runs[1].forget()
    for run in runs:
        run.run(300, 4, width=1, truncated=False)
    assert torch.equal(eager.state, graphed.state)
    other = torch.cuda.CUDAGraph()  # the generator's state is fit for graphs outside inference mode
    x = torch.zeros(8, device=device)
    with torch.cuda.graph(other):
        x.normal_()
    other.replay()
    assert x.any()


@pytest.mark.gpu
def test_graphs_on_cuda_outlive_the_release_of_the_memory_they_use():
    pytest.importorskip("cuda.bindings.driver")
    device = torch.device("cuda", 0)
    block = allocate(2**20, device)
    assert isinstance(block, DriverMemory)
    total = block.tensor().view(torch.float32)

    def body(rows, width, truncated):
        total[:rows] += 1

    steps = make_steps(body, 64, 1, device)
    steps.run(64, 3, width=1, truncated=False)
    assert total[:64].eq(3).all()
    block.release()
    block.restore()
    steps.run(60, 5, width=1, truncated=False)
    assert total[:64].eq(5).all() and not total[64:].any()
