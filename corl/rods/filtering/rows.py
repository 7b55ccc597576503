"""The rows of item files, a wrong one as a row with its reasons, so that every line of every file is accounted for."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corl.data.checking.rows import REPEATED_ID, RawRow, read_rows
from corl.data.items import Item


@dataclass(frozen=True, slots=True)
class Reason:
    """Why an item is not kept: a code to count by, and what was seen."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a file. `item` None: it is none, and `record` what could be read of it."""

    file: str
    line: int
    item: Item | None
    record: Any
    reasons: tuple[Reason, ...]


def read_all(files: Sequence[str | Path]) -> Iterator[Row]:
    """The lines of all files in order; an id that an earlier file has is a reason, as one of an earlier line is.

    Raises ValueError for a file that cannot be read or has no line.
    """
    place_of: dict[str, str] = {}
    for file in files:
        for raw, line in zip(read_rows(Path(file)), _lines(Path(file)), strict=True):
            yield _row(str(file), raw, line, place_of)


def _row(file: str, raw: RawRow, line: bytes, place_of: dict[str, str]) -> Row:
    reasons = [Reason(found.reason, found.detail) for found in raw.findings]
    place = f"{file}, line {raw.line}"
    if raw.id is not None:
        first = place_of.setdefault(raw.id, place)
        if first != place and not any(reason.code == REPEATED_ID for reason in reasons):
            reasons.append(Reason(REPEATED_ID, f"the id of {first}"))
    text = line.decode("utf-8-sig", "backslashreplace").strip()
    try:
        record = json.loads(text)
        return Row(file, raw.line, Item(**record), None, tuple(reasons))
    except (ValueError, TypeError, RecursionError):
        assert reasons, f"{place}: no item, and no reason why"
    try:
        return Row(file, raw.line, None, json.loads(text), tuple(reasons))
    except (ValueError, RecursionError):
        return Row(file, raw.line, None, text, tuple(reasons))


def _lines(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        yield from (line for line in file if line.strip())
