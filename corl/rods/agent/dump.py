"""A MediaWiki XML dump as a source: one pass notes where every article stands, then pages are read by seeking."""

import bz2
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from corl.rods.agent.dump_index import MAX_STREAM, open_index
from corl.rods.agent.reading import key_of
from corl.rods.agent.sources import Fetched
from corl.rods.extraction.sources import dump_date

_STREAMS = 4  # unpacked ones that are held: pages of one batch often share a stream


class DumpSource:
    """Pages of a dump (.xml, or .bz2 of one stream or of many) by title; the index lies at `index` and is kept."""

    def __init__(self, path: str | Path, index: Path) -> None:
        self._path = Path(path)
        self._index, told = open_index(self._path, index)
        self.identity: dict[str, Any] = {"dump": self._path.name, **told, "dump_date": dump_date([self._path.name])}
        self._file = self._path.open("rb")
        self._streams: dict[int, bytes] = {}

    def seeds(self, boxes: Sequence[str]) -> Iterator[tuple[str, str]]:
        """By title. Without `boxes`, every article with a box that extraction may read."""
        wanted = {_box_name(box) for box in boxes}
        query = "SELECT title, box FROM article WHERE box != '' AND target = '' ORDER BY key"
        for title, box in self._index.execute(query):
            if not wanted or box in wanted:
                yield title, box

    def fetch(self, titles: Sequence[str]) -> list[Fetched]:
        """The crawl reads where a redirect leads, and asks for that: the pages of `titles` alone are enough."""
        found = []
        for title in titles:
            key = key_of(title)
            for name, raw in self._pages("key = ?", key):
                redirects = tuple(self._pages("target != '' AND target = ?", key))
                found.append(Fetched(name, "page", raw, redirects=redirects))
                break
            else:
                found.append(Fetched(title, "missing" if key else "invalid"))
        return found

    def _pages(self, where: str, key: str) -> Iterator[tuple[str, bytes]]:
        query = f"SELECT title, stream, start, length, raw FROM article WHERE {where} ORDER BY key"
        for title, stream, start, length, raw in self._index.execute(query, (key,)).fetchall():
            yield title, zlib.decompress(raw) if raw else self._read(stream, start, length)

    def _read(self, stream: int | None, start: int, length: int) -> bytes:
        if stream is None:
            self._file.seek(start)
            return self._file.read(length)
        if stream not in self._streams:
            self._file.seek(stream)
            unpacker, parts, size = bz2.BZ2Decompressor(), [], 0
            while not unpacker.eof and size < MAX_STREAM and (block := self._file.read(1 << 16)):
                parts.append(unpacker.decompress(block))
                size += len(parts[-1])
            while len(self._streams) >= _STREAMS:
                del self._streams[next(iter(self._streams))]
            self._streams[stream] = b"".join(parts)
        return self._streams[stream][start : start + length]

    def counts(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        self._file.close()
        self._index.close()


def _box_name(name: str) -> str:
    return " ".join(re.sub(r"^template\s*:", "", name.strip(), flags=re.I).replace("_", " ").split()).lower()
