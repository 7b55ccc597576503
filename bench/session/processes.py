"""Processes below this one: found by the kernel's own table, and ended with everything they started."""

import ctypes
import os
import signal
import threading
import time
from pathlib import Path

_CHILD_SUBREAPER = 36  # prctl(2)


def adopt_orphans() -> None:
    """Become the parent of descendants whose parent has died, so that `end_descendants` finds them. Linux only."""
    ctypes.CDLL(None, use_errno=True).prctl(_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(pid: int) -> list[int]:
    """All living processes below `pid`, whatever session or process group they have made for themselves."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            state, parent = (entry / "stat").read_text().rsplit(")", 1)[1].split()[:2]
        except (OSError, IndexError, ValueError):
            continue  # it has just ended
        if state != "Z":
            children.setdefault(int(parent), []).append(int(entry.name))
    found, waiting = [], [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def end_descendants(pid: int, *, patience_s: float = 5.0) -> None:
    """Kill every process below `pid`, those that are started meanwhile too, and collect what is left of our own."""
    until = time.monotonic() + patience_s
    while (found := descendants(pid)) and time.monotonic() < until:
        for process in found:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        _collect()
        time.sleep(0.02)
    _collect()


def _collect() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def end_with_parent(interval_s: float = 0.5) -> None:
    """From now on this process ends, with all it started, soon after its parent has ended."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(interval_s)
        end_descendants(os.getpid())
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
