"""A teacher with a memory and a purse: what was answered is read back, what is asked is counted."""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from corl.rods.teachers.budget import Budget, most_prompt_tokens
from corl.rods.teachers.pace import Pace, Patience, TryLater
from corl.rods.teachers.protocol import Message, TeacherError
from corl.rods.teachers.store import Reply, RequestStore, request_key


@dataclass(frozen=True, slots=True)
class Ask:
    """One sample of one prompt. `key` is its request key: what keys the draws of those who draw themselves."""

    key: str
    messages: Sequence[Message]
    temperature: float
    max_tokens: int


class Source(Protocol):
    """Who answers: an endpoint, our own engine.

    model   names the weights: answers are stored under it
    params  what else an answer depends on, as JSON
    """

    model: str
    params: dict[str, Any]

    async def answer(self, ask: Ask) -> Reply:
        """One attempt. Raises TryLater where another one may do, TeacherError where none will at present, and
        ValueError for what no request will get past (a wrong key, an unknown model)."""
        ...

    async def close(self) -> None: ...


@dataclass(slots=True)
class Usage:
    """What this run asked for. `stored` answers came from the file and cost nothing."""

    asked: int = 0
    stored: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __str__(self) -> str:
        return (
            f"{self.asked:,} requests answered, {self.stored:,} from the store, {self.failed:,} failed; "
            f"{self.prompt_tokens:,} prompt + {self.completion_tokens:,} completion tokens"
        )


class StoredTeacher:
    """A Teacher over a source. Every sample is a request of its own, so that a stop loses none of its siblings.

    concurrency  requests under way at most; None: the source arranges them itself
    The budget covers all that the store holds, of earlier runs too: starting again does not refill it.
    """

    def __init__(
        self,
        source: Source,
        store: RequestStore,
        *,
        concurrency: int | None = None,
        token_budget: int | None = None,
        seed: int = 0,
        patience: Patience | None = None,
    ) -> None:
        self.source, self.store, self.seed = source, store, seed
        self.usage = Usage()
        self.pace = Pace(patience or Patience())
        self._seats = contextlib.nullcontext() if concurrency is None else asyncio.Semaphore(concurrency)
        self.budget = Budget(token_budget, store.spent() if token_budget is not None else 0)
        self._under_way: dict[str, asyncio.Task[Reply]] = {}

    @property
    def name(self) -> str:
        """The model's, for traces."""
        return self.source.model.partition("@")[0]

    async def complete(
        self, messages: Sequence[Message], *, key: str, n: int = 1, temperature: float, max_tokens: int
    ) -> list[str]:
        params = self.source.params | {"temperature": temperature, "max_tokens": max_tokens}
        trials = [f"{self.seed}\0{key}\0{sample}" for sample in range(n)]
        keys = [request_key(self.source.model, messages, params, trial) for trial in trials]
        replies = await asyncio.gather(
            *(self._reply(Ask(each, messages, temperature, max_tokens)) for each in keys), return_exceptions=True
        )
        for reply in replies:  # all have ended: none of them is cancelled on its way by a sibling's failure
            if isinstance(reply, BaseException):
                raise reply
        answered = [reply for reply in replies if isinstance(reply, Reply)]
        if refusal := next((reply.refusal for reply in answered if reply.text is None), None):
            raise TeacherError(refusal)
        return [str(reply.text) for reply in answered]

    async def _reply(self, ask: Ask) -> Reply:
        if reply := self.store.get(ask.key):
            self.usage.stored += 1
            return reply
        if (task := self._under_way.get(ask.key)) is None:  # two equal calls at once are one request
            task = self._under_way[ask.key] = asyncio.ensure_future(self._ask(ask))
            task.add_done_callback(lambda _: self._under_way.pop(ask.key, None))
        return await asyncio.shield(task)

    async def _ask(self, ask: Ask) -> Reply:
        attempt = 0
        try:
            while True:
                try:
                    async with self._seats:
                        await self.pace.admit()  # with a seat: what came back meanwhile may have asked for peace
                        reply = await self._attempt(ask)
                    break
                except TryLater as problem:
                    await self.pace.wait(ask.key, attempt, problem)
                    attempt += 1
        except TeacherError:
            self.usage.failed += 1
            raise
        self.pace.answered()
        self.usage.asked += 1
        self.usage.prompt_tokens += reply.prompt_tokens
        self.usage.completion_tokens += reply.completion_tokens
        return reply

    async def _attempt(self, ask: Ask) -> Reply:
        most = most_prompt_tokens(ask.messages) + ask.max_tokens
        await self.budget.reserve(most)
        cost = 0
        try:
            reply = await self.source.answer(ask)
            cost = reply.prompt_tokens + reply.completion_tokens
            self.store.put(ask.key, reply)
            return reply
        except TryLater as problem:
            if problem.lost:
                cost = most
                self.store.add_lost(most)
            raise
        finally:
            await self.budget.settle(most, cost)

    async def close(self) -> None:
        for task in list(self._under_way.values()):
            task.cancel()
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)
        await self.source.close()
        self.store.close()
