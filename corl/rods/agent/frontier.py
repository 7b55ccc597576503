"""The crawl's whole state in one SQLite file: every step is one transaction, so a killed crawl goes on where it was."""

import json
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from corl.rods.agent.reading import Link, Reading
from corl.rods.agent.scoring import (
    DEPTH_COST,
    RARITIES,
    Score,
    novelty_of_link,
    novelty_of_page,
    prior_of_box,
    rarity_need,
    rarity_part,
)

MAX_HOPS = 5  # of redirects; more is a circle
_VERSION = 1
# base: the score without its rarity part, which changes with what was collected
_TABLES = """
CREATE TABLE meta(name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE page(key TEXT PRIMARY KEY, status TEXT NOT NULL, base INTEGER, prior INTEGER, novelty INTEGER,
  depth INTEGER, links INTEGER, slot TEXT, via TEXT, rarity TEXT, target TEXT) WITHOUT ROWID;
CREATE INDEX unread ON page(base DESC, key) WHERE status = 'queued';
CREATE INDEX waiting ON page(rarity, base DESC, key) WHERE status = 'fetched';
CREATE TABLE body(key TEXT PRIMARY KEY, raw BLOB, reading BLOB);
CREATE TABLE redirect(key TEXT PRIMARY KEY, target TEXT, raw BLOB);
CREATE TABLE visit(n INTEGER PRIMARY KEY, key TEXT, outcome TEXT, slot TEXT, type TEXT, rarity TEXT, line TEXT);
CREATE TABLE node(key TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE edge(head TEXT, relation TEXT, tail TEXT, PRIMARY KEY(head, relation, tail)) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A page on the frontier and why it is there: `slot` of the page `via`, the best of its `links`."""

    key: str
    fetched: bool
    score: Score
    depth: int
    links: int
    slot: str
    via: str


