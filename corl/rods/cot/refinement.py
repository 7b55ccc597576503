"""From an attempt that failed to one that holds: verify, choose a strategy, write anew; depth and tries bounded.

After HuatuoGPT-o1 (arXiv:2412.18925): the first retry never backtracks, for there is nothing yet to go back to.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from corl.data.items import Item
from corl.rods.cot.checks import Bounds
from corl.rods.cot.prompts import STRATEGIES, retry_messages
from corl.rods.cot.selection import Sample
from corl.rods.teachers.protocol import Teacher


@dataclass(frozen=True, slots=True)
class Refined:
    sample: Sample
    strategies: tuple[str, ...]  # in the order taken; the last one succeeded
    tries: int


async def refine(
    teacher: Teacher,
    item: Item,
    attempts: Sequence[Sample],
    judge: Callable[[str], dict[str, Any]],
    bounds: Bounds,
    *,
    depth: int,
    tries: int,
    temperature: float,
    max_tokens: int,
) -> Refined | None:
    """The first sound rewriting of an attempt, or None after `depth` strategies on each of `tries` attempts.

    judge  the checks of a text; what they find, and nothing of the label, is said to the teacher
    """
    for number, attempt in enumerate(attempts[:tries]):
        taken: list[str] = []
        current = attempt
        for level in range(depth):
            taken.append(choose_strategy(item.id, number, level))
            messages = retry_messages(
                item,
                current.text,
                current.checks,
                taken[-1],
                fewest_words=bounds.fewest_words,
                most_words=bounds.most_words,
            )
            (text,) = await teacher.complete(
                messages, key=f"refine:{item.id}:{number}:{level}", temperature=temperature, max_tokens=max_tokens
            )
            current = Sample(text, judge(text))
            if current.sound:
                return Refined(current, tuple(taken), number + 1)
    return None


def choose_strategy(item_id: str, number: int, level: int) -> str:
    """A function of the item, the try and the level; "backtracking" never at level 0."""
    allowed = STRATEGIES if level else tuple(name for name in STRATEGIES if name != "backtracking")
    digest = hashlib.sha256(f"{item_id}\0{number}\0{level}".encode(errors="surrogatepass")).digest()
    return allowed[int.from_bytes(digest[:8]) % len(allowed)]
