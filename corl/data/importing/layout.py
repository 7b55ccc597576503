"""Which rows a set's files hold: the columns that tell a layout, and content of any shape brought to rows."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How the files of a set look.

    columns    a file has the layout when its rows hold all the names of one of these groups
    foreign    groups of names of which each tells another set with the same columns
    wanted     the layout in words, for the error
    hub        hub id -> the configuration of it that holds the set
    main_file  where a folder has this file, it alone is the set
    aside      a file of the folder that the set's reader opens itself
    """

    name: str
    columns: tuple[frozenset[str], ...]
    wanted: str
    foreign: tuple[frozenset[str], ...] = ()
    encodings: tuple[str, ...] = ("utf-8",)
    hub: Mapping[str, str] = field(default_factory=dict)
    main_file: str = ""
    aside: str = ""

    def fits(self, names: set[str]) -> bool:
        return any(group <= names for group in self.columns) and not any(group <= names for group in self.foreign)


@dataclass(frozen=True, slots=True)
class Part:
    """One file or split of a source, its rows in order.

    keys  where the file maps keys to rows
    path  the file, or the folder that `datasets` saved; None for what comes from the hub
    """

    name: str
    rows: list[dict[str, Any]]
    keys: list[str] | None = None
    split: str | None = None
    path: Path | None = None

    def places(self) -> list[str]:
        return [f"{self.name}, row {number}" for number in range(1, len(self.rows) + 1)]


def rows_of(parts: Iterable[Part]) -> Iterator[tuple[Part, str, dict[str, Any]]]:
    """Every row of a source with its part and the place that names it in a message."""
    for part in parts:
        for place, row in zip(part.places(), part.rows, strict=True):
            yield part, place, row


def part_of(name: str, content: Any, layout: Layout, path: Path) -> Part | None:
    """The part that a file's content is, None when it has not the layout; raises ValueError for damaged rows.

    Content may be a list of rows, one row, an object of rows by key, or an object of columns (lists, or objects by
    row number).
    """
    keys: list[str] | None = None
    if isinstance(content, dict) and layout.fits(set(content)):
        columns = list(content.values())
        of_columns = all(isinstance(c, dict) for c in columns) or all(isinstance(c, list) for c in columns)
        content = _from_columns(name, content, layout) if of_columns else [content]
    elif isinstance(content, dict) and content and all(isinstance(value, dict) for value in content.values()):
        keys, content = list(content), list(content.values())
    if not isinstance(content, list) or not layout.fits(names_in(content)):
        return None
    for number, row in enumerate(content, 1):
        if not isinstance(row, dict):
            raise layout_error(f"{name}, row {number}", layout, row)
    return Part(name, content, keys, path=path)


def _from_columns(name: str, content: dict[str, Any], layout: Layout) -> list[dict[str, Any]]:
    group = next(group for group in layout.columns if group <= content.keys())
    numbers = {column: _numbered(content[column]) for column in content}
    first = numbers[min(group)]
    for column in sorted(group):
        if numbers[column].keys() != first.keys():
            raise ValueError(f"{name}: the columns {min(group)} and {column} have different rows; fetch the set again")
    return [{column: values.get(number) for column, values in numbers.items()} for number in first]


def _numbered(column: Any) -> dict[Any, Any]:
    return column if isinstance(column, dict) else dict(enumerate(column))


def names_in(content: Any) -> set[str]:
    """The keys of rows: of an object's objects, of a list's objects, or of a lone object."""
    if isinstance(content, dict) and content and all(isinstance(value, dict) for value in content.values()):
        content = list(content.values())
    rows = content if isinstance(content, list) else [content]
    return {key for row in rows if isinstance(row, dict) for key in row}


def layout_error(where: str, layout: Layout, content: Any) -> ValueError:
    """The error for content that is not of a set: what was expected, which keys were found."""
    names = sorted(names_in(content))
    found = ", ".join(names[:20]) + (", .." if len(names) > 20 else "")
    return ValueError(
        f"{where}: no layout of {layout.name} that is known ({layout.wanted}); the keys found are: {found or 'none'}"
    )
