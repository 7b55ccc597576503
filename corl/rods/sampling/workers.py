"""Ordered work over processes: results come in the order of the tasks, whoever finishes first."""

import gc
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Generic, TypeVar

State = TypeVar("State")
Task = TypeVar("Task")
Result = TypeVar("Result")

AHEAD = 2  # tasks a worker may have waiting
_state: Any = None


class Workers(Generic[State]):
    """`count` processes that hold `state`; one process is this one. Use as a context.

    Nothing in this work goes in circles, and there are millions of kept names to look for circles among: within the
    context nobody looks.

    start_method   "fork" hands the state over as it lies in memory, "spawn" by pickling it; None takes fork where there
                   is one.
    """

    def __init__(self, count: int, state: State, start_method: str | None = None) -> None:
        self.count, self._state, self._collected = count, state, gc.isenabled()
        self._executor: ProcessPoolExecutor | None = None
        if count > 1:
            method = start_method or ("fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn")
            self._executor = ProcessPoolExecutor(
                count, multiprocessing.get_context(method), initializer=_begin, initargs=(state, os.getpid())
            )

    def __enter__(self) -> "Workers[State]":
        self._collected = gc.isenabled()
        gc.disable()
        return self

    def __exit__(self, *_: object) -> None:
        if self._collected:
            gc.enable()
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)

    def map(self, work: Callable[[State, Task], Result], tasks: Iterable[Task]) -> Generator[Result, None, None]:
        """`work(state, task)` of each task, in order; `tasks` may have no end, a few are taken ahead.

        Raises ValueError when a worker was killed, and whatever `work` raises.
        """
        if self._executor is None:
            for task in tasks:
                yield work(self._state, task)
            return
        waiting: deque[Future[Result]] = deque()
        try:
            for task in tasks:
                waiting.append(self._executor.submit(_run, work, task))
                if len(waiting) > self.count * AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise ValueError("a worker process was killed, perhaps for memory; ask for fewer --workers") from error
        finally:
            for future in waiting:
                future.cancel()


def _begin(state: Any, parent: int) -> None:
    global _state
    _state = state
    gc.disable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it and ends the work
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """A parent that was killed ends nobody: without this its workers would wait for tasks for ever."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _run(work: Callable[[Any, Task], Result], task: Task) -> Result:
    return work(_state, task)
