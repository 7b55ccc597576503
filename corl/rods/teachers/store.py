"""Every answered request in one sqlite file: a killed or repeated run asks for nothing that it was given already."""

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corl.rods.teachers.protocol import Message

_VERSION = 1
_TABLES = """
CREATE TABLE answers (
  key TEXT PRIMARY KEY, text TEXT, refusal TEXT, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE lost (tokens INTEGER NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer: a text, or why this very request will never have one. Tokens as the model's side counted them."""

    text: str | None
    prompt_tokens: int
    completion_tokens: int
    refusal: str | None = None


def request_key(model: str, messages: Sequence[Message], params: dict[str, Any], trial: str) -> str:
    """Hex sha256 of all that an answer depends on; `trial` sets equal requests apart."""
    said = [[message["role"], message["content"]] for message in messages]
    text = json.dumps([model, said, params, trial], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class RequestStore:
    """Answers by request key. Each is on its way to the disk when `put` returns: a killed process loses none."""

    def __init__(self, path: str | Path) -> None:
        """Opens the file or makes it. Raises ValueError for a place that cannot be used and for another file."""
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._sqlite = sqlite3.connect(self.path, isolation_level=None, timeout=60)
            self._open()
        except (sqlite3.Error, OSError) as error:
            raise ValueError(f"{path} cannot hold requests ({error}); choose another --store") from error

    def _open(self) -> None:
        self._sqlite.execute("PRAGMA journal_mode = WAL")
        # Without a sync per answer: a crash of the machine may cost the last few, a killed process none.
        self._sqlite.execute("PRAGMA synchronous = NORMAL")
        self._sqlite.execute("BEGIN IMMEDIATE")  # of two processes one makes the tables
        (version,) = self._sqlite.execute("PRAGMA user_version").fetchone()
        if version == 0:
            for statement in _TABLES.strip().split(";\n"):
                self._sqlite.execute(statement)
            self._sqlite.execute(f"PRAGMA user_version = {_VERSION}")
        self._sqlite.execute("COMMIT")
        if version not in (0, _VERSION):
            raise ValueError(f"{self.path}: made by another version of corl; choose another --store")

    def get(self, key: str) -> Reply | None:
        row = self._sqlite.execute(
            "SELECT text, prompt_tokens, completion_tokens, refusal FROM answers WHERE key = ?", (key,)
        ).fetchone()
        # Texts as JSON: half a surrogate pair is legal there and not in UTF-8.
        return row and Reply(row[0] and json.loads(row[0]), *row[1:])

    def put(self, key: str, reply: Reply) -> None:
        text = None if reply.text is None else json.dumps(reply.text)
        row = (key, text, reply.refusal, reply.prompt_tokens, reply.completion_tokens)
        self._sqlite.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?)", row)

    def add_lost(self, tokens: int) -> None:
        """Tokens of a request that may have been answered without our seeing it (a time-out)."""
        self._sqlite.execute("INSERT INTO lost VALUES (?)", (tokens,))

    def spent(self) -> int:
        """Tokens of all answers ever stored here, and of what was lost."""
        queries = ("SELECT total(prompt_tokens + completion_tokens) FROM answers", "SELECT total(tokens) FROM lost")
        return sum(int(self._sqlite.execute(query).fetchone()[0]) for query in queries)

    def close(self) -> None:
        self._sqlite.close()
