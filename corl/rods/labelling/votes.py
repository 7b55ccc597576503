"""Answers of a teacher in a file that is only ever appended to: what stands there is never asked again."""

import fcntl
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from corl.rods.filtering.manifest import json_bytes
from corl.rods.teachers.protocol import Message


def asked_digest(messages: Sequence[Message], **settings: Any) -> str:
    """16 hex digits of all that an answer depends on; another question, order or setting is asked anew."""
    text = json.dumps([list(messages), sorted(settings.items())], ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class VoteLog:
    """JSON lines {id, trial, asked, vote}: vote null where the text held no answer.

    A last line that a kill cut short is cut off. One process at a time: a second gets a ValueError.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise ValueError(f"{path}: another process is writing there; wait for it or choose another place") from None
        self._votes: dict[tuple[str, int, str], str | None] = {}
        try:
            self._file.truncate(self._read())
        except ValueError:
            self._file.close()
            raise

    def __enter__(self) -> "VoteLog":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def has(self, id_: str, trial: int, asked: str) -> bool:
        return (id_, trial, asked) in self._votes

    def vote(self, id_: str, trial: int, asked: str) -> str | None:
        return self._votes[id_, trial, asked]

    def add(self, id_: str, trial: int, asked: str, vote: str | None) -> None:
        """On disk when it returns."""
        self._votes[id_, trial, asked] = vote
        self._file.write(json_bytes({"id": id_, "trial": trial, "asked": asked, "vote": vote}))
        self._file.flush()
        os.fsync(self._file.fileno())

    def _read(self) -> int:
        """Fills the votes; returns the length of the complete lines."""
        length = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                try:
                    record = json.loads(line)
                    key = record["id"], record["trial"], record["asked"]
                    vote = record["vote"]
                    if [type(part) for part in key] != [str, int, str] or not isinstance(vote, str | None):
                        raise ValueError("its values are not those of a vote")
                except (ValueError, KeyError, TypeError) as error:
                    raise ValueError(
                        f"{self.path}, line {number}: no vote ({error}); remove the line, it is then asked again"
                    ) from error
                self._votes[key] = vote
                length += len(line)
        return length
