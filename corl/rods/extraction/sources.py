"""Where pages come from: a MediaWiki XML dump, compressed or not, a bare `<page>`, or a folder of .wiki and .xml files.

A dump is cut at its `<page>` tags as it streams by, so memory holds one page, one damaged page costs that page alone,
and nothing outside a page (a DOCTYPE, an entity) ever reaches an XML parser.
"""

import bz2
import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from corl.rods.extraction.page import MAX_PAGE

BLOCK = 1 << 20
SUFFIXES = (".xml", ".bz2", ".wiki")
_OPEN, _CLOSE = b"<page>", b"</page>"


@dataclass(frozen=True, slots=True)
class RawPage:
    """A `<page>` element's bytes, or a .wiki file's; `reason` where it is not to be read (then `raw` is its head)."""

    raw: bytes
    file: str
    is_xml: bool
    reason: str = ""


@dataclass(slots=True)
class SourceFile:
    """A file of the source: its name in messages, and what was read of it once its pages are through."""

    path: Path
    name: str
    bytes: int
    sha256: str = ""


class _Hashed:
    """A binary file that hashes and reports what is read from it."""

    def __init__(self, file: BinaryIO, seen: Callable[[int], None]) -> None:
        self._file, self._seen, self.hash, self.size = file, seen, hashlib.sha256(), 0

    def read(self, count: int = -1) -> bytes:
        data = self._file.read(count)
        self.hash.update(data)
        self.size += len(data)
        self._seen(len(data))
        return data


def find_files(source: str | Path, out: str | Path) -> tuple[list[SourceFile], list[str]]:
    """The files to read in the order of their names, and the names of those that are no pages.

    Raises ValueError when there is no such place, or nothing in it that can be read. The folder `out` is left alone.
    """
    source = Path(source)
    if source.is_dir():
        own = Path(out).resolve()
        paths = [
            path for path in sorted(source.rglob("*")) if path.is_file() and own not in path.resolve().parents
        ]  # fmt: skip
        files = [path for path in paths if path.suffix.lower() in (".wiki", ".xml")]
        others = [path.relative_to(source).as_posix() for path in paths if path not in set(files)]
        if not files:
            raise ValueError(f"{source} holds no .wiki or .xml file; give a folder of pages or a MediaWiki XML dump")
        return [SourceFile(p, p.relative_to(source).as_posix(), p.stat().st_size) for p in files], others
    if not source.is_file():
        raise ValueError(f"{source} does not exist; give a MediaWiki XML dump (.xml, .bz2) or a folder of pages")
    if source.suffix.lower() not in SUFFIXES:
        raise ValueError(
            f"{source} is neither {', '.join(SUFFIXES)} nor a folder; unpack it, or give a MediaWiki XML dump"
        )
    return [SourceFile(source, source.name, source.stat().st_size)], []


def raw_pages(file: SourceFile, seen: Callable[[int], None]) -> Iterator[RawPage]:
    """The pages of one file in its order. Afterwards `file.sha256` is that of its bytes.

    Raises ValueError where a compressed file is damaged or ends early.
    """
    with file.path.open("rb") as handle:
        hashed = _Hashed(handle, seen)
        suffix = file.path.suffix.lower()
        if suffix == ".wiki":
            yield _wiki_file(hashed, file)
        else:
            stream = bz2.BZ2File(hashed) if suffix == ".bz2" else hashed  # type: ignore[call-overload]
            try:
                yield from _cut_pages(stream, file.name)
            except (OSError, EOFError) as error:
                if isinstance(error, OSError) and error.errno is not None:
                    raise
                raise ValueError(
                    f"{file.path} is damaged or ends early ({error}); download it again and compare its checksum"
                ) from error
        while hashed.read(BLOCK):  # what follows the last page belongs to the file's hash too
            pass
        file.bytes, file.sha256 = hashed.size, hashed.hash.hexdigest()


def _wiki_file(hashed: _Hashed, file: SourceFile) -> RawPage:
    raw = hashed.read(MAX_PAGE + 1)
    return RawPage(raw, file.name, False, "page_too_large" if len(raw) > MAX_PAGE else "")


def _cut_pages(stream, name: str) -> Iterator[RawPage]:
    """Every `<page>..</page>`; one beyond MAX_PAGE is passed over without being held."""
    buffer, inside, pages = b"", False, 0
    head = b""  # of a page too large to hold
    while block := stream.read(BLOCK):
        buffer += block
        at = 0
        while True:
            if not inside:
                start = buffer.find(_OPEN, at)
                if start < 0:
                    buffer = buffer[max(at, len(buffer) - len(_OPEN) + 1) :]
                    break
                inside, at, head = True, start, b""
            end = buffer.find(_CLOSE, at)
            if end < 0:
                buffer = buffer[at:]
                if head or len(buffer) > MAX_PAGE + len(_CLOSE):
                    head = head or buffer[:2000]
                    buffer = buffer[-len(_CLOSE) + 1 :]
                break
            end += len(_CLOSE)
            pages += 1
            if head or end - at > MAX_PAGE:
                yield RawPage(head or buffer[at : at + 2000], name, True, "page_too_large")
            else:
                yield RawPage(buffer[at:end], name, True)
            inside, at, head = False, end, b""
    if inside:
        yield RawPage(head or buffer[:2000], name, True, "page_cut_off")
    elif not pages:
        yield RawPage(b"", name, True, "no_pages")


def dump_date(names: list[str]) -> str | None:
    """The date that a dump's file name tells (enwiki-20240101-pages-articles.xml.bz2), as 2024-01-01."""
    for name in names:
        if found := re.search(r"(?<!\d)(20\d\d)(0[1-9]|1[0-2])([0-2]\d|3[01])(?!\d)", name):
            return "-".join(found.groups())
    return None
