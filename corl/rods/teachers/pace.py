"""When to ask again: growing waits with jitter, the server's own Retry-After, and an end to it."""

import asyncio
import hashlib
from dataclasses import dataclass
from time import monotonic

from corl.rods.teachers.protocol import TeacherError


class TryLater(TeacherError):
    """No answer this time: overload, a broken connection, nonsense instead of a reply.

    after_s  how long the server wants to be left alone, where it said so
    lost     the request may have been answered, and charged for, without our seeing it
    """

    def __init__(self, reason: str, *, after_s: float | None = None, lost: bool = False) -> None:
        super().__init__(reason)
        self.after_s, self.lost = after_s, lost


@dataclass(frozen=True, slots=True)
class Patience:
    """retries after the first attempt; `wait_s` before the first of them, doubled for each, `longest_s` at most.

    A server that asks for more than `longest_s` is taken at its word: the call fails. After `give_up` calls in a row
    have failed for good, the server counts as gone and every further call fails at once.
    """

    retries: int = 6
    wait_s: float = 1.0
    longest_s: float = 120.0
    give_up: int = 32


class Pace:
    """The waits of all calls to one server: what one of them is told (Retry-After) holds for all."""

    def __init__(self, patience: Patience) -> None:
        self.patience = patience
        self.waits = 0
        self._free_at = 0.0
        self._failed_in_a_row = 0

    async def admit(self) -> None:
        """Returns once the server may be asked. Raises TeacherError when it counts as gone."""
        if self._failed_in_a_row >= self.patience.give_up:
            raise TeacherError(f"not asked: {self._failed_in_a_row} calls in a row had failed")
        while (wait := self._free_at - monotonic()) > 0:
            await asyncio.sleep(wait)

    async def wait(self, key: str, attempt: int, problem: TryLater) -> None:
        """Wait before attempt + 1. Raises TeacherError with the problem where there is none to come."""
        wait = min(self.patience.longest_s, self.patience.wait_s * 2.0**attempt)
        wait *= 0.5 + _share(key, attempt)  # half to one and a half of it: calls that failed together spread out
        if problem.after_s is not None:
            wait = max(wait, problem.after_s)
            if problem.after_s <= self.patience.longest_s:
                self._free_at = max(self._free_at, monotonic() + problem.after_s)
        if attempt >= self.patience.retries or (problem.after_s or 0.0) > self.patience.longest_s:
            self._failed_in_a_row += 1
            asks = f", which asks for {problem.after_s:.0f} s" if problem.after_s else ""
            raise TeacherError(f"{problem} ({attempt + 1} attempts{asks})")
        self.waits += 1
        await asyncio.sleep(wait)

    def answered(self) -> None:
        self._failed_in_a_row = 0


def _share(key: str, attempt: int) -> float:
    """[0, 1), a function of its key."""
    return int.from_bytes(hashlib.sha256(f"{key}\0{attempt}".encode()).digest()[:6]) / 2.0**48