class Frontier:
    """Pages by key. queued: only named so far; fetched: its box is read, it waits for its visit; done: visited."""

    def __init__(self, path: Path) -> None:
        """Opens the file or makes it. Raises ValueError for a place or a file that cannot be used."""
        try:
            self._sqlite = sqlite3.connect(path, isolation_level=None)
            self._sqlite.execute("PRAGMA journal_mode = WAL")
            # no sync per step: a crash of the machine may cost the last few, a killed process none
            self._sqlite.execute("PRAGMA synchronous = NORMAL")
            (version,) = self._sqlite.execute("PRAGMA user_version").fetchone()
            if version == 0:
                self._sqlite.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {_VERSION}; COMMIT;")
        except sqlite3.Error as error:
            raise ValueError(f"{path} cannot hold a crawl ({error}); choose another --out") from error
        if version not in (0, _VERSION):
            raise ValueError(f"{path}: made by another version of corl; choose another --out")
        self._count()

    def _count(self) -> None:
        query = "SELECT count(*), sum(rarity = 'rare'), sum(rarity != '') FROM visit WHERE outcome = 'entity'"
        self.entities, rare, known = self._sqlite.execute(query).fetchone()
        self._rare, self._known = rare or 0, known or 0
        (self.visits,) = self._sqlite.execute("SELECT count(*) FROM visit").fetchone()

    def step(self) -> AbstractContextManager[None]:
        """All or nothing of what happens inside."""
        return _Step(self)

    def get_meta(self, name: str) -> Any:
        row = self._sqlite.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return row and json.loads(row[0])

    def set_meta(self, name: str, value: Any) -> None:
        self._sqlite.execute("INSERT OR REPLACE INTO meta VALUES(?, ?)", (name, json.dumps(value, sort_keys=True)))

    @property
    def need(self) -> int:
        return rarity_need(self._rare, self._known)

    def add_link(self, link: Link, via: str, depth: int) -> bool:
        """A page is named once more; returns whether it was unknown. A redirect hands it on to its target."""
        key, row = link.key, None
        for _ in range(MAX_HOPS):
            row = self._row(key)
            if row is None or not row[9]:
                break
            key = row[9]
        if row is None:
            values = (key, 0, link.prior, novelty_of_link(1), depth, 1, link.slot, via)
            self._sqlite.execute("INSERT INTO page VALUES(?, 'queued', ?, ?, ?, ?, ?, ?, ?, '', '')", values)
            self._rebase(key)
            return True
        status, prior, links = row[0], row[2], row[5] + 1
        if status != "done":
            better = status == "queued" and link.prior > prior
            self._sqlite.execute(
                "UPDATE page SET prior = ?, depth = min(depth, ?), links = ?, slot = ?, via = ?, novelty = ? "
                "WHERE key = ?",
                (
                    link.prior if better else prior,
                    depth,
                    links,
                    link.slot if better else row[6],
                    via if better else row[7],
                    novelty_of_link(links) if status == "queued" else row[3],
                    key,
                ),
            )
            self._rebase(key)
        return False

    def _row(self, key: str) -> tuple | None:
        query = "SELECT status, base, prior, novelty, depth, links, slot, via, rarity, target FROM page WHERE key = ?"
        return self._sqlite.execute(query, (key,)).fetchone()

    def _rebase(self, key: str) -> None:
        self._sqlite.execute(f"UPDATE page SET base = prior + novelty - {DEPTH_COST} * depth WHERE key = ?", (key,))

    def find(self, key: str) -> Candidate | None:
        """The page where it is known and not yet visited."""
        row = self._row(key)
        return self._candidate(key, row) if row and row[0] != "done" else None

    def is_done(self, key: str) -> bool:
        row = self._row(key)
        return row is not None and row[0] == "done"

    def target_of(self, key: str) -> str:
        """Where a redirect leads, "" for what is none."""
        row = self._row(key)
        return row[9] if row else ""

    def best(self) -> Candidate | None:
        """The highest score; of equal ones the first by key."""
        found = [self._top("queued", "")] + [self._top("fetched", rarity) for rarity in RARITIES]
        return min((c for c in found if c), key=lambda c: (-c.score.total, c.key), default=None)

    def _top(self, status: str, rarity: str) -> Candidate | None:
        where = "status = 'queued'" if status == "queued" else "status = 'fetched' AND rarity = ?"
        query = f"SELECT key FROM page WHERE {where} ORDER BY base DESC, key LIMIT 1"
        row = self._sqlite.execute(query, () if status == "queued" else (rarity,)).fetchone()
        return self.find(row[0]) if row else None

    def unread(self, count: int, floor: int) -> list[Candidate]:
        """The best pages that nobody asked for yet, above the floor."""
        query = "SELECT key FROM page WHERE status = 'queued' ORDER BY base DESC, key LIMIT ?"
        found = [self.find(key) for (key,) in self._sqlite.execute(query, (count,)).fetchall()]
        return [candidate for candidate in found if candidate and candidate.score.total >= floor]

    def _candidate(self, key: str, row: tuple) -> Candidate:
        status, _, prior, novelty, depth, links, slot, via, rarity, _ = row
        score = Score(prior, rarity_part(rarity, self.need), novelty, DEPTH_COST * depth)
        return Candidate(key, status == "fetched", score, depth, links, slot, via)

    def keep(self, key: str, raw: bytes) -> None:
        """A page's bytes for the output."""
        self._sqlite.execute("INSERT OR IGNORE INTO body VALUES(?, ?, NULL)", (key, zlib.compress(raw)))

    def keep_redirect(self, key: str, target: str, raw: bytes) -> None:
        """Another name of `target`; in the output where either was visited."""
        self._sqlite.execute("INSERT OR IGNORE INTO redirect VALUES(?, ?, ?)", (key, target, zlib.compress(raw)))

    def wait(self, key: str, raw: bytes, reading: Reading) -> None:
        """The page has a box that was read: from now on its box, not the slot that named it, says what it is worth."""
        told = zlib.compress(json.dumps(asdict(reading)).encode())
        self._sqlite.execute("INSERT OR REPLACE INTO body VALUES(?, ?, ?)", (key, zlib.compress(raw), told))
        named = {key for edge in reading.edges for key in (edge[0], edge[2])} | {link.key for link in reading.links}
        new = sum(not self._known_node(name) for name in named)
        self._sqlite.execute(
            "UPDATE page SET status = 'fetched', prior = ?, novelty = ?, rarity = ? WHERE key = ?",
            (prior_of_box(reading.type), novelty_of_page(new, len(named)), reading.rarity, key),
        )
        self._rebase(key)

    def _known_node(self, key: str) -> bool:
        return self._sqlite.execute("SELECT 1 FROM node WHERE key = ?", (key,)).fetchone() is not None

    def reading(self, key: str) -> Reading:
        (told,) = self._sqlite.execute("SELECT reading FROM body WHERE key = ?", (key,)).fetchone()
        fields = json.loads(zlib.decompress(told))
        fields["links"] = tuple(Link(**link) for link in fields["links"])
        fields["edges"] = tuple(tuple(edge) for edge in fields["edges"])
        return Reading(**fields)

    def add_facts(self, reading: Reading, key: str) -> tuple[int, int, int]:
        """(new nodes, new edges, strong ones of them) that the page brings."""
        nodes = edges = strong = 0
        for head, relation, tail, is_strong in reading.edges:
            added = self._insert("INSERT OR IGNORE INTO edge VALUES(?, ?, ?)", (head, relation, tail))
            edges += added
            strong += added and is_strong
            nodes += self._insert("INSERT OR IGNORE INTO node VALUES(?)", (head,))
            nodes += self._insert("INSERT OR IGNORE INTO node VALUES(?)", (tail,))
        nodes += self._insert("INSERT OR IGNORE INTO node VALUES(?)", (key,))
        return nodes, edges, strong

    def _insert(self, statement: str, values: tuple) -> int:
        return self._sqlite.execute(statement, values).rowcount

    def close_page(self, key: str, target: str = "") -> None:
        self._sqlite.execute("UPDATE page SET status = 'done', target = ? WHERE key = ?", (target, key))

    def log(self, key: str, outcome: str, slot: str, kind: str, rarity: str, line: dict[str, Any]) -> str:
        """Add the visit's line and return it, numbered."""
        self.visits += 1
        text = json.dumps({"n": self.visits, **line}, ensure_ascii=False)
        self._sqlite.execute(
            "INSERT INTO visit VALUES(?, ?, ?, ?, ?, ?, ?)", (self.visits, key, outcome, slot, kind, rarity, text)
        )
        if outcome == "entity":
            self.entities += 1
            self._rare += rarity == "rare"
            self._known += rarity != ""
        return text

    def lines(self) -> Iterator[str]:
        for (line,) in self._sqlite.execute("SELECT line FROM visit ORDER BY n"):
            yield line

    def bodies(self) -> Iterator[bytes]:
        """The visited pages in the order of their visits, then the redirects to them by title."""
        for (raw,) in self._sqlite.execute("SELECT raw FROM visit JOIN body USING(key) ORDER BY n"):
            yield zlib.decompress(raw)
        other_names = (
            "SELECT raw FROM redirect WHERE key IN (SELECT key FROM visit) "
            "OR target IN (SELECT key FROM visit WHERE outcome = 'entity') ORDER BY key"
        )
        for (raw,) in self._sqlite.execute(other_names):
            yield zlib.decompress(raw)

    def tally(self, query: str) -> dict[str, int]:
        return dict(self._sqlite.execute(query).fetchall())

    def number(self, query: str) -> int:
        return self._sqlite.execute(query).fetchone()[0]

    def close(self) -> None:
        self._sqlite.close()


class _Step:
    def __init__(self, frontier: Frontier) -> None:
        self._frontier = frontier

    def __enter__(self) -> None:
        self._frontier._sqlite.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, *_: object) -> None:
        self._frontier._sqlite.execute("ROLLBACK" if kind else "COMMIT")
        if kind:
            self._frontier._count()
