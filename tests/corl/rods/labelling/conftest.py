"""Teachers that need no model: oracle, always wrong, random, refusing, malformed, and one that fails at times."""

from collections import Counter
from hashlib import sha256

import pytest

from corl.data.items import Item
from corl.rods.teachers.protocol import TeacherError


class Stub:
    """Answers the prompt it is shown, whose options may stand in another order than the item's."""

    def __init__(self, items: list[Item], kind: str) -> None:
        self.items, self.kind = items, kind
        self.calls: Counter[str] = Counter()
        self.orders: dict[str, set[str]] = {}
        self.fail_after: int | None = None

    async def complete(self, messages, *, key, n=1, temperature, max_tokens) -> list[str]:
        if self.fail_after is not None and sum(self.calls.values()) >= self.fail_after:
            raise TeacherError("out of budget")
        self.calls[key] += 1
        shown = messages[-1]["content"]
        item = next(item for item in self.items if item.question in shown)
        right, wrong = self._letters(item, shown)
        self.orders.setdefault(item.id, set()).add(right)
        draw = int(sha256(key.encode()).hexdigest(), 16)
        text = {
            "oracle": f"<think>known</think>\n<answer>{right}</answer>",
            "wrong": f"<think>no</think>\n<answer>{wrong[0]}</answer>",
            "scattered": f"<think>no</think>\n<answer>{wrong[draw % len(wrong)]}</answer>",
            "random": f"<think>dice</think>\n<answer>{'ABCD'[draw % 4]}</answer>",
            "refusing": "I am sorry, I cannot help with medical questions.",
            "malformed": "<think>..<answer>maybe A or perhaps B</think>",
        }[self.kind]
        return [text] * n

    def _letters(self, item: Item, shown: str) -> tuple[str, list[str]]:
        """The letters of the right option and of the wrong ones, these in the item's own order, as they are shown."""
        letter_of = {}
        for line in shown.splitlines():
            letter, dot, text = line.partition(". ")
            if dot and len(letter) == 1:
                letter_of[text] = letter
        right = letter_of[item.options[item.answer]]
        return right, [letter_of[text] for letter, text in item.options.items() if letter != item.answer]


@pytest.fixture
def make_stub():
    return Stub
