"""What an import did with every row of its source."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from corl.data.items import write_whole


@dataclass(frozen=True, slots=True)
class Drop:
    """A row that gave no item; `row` counts the source's rows from 1, over all its files."""

    row: int
    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Repair:
    """A change of a row's text beyond trimming both ends."""

    row: int
    id: str
    change: str


@dataclass(frozen=True, slots=True)
class Report:
    """Counts of rows, read = written + len(dropped) + not_selected, and the rows dropped or repaired.

    files    rows of every file or split that was read, in reading order
    ignored  entry of the source folder, or split -> why it was not read
    """

    read: int
    written: int
    dropped: tuple[Drop, ...]
    repaired: tuple[Repair, ...]
    not_selected: int
    files: dict[str, int] = field(default_factory=dict)
    ignored: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert self.read == self.written + len(self.dropped) + self.not_selected, self


def write_report(path: str | Path, report: Report) -> None:
    """Write a report as one JSON object with the fields' names; the file appears whole or not at all."""
    text = json.dumps(asdict(report), ensure_ascii=False, indent=1)
    # A file name that is not UTF-8 holds half surrogate pairs, which JSON can only have as escapes.
    write_whole(path, [text.encode("utf-8", "backslashreplace"), b"\n"])
