"""Item and Trace, the two JSON-lines files every stage reads and writes.

An Item is one multiple-choice question; a Trace is an Item with a completion to imitate (cold start). Both are checked
when they are made, so a wrong one exists nowhere: not in memory, not in a file.
"""

import hashlib
import json
import os
import string
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from io import BufferedReader
from pathlib import Path
from typing import Any, TypeVar

DIFFICULTIES = ("easy", "moderate", "difficult")
MAX_OPTIONS = len(string.ascii_uppercase)

Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class Item:
    """One question with 2 to 26 options A, B, ..

    `answer` is a letter, or letters joined by "," in alphabetical order; `difficulty` null until a stage has set it.

    Raises ValueError naming the item, the value and the way out when a field is not what it must be.
    """

    id: str
    source: str
    lang: str
    context: str | None
    question: str
    options: dict[str, str]
    answer: str
    difficulty: str | None
    meta: dict[str, Any]

    def __post_init__(self) -> None:
        for name in ("id", "source", "lang", "question"):
            self._require(_is_text(getattr(self, name)), name, "give it a text that is not blank")
        self._require(self.context is None or isinstance(self.context, str), "context", "give it a text or null")
        self._require(isinstance(self.options, dict), "options", 'give it an object {"A": text, "B": text, ..}')
        count, letters = len(self.options), list(self.options)
        in_order = 2 <= count <= MAX_OPTIONS and letters == list(string.ascii_uppercase[:count])
        self._require(in_order, "options", "give it 2 to 26 options with the keys A, B, .. in this order")
        for letter, text in self.options.items():
            self._require(_is_text(text), "options", f"make option {letter} a text that is not blank")
        chosen = self.answer.split(",") if isinstance(self.answer, str) else []
        alphabetical = bool(chosen) and chosen == sorted(set(chosen) & set(letters))
        rule = 'give it a letter of the options, or several joined by "," in alphabetical order'
        self._require(alphabetical, "answer", f"{rule}; the options are {', '.join(letters)}")
        allowed = self.difficulty is None or self.difficulty in DIFFICULTIES
        self._require(allowed, "difficulty", f"make it null or one of {', '.join(DIFFICULTIES)}")
        self._require(isinstance(self.meta, dict), "meta", "give it an object; {} will do")

    def _require(self, holds: bool, field: str, way_out: str) -> None:
        if not holds:
            raise ValueError(f"item {self.id!r}: {field} is {_short(getattr(self, field))}; {way_out}")


@dataclass(frozen=True, slots=True)
class Trace:
    """A completion to imitate for an item; `checks` holds what the distiller verified about it."""

    item: Item
    completion: str
    teacher: str
    checks: dict[str, Any]
    label_conditioned: bool

    def __post_init__(self) -> None:
        for name, holds, way_out in (
            ("completion", _is_text(self.completion), "give it a text that is not blank"),
            ("teacher", isinstance(self.teacher, str), "give it the teacher's name"),
            ("checks", isinstance(self.checks, dict), "give it an object; {} will do"),
            ("label_conditioned", isinstance(self.label_conditioned, bool), "make it true or false"),
        ):
            if not holds:
                raise ValueError(f"item {self.item.id!r}: {name} is {_short(getattr(self, name))}; {way_out}")


def read_items(path: str | Path) -> list[Item]:
    """The items of a JSON-lines file in file order; blank lines are skipped.

    Raises ValueError naming file, line, item and way out when the file is missing, empty or holds a wrong line,
    a key too few or too many, or an id that an earlier line has.
    """
    items: list[Item] = []
    line_of: dict[str, int] = {}
    for number, item in _read_records(path, _item_from):
        if item.id in line_of:
            raise ValueError(
                f"{path}, line {number}: item {item.id!r} is already on line {line_of[item.id]}; ids must differ, "
                "rename or remove one"
            )
        line_of[item.id] = number
        items.append(item)
    return items


def write_items(path: str | Path, items: Iterable[Item]) -> None:
    """Write items as JSON lines; the file appears whole or not at all."""
    _write_records(path, ((item.id, item) for item in items))


def read_traces(path: str | Path) -> list[Trace]:
    """The traces of a JSON-lines file in file order; raises as `read_items`, but one item may have several traces."""
    return [trace for _, trace in _read_records(path, _trace_from)]


def write_traces(path: str | Path, traces: Iterable[Trace]) -> None:
    """Write traces as JSON lines; the file appears whole or not at all."""
    _write_records(path, ((trace.item.id, trace) for trace in traces))


def file_sha256(path: str | Path) -> str:
    """Hex SHA-256 of a file's bytes, for the lineage of a run."""
    with _open(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_whole(path: str | Path, lines: Iterable[bytes]) -> None:
    """Write `lines` to a temporary file beside `path`, then rename it there: no reader ever sees half a file.

    Makes missing folders. Raises ValueError when the place cannot be written; whatever stops `lines` leaves no file.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                file.writelines(lines)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise ValueError(f"{path} cannot be written ({error.strerror}); choose another place") from error


def _read_records(path: str | Path, build: Callable[[Any], Record]) -> Iterator[tuple[int, Record]]:
    empty = True
    with _open(path) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            empty = False
            try:
                yield number, build(json.loads(line.decode("utf-8-sig")))
            except json.JSONDecodeError as error:
                raise ValueError(
                    f"{path}, line {number}: not JSON ({error.msg} at character {error.pos}); "
                    "write one object a line, or make the file with `corl data import`"
                ) from error
            except UnicodeDecodeError as error:
                raise ValueError(f"{path}, line {number}: not UTF-8 ({error.reason}); convert the file") from error
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}") from error
    if empty:
        raise ValueError(f"{path} is empty; it must hold at least one JSON line")


def _write_records(path: str | Path, records: Iterable[tuple[str, Item | Trace]]) -> None:
    def lines() -> Iterator[bytes]:
        for name, record in records:
            try:
                yield json.dumps(asdict(record), ensure_ascii=False, allow_nan=False).encode() + b"\n"
            except (ValueError, TypeError) as error:
                raise ValueError(f"{path}: item {name!r} is not JSON ({error}); correct that value") from error

    write_whole(path, lines())


def _item_from(record: Any) -> Item:
    _check_keys(record, Item, record.get("id") if isinstance(record, dict) else None)
    return Item(**record)


def _trace_from(record: Any) -> Trace:
    item = record.get("item") if isinstance(record, dict) else None
    _check_keys(record, Trace, item.get("id") if isinstance(item, dict) else None)
    return Trace(**{**record, "item": _item_from(item)})


def _check_keys(record: Any, kind: type, name: Any) -> None:
    wanted = [field.name for field in fields(kind)]
    if not isinstance(record, dict):
        raise ValueError(f"{_short(record)} is not an object; give one with the keys {', '.join(wanted)}")
    if missing := [key for key in wanted if key not in record]:
        raise ValueError(f"item {name!r}: missing key {', '.join(missing)}; a line has {', '.join(wanted)}")
    if unknown := [key for key in record if key not in wanted]:
        raise ValueError(
            f"item {name!r}: unknown key {', '.join(unknown)}; a line has {', '.join(wanted)}, put the rest into meta"
        )


def _open(path: str | Path) -> BufferedReader:
    try:
        return open(path, "rb")
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); check the path") from error


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
