"""Every answer of a wiki in one SQLite file: a crawl that is killed or repeated asks for nothing twice."""

import hashlib
import json
import sqlite3
import zlib
from pathlib import Path
from typing import Any

_VERSION = 1


class RequestCache:
    def __init__(self, path: Path) -> None:
        try:
            self._sqlite = sqlite3.connect(path, isolation_level=None)
            self._sqlite.execute("PRAGMA journal_mode = WAL")
            self._sqlite.execute("PRAGMA synchronous = NORMAL")
            (version,) = self._sqlite.execute("PRAGMA user_version").fetchone()
            if version == 0:
                self._sqlite.executescript(
                    "BEGIN; CREATE TABLE answer(key TEXT PRIMARY KEY, body BLOB) WITHOUT ROWID; "
                    f"PRAGMA user_version = {_VERSION}; COMMIT;"
                )
        except sqlite3.Error as error:
            raise ValueError(f"{path} cannot hold answers ({error}); choose another --out") from error
        if version not in (0, _VERSION):
            raise ValueError(f"{path}: made by another version of corl; choose another --out")

    @staticmethod
    def key(url: str, params: dict[str, str]) -> str:
        return hashlib.sha256(json.dumps([url, params], sort_keys=True).encode()).hexdigest()

    def get(self, key: str) -> Any:
        row = self._sqlite.execute("SELECT body FROM answer WHERE key = ?", (key,)).fetchone()
        return row and json.loads(zlib.decompress(row[0]))

    def put(self, key: str, answer: Any) -> None:
        body = zlib.compress(json.dumps(answer).encode())
        self._sqlite.execute("INSERT OR REPLACE INTO answer VALUES(?, ?)", (key, body))

    def __len__(self) -> int:
        return self._sqlite.execute("SELECT count(*) FROM answer").fetchone()[0]

    def close(self) -> None:
        self._sqlite.close()
