"""Ordered work over processes, and what happens when one of them, or all, are killed."""

import itertools
import os
import signal
import subprocess
import sys
import time
from contextlib import closing

import pytest

from corl.rods.sampling.workers import Workers


def late_when_even(state: int, task: int) -> int:
    time.sleep(0.02 * (task % 2 == 0))
    return state * task


def fail_at_three(state: int, task: int) -> int:
    if task == 3:
        raise ValueError("three")
    return task


def end_own_process(state: int, task: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return task


@pytest.mark.parametrize("count, start_method", [(1, None), (2, "fork"), (3, "fork"), (2, "spawn")])
def test_results_come_in_the_order_of_the_tasks(count: int, start_method: str | None) -> None:
    with Workers(count, 10, start_method) as pool:
        assert list(pool.map(late_when_even, range(9))) == [10 * task for task in range(9)]
        assert list(pool.map(late_when_even, range(3))) == [0, 10, 20]


@pytest.mark.parametrize("count", [1, 2])
def test_tasks_without_an_end_are_taken_as_they_are_needed(count: int) -> None:
    endless = itertools.count()
    with Workers(count, 1) as pool:
        with closing(pool.map(late_when_even, endless)) as results:
            assert list(itertools.islice(results, 5)) == [0, 1, 2, 3, 4]
        assert next(endless) < 20
        assert list(pool.map(late_when_even, range(2))) == [0, 1]


@pytest.mark.parametrize("count", [1, 2])
def test_an_error_of_the_work_comes_out(count: int) -> None:
    with Workers(count, 1) as pool, pytest.raises(ValueError, match="three"):
        list(pool.map(fail_at_three, range(6)))


def test_a_killed_worker_is_one_clear_error() -> None:
    with Workers(2, 1) as pool, pytest.raises(ValueError, match="killed, perhaps for memory; ask for fewer --workers"):
        list(pool.map(end_own_process, range(2)))


PARENT = """
import sys, time
sys.path.insert(0, {here!r})
from test_workers import say_process
from corl.rods.sampling.workers import Workers
with Workers(2, 1) as pool:
    for number in pool.map(say_process, range(2)):
        print(number, flush=True)
    time.sleep(60)
"""


def say_process(state: int, task: int) -> int:
    time.sleep(0.3)  # so that the other one takes the second task
    return os.getpid()


def test_workers_end_with_a_parent_that_is_killed() -> None:
    script = PARENT.format(here=os.path.dirname(__file__))
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    processes = {int(parent.stdout.readline()) for _ in range(2)}
    parent.kill()
    parent.wait()
    end = time.monotonic() + 20
    while any(is_running(process) for process in processes):
        assert time.monotonic() < end, f"{processes} outlived their parent"
        time.sleep(0.1)


def is_running(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
