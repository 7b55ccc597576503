"""Where every article of a dump stands, in a SQLite file: one pass over the dump, made again when the dump changed.

Of a multistream .bz2 the stream and the place within are noted, so a page costs the unpacking of its stream (about
100 pages). What lies deep in a long stream, or across two, cannot be sought: it is copied into the index.
"""

import bz2
import hashlib
import html
import json
import os
import re
import sqlite3
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from corl.rods.agent.reading import key_of
from corl.rods.extraction.page import MAX_PAGE, glance

BLOCK = 1 << 20
MAX_STREAM = (
    4 << 20
)  # unpacked bytes of a stream that are worth unpacking for one page; a dump's streams have 1 to 4 MB
_FORMAT = 1
_OPEN, _CLOSE = b"<page>", b"</page>"
# A box's name where the template opens; escaped or not, what counts is the name.
_BOX = re.compile(
    rb"\{\{\s*((?:infobox|drug ?box|chembox|taxobox|speciesbox|virusbox|automatic taxobox|diseasedisorder infobox)"
    rb"\b[^{}|<>\n]{0,100}?)\s*(?:[|}\n]|&lt;)",
    re.I,
)
_REDIRECT = re.compile(rb'<redirect title="([^"]{0,1000})"')
_TABLES = """
CREATE TABLE article(key TEXT PRIMARY KEY, title TEXT, stream INTEGER, start INTEGER, length INTEGER,
  target TEXT, box TEXT, raw BLOB) WITHOUT ROWID;
CREATE INDEX redirect ON article(target) WHERE target != '';
CREATE TABLE told(value TEXT);
"""


@dataclass(frozen=True, slots=True)
class _Place:
    """A page's bytes and where they begin: in the file (`stream` None) or in a stream of it; -1: not worth seeking."""

    raw: bytes
    stream: int | None
    start: int


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Unpacked bytes, the packed offset of the stream they are from, and the unpacked one at which it begins."""

    data: bytes
    stream: int | None
    begins: int


def open_index(dump: Path, index: Path) -> tuple[sqlite3.Connection, dict[str, int | str]]:
    """The index of `dump` and what tells the dump from another: size, hash, articles. Made where it is not there.

    Raises ValueError where the dump cannot be read or holds no page.
    """
    if not dump.is_file() or dump.suffix.lower() not in (".xml", ".bz2"):
        raise ValueError(f"{dump} is no file of a MediaWiki XML dump; give one that ends in .xml or .bz2")
    found = dump.stat()
    stamp = {"format": _FORMAT, "name": dump.name, "size": found.st_size, "mtime_ns": found.st_mtime_ns}
    told = _told(index)
    if told is None or {name: told.get(name) for name in stamp} != stamp:
        index.parent.mkdir(parents=True, exist_ok=True)
        unfinished = index.with_name(index.name + ".unfinished")
        unfinished.unlink(missing_ok=True)
        told = _build(dump, unfinished, stamp)
        os.replace(unfinished, index)
    identity = {name: told[name] for name in ("size", "sha256", "articles")}
    return sqlite3.connect(index), identity


def _told(index: Path) -> dict | None:
    if not index.is_file():
        return None
    database = sqlite3.connect(index)
    try:
        row = database.execute("SELECT value FROM told").fetchone()
        return json.loads(row[0]) if row else None
    except sqlite3.Error:  # not an index, or a damaged one: made anew
        return None
    finally:
        database.close()


def _build(dump: Path, path: Path, stamp: dict) -> dict:
    database = sqlite3.connect(path, isolation_level=None)
    # thrown away unless it is finished: no journal, no sync
    database.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;" + _TABLES + "BEGIN;")
    digest, articles = hashlib.sha256(), 0
    every = 0.5 if sys.stderr.isatty() else 60.0
    try:
        with (
            dump.open("rb") as file,
            tqdm(total=stamp["size"], desc="index", unit="B", unit_scale=True, leave=False, delay=every,
                 mininterval=every) as bar,
        ):  # fmt: skip

            def block() -> bytes:
                data = file.read(BLOCK)
                digest.update(data)
                bar.update(len(data))
                return data

            packed = dump.suffix.lower() == ".bz2"
            try:
                for place in _pages(_unpacked(block) if packed else _plain(block)):
                    articles += _note(database, place)
            except (OSError, EOFError) as error:
                if isinstance(error, OSError) and error.errno is not None:
                    raise
                raise ValueError(f"{dump} is damaged or ends early ({error}); download it again") from error
        if not articles:
            raise ValueError(f"{dump} holds no article; give a MediaWiki XML dump with <page> elements")
        told = {**stamp, "sha256": digest.hexdigest(), "articles": articles}
        database.execute("INSERT INTO told VALUES(?)", (json.dumps(told),))
        database.execute("COMMIT")
    finally:
        database.close()
    return told


def _note(database: sqlite3.Connection, place: _Place) -> int:
    seen = glance(place.raw)
    key = "" if seen.namespace else key_of(seen.title)
    if not key:
        return 0
    box = _BOX.search(place.raw) if seen.parse else None
    name = _name(box.group(1)) if box else ("?" if seen.parse else "")
    redirect = _REDIRECT.search(place.raw, 0, 4000)
    target = key_of(html.unescape(redirect.group(1).decode("utf-8", "replace"))) if redirect else ""
    kept = zlib.compress(place.raw) if place.start < 0 else None
    return database.execute(
        "INSERT OR IGNORE INTO article VALUES(?, ?, ?, ?, ?, ?, ?, ?)",
        (key, seen.title, place.stream, place.start, len(place.raw), target, name, kept),
    ).rowcount


def _name(raw: bytes) -> str:
    return " ".join(html.unescape(raw.decode("utf-8", "replace")).replace("_", " ").split()).lower()


def _pages(chunks: Iterable[_Chunk]) -> Iterator[_Place]:
    """Every whole `<page>..</page>`; one beyond MAX_PAGE is passed over without being held."""
    buffer, begins = b"", 0  # begins: the unpacked offset of the buffer's first byte
    for chunk in chunks:
        buffer += chunk.data
        at = 0
        while (start := buffer.find(_OPEN, at)) >= 0:
            end = buffer.find(_CLOSE, start)
            if end < 0:
                break
            at = end + len(_CLOSE)
            if at - start <= MAX_PAGE:
                within = begins + start - chunk.begins
                sought = chunk.stream is None or (within >= 0 and begins + at - chunk.begins <= MAX_STREAM)
                yield _Place(buffer[start:at], chunk.stream, within if sought else -1)
        keep = start if start >= 0 else max(at, len(buffer) - len(_OPEN) + 1)
        if len(buffer) - keep > MAX_PAGE:  # too large: only its end matters
            keep = len(buffer) - len(_CLOSE) + 1
        buffer, begins = buffer[keep:], begins + keep


def _plain(block: Callable[[], bytes]) -> Iterator[_Chunk]:
    while data := block():
        yield _Chunk(data, None, 0)


def _unpacked(block: Callable[[], bytes]) -> Iterator[_Chunk]:
    """A .bz2 stream by stream; streams may begin anywhere, in the middle of a page too."""
    data, packed, size = block(), 0, 0
    while data:
        unpacker, stream, begins = bz2.BZ2Decompressor(), packed, size
        while not unpacker.eof:
            if not data:
                raise EOFError("the last stream is not complete")
            part = unpacker.decompress(data)
            packed += len(data) - len(unpacker.unused_data)
            data = unpacker.unused_data or block()
            size += len(part)
            yield _Chunk(part, stream, begins)
