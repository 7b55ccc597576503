"""Many pieces of work at a teacher: so many at a time, results in the order given."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from corl.observe.progress import sample_bar
from corl.rods.teachers.stored import StoredTeacher

Thing = TypeVar("Thing")
Result = TypeVar("Result")


async def in_order(
    things: Sequence[Thing],
    work: Callable[[Thing], Awaitable[Result]],
    *,
    width: int,
    teacher: StoredTeacher | None = None,
    purpose: str = "items",
) -> list[Result]:
    """`work` of every thing, `width` at a time, begun in order; the first exception ends all of it."""
    results: dict[int, Result] = {}
    waiting = iter(enumerate(things))

    async def worker() -> None:
        for index, thing in waiting:
            results[index] = await work(thing)
            if teacher is not None:
                bar.set_postfix_str(_told(teacher), refresh=False)
            bar.update()

    with sample_bar(purpose, len(things), shown=True) as bar:
        bar.unit = "item"
        workers = [asyncio.create_task(worker()) for _ in range(min(width, len(things)))]
        try:
            await asyncio.gather(*workers)
        finally:
            for task in workers:
                task.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
    return [results[index] for index in range(len(things))]


def _told(teacher: StoredTeacher) -> str:
    usage = teacher.usage
    tokens = f"{usage.prompt_tokens:,}+{usage.completion_tokens:,} tokens"
    return f"{usage.asked:,} requests ({usage.stored:,} stored, {teacher.pace.waits:,} waits), {tokens}"
