"""What the pages said, in a SQLite file beside the results: memory stays flat however large the dump is."""

import sqlite3
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from corl.rods.extraction.facts import PageFacts
from corl.rods.extraction.titles import first_capital, title_key

LISTED = 10_000  # rows of skipped.tsv for one reason; the manifest counts them all

_TABLES = """
create table page(id integer primary key, key text, title text, revision text, type text, rarity text);
create table redirect(key text, target text, alias integer);
create table told(key text, kind text, type text);
create table mention(page integer, relations text, text text, target text, strong integer, parameter text, alias text,
                     italic integer, note text, prose integer, backwards integer);
create table alias(page integer, alias text, kind text);
create table attribute(page integer, attribute text, text text, value text, unit text, population text, year text,
                       parameter text);
create table skipped(title text, reason text, file text);
create table edge(head integer, relation text, tail integer, strong integer, turned integer, page integer,
                  parameter text, note text);
"""


class Store:
    """Facts in the order of the pages. Nothing here is meant to survive: a killed run starts over."""

    def __init__(self, path: Path) -> None:
        self.database = sqlite3.connect(path)
        # no journal, no waiting for the disk: the file is thrown away in any case
        self.database.executescript(
            "pragma journal_mode=off; pragma synchronous=off; pragma temp_store=file; pragma cache_size=-65536;"
            + _TABLES
        )
        self.reasons: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.pages = 0
        self.redirects = 0

    def skip(self, title: str, reason: str, file: str) -> None:
        self.reasons[reason] += 1
        if self.reasons[reason] <= LISTED:
            self._insert("skipped", [(_cell(title), reason, _cell(file))])

    def add(self, facts: PageFacts) -> None:
        key = title_key(facts.title) or first_capital(facts.title)
        if facts.redirect:
            self.redirects += 1
            if facts.redirect != "#":
                self._insert("redirect", [(key, facts.redirect, int(facts.alias))])
            return
        if not facts.type:
            self.skip(facts.title, facts.reason, facts.file)
            if facts.unspecific:
                self._insert("told", [(key, "unspecific", "")])
            elif facts.told_type:
                self._insert(
                    "told", [(key, "box" if facts.reason.startswith("unsup") else "category", facts.told_type)]
                )
            return
        self.pages += 1
        page = self.pages
        self._insert("page", [(page, key, _cell(facts.title), facts.revision, facts.type, facts.rarity)])
        self.lost.update(facts.lost)
        self._insert(
            "mention",
            [
                (page, " ".join(m.relations), _cell(m.text), m.target, int(m.strong), _cell(m.parameter), m.alias,
                 int(m.italic), _cell(m.note), int(m.prose), int(m.backwards))
                for m in facts.mentions
            ],
        )  # fmt: skip
        self._insert("alias", [(page, _cell(alias), kind) for alias, kind in facts.aliases])
        self._insert(
            "attribute",
            [
                (
                    page,
                    name,
                    _cell(told.text),
                    told.value,
                    told.unit,
                    _cell(told.population),
                    told.year,
                    _cell(parameter),
                )
                for name, told, parameter in facts.attributes
            ],
        )

    def _insert(self, table: str, rows: list[tuple]) -> None:
        if rows:
            self.database.executemany(f"insert into {table} values({','.join('?' * len(rows[0]))})", rows)

    def insert_edges(self, rows: Iterable[tuple]) -> None:
        self.database.executemany("insert into edge values(?,?,?,?,?,?,?,?)", rows)

    def rows(self, query: str, values: tuple = ()) -> sqlite3.Cursor:
        return self.database.execute(query, values)

    def close(self) -> None:
        self.database.close()


def _cell(text: str) -> str:
    """A text that a line of TSV can hold."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
