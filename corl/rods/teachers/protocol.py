"""What the stages ask of a language model, whoever answers: an endpoint, a local checkpoint, a stub.

The commands get theirs from `corl.rods.teachers.client.open_teacher(where, model=None)`: `where` is the URL of an
OpenAI-compatible endpoint or a folder with a checkpoint, `model` the name that an endpoint knows it by.
"""

from collections.abc import Sequence
from typing import Protocol

Message = dict[str, str]  # {"role": "system" | "user" | "assistant", "content": text}


class Teacher(Protocol):
    """One model behind one call.

    The same (messages, key, n, temperature, max_tokens) may be answered from a store. `key` sets apart calls that are
    equal in everything else (trials of one question); nothing else may decide what is drawn.
    """

    async def complete(
        self, messages: Sequence[Message], *, key: str, n: int = 1, temperature: float, max_tokens: int
    ) -> list[str]:
        """`n` texts. Raises TeacherError when there are none to be had for this call; the caller goes on."""
        ...


class TeacherError(Exception):
    """No answer to one call: refused, cut off, out of budget. The message says which, in one line."""
