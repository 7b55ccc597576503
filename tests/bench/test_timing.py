import time

import pytest
import torch

from bench.timing import Timing, interleave, race, wall_clock


def test_percentiles_are_those_of_the_samples():
    timing = Timing.of([float(value) for value in range(11)])
    assert (timing.p20, timing.p50, timing.p80, timing.samples) == (2.0, 5.0, 8.0, 11)


def test_rivals_take_turns_and_each_call_is_prepared():
    calls = []
    runs = {name: (lambda name=name: calls.append(f"prepare {name}"), lambda name=name: name) for name in ("a", "b")}

    def clock(run):
        calls.append(run())
        return 1.0

    timings = interleave(runs, clock, rounds=2, per_round=2)
    turn = {name: [f"prepare {name}", name] * 2 for name in runs}
    assert calls == turn["a"] + turn["b"] + turn["b"] + turn["a"]
    assert {name: timing.samples for name, timing in timings.items()} == {"a": 4, "b": 4}


def test_settling_call_is_made_and_not_counted():
    calls = []
    runs = {"a": (lambda: None, lambda: calls.append("run"))}
    clock = lambda run: [run(), 5.0][1]  # noqa: E731
    timing = interleave(runs, clock, rounds=3, per_round=1, settle=lambda: calls.append("settle"))["a"]
    assert calls == ["settle", "run", "run"] * 3
    assert timing == Timing(5.0, 5.0, 5.0, 3)


def test_preparation_is_off_the_clock():
    timing = race({"a": (lambda: time.sleep(0.05), lambda: None)}, torch.device("cpu"), repeats=3)["a"]
    assert timing.p80 < 25


def test_wall_clock_gives_milliseconds():
    assert 10 <= wall_clock(lambda: time.sleep(0.01)) < 200


def test_nobody_to_time():
    assert race({}, torch.device("cpu"), repeats=3) == {}


@pytest.mark.gpu
def test_a_captured_call_computes_and_takes_as_long_as_its_bytes_need():
    from bench.timing import captured, cuda_clock

    source = torch.randn(1 << 28, device="cuda")
    target = torch.zeros_like(source)
    replay = captured(lambda: target.copy_(source))
    target.zero_()
    clock = cuda_clock()
    milliseconds = min(clock(replay) for _ in range(5))
    assert torch.equal(target, source)
    assert milliseconds > 2 * source.nbytes / 10e12 * 1e3  # no memory moves 10 TB/s
