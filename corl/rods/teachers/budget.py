"""A token budget that is never overdrawn: room is reserved before a request is sent."""

import asyncio
from collections.abc import Sequence

from corl.rods.teachers.protocol import Message, TeacherError

_FRAME_TOKENS = 64  # of a chat template around the messages, and 16 around each


class OverBudget(TeacherError):
    """The budget has no room for this request, and none will be given back."""


def most_prompt_tokens(messages: Sequence[Message]) -> int:
    """More tokens than the messages can have: a byte is one at most."""
    return _FRAME_TOKENS + sum(16 + len(message["content"].encode(errors="replace")) for message in messages)


class Budget:
    """Tokens of all requests together, `limit` None being without end.

    A reservation is for the most that a request can cost, the charge is what it did cost. Where reservations of
    requests under way are all that is in the way, a new one waits for them.
    """

    def __init__(self, limit: int | None, spent: int = 0) -> None:
        self.limit, self.spent, self.reserved = limit, spent, 0
        self._changed = asyncio.Condition()

    async def reserve(self, tokens: int) -> None:
        if self.limit is None:
            return
        async with self._changed:
            while self.spent + self.reserved + tokens > self.limit:
                if self.spent + tokens > self.limit:
                    raise OverBudget(f"token budget: {self.spent} of {self.limit} are spent")
                await self._changed.wait()
            self.reserved += tokens

    async def settle(self, reserved: int, cost: int) -> None:
        """Charge a request's cost and give its reservation back."""
        self.spent += cost
        if self.limit is None:
            return
        async with self._changed:
            self.reserved -= reserved
            self._changed.notify_all()
