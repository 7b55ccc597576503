"""Prose as JSON lines, cut into passages that one request can hold."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_LONGEST = 1200  # characters
_SENTENCE = re.compile(r".+?(?:[.!?](?=\s|$)|[。！？]|$)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Passage:
    """Whole sentences of a page, white space collapsed; `number` counts within the page."""

    title: str
    revision: str
    number: int
    text: str


def read_passages(path: str | Path) -> list[Passage]:
    """Passages of every line {"title", "revision", "text"}, in order.

    Raises ValueError naming file and line for what is no such object, for a title or revision that a table's cell
    cannot hold, and for a file without lines.
    """
    passages: list[Passage] = []
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); check the path") from error
    lines = raw.split(b"\n")
    for number, line in enumerate(lines, 1):
        if line.strip():
            where = f"{path}, line {number}"
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{where}: not JSON ({error}); write one object a line") from error
            passages += _passages(record, where)
    if not any(line.strip() for line in lines):
        raise ValueError(f'{path} is empty; give JSON lines {{"title", "revision", "text"}}')
    return passages


def _passages(record: object, where: str) -> Iterator[Passage]:
    if not isinstance(record, dict):
        raise ValueError(f'{where}: no object; give {{"title", "revision", "text"}}')
    title, revision, text = (record.get(key) for key in ("title", "revision", "text"))
    if type(revision) is int:
        revision = str(revision)
    for key, value in (("title", title), ("revision", revision)):
        if not isinstance(value, str) or not value.strip() or any(c in value for c in "\t\r\n"):
            raise ValueError(f"{where}: {key} is {value!r}; give a text without tabs and line breaks")
    if not isinstance(text, str):
        raise ValueError(f"{where}: text is {type(text).__name__}; give a text")
    for number, part in enumerate(_parts(text)):
        yield Passage(str(title).strip(), str(revision).strip(), number, part)


def _parts(text: str) -> Iterator[str]:
    part = ""
    for match in _SENTENCE.finditer(" ".join(text.split())):
        sentence = match[0].strip()
        if part and len(part) + len(sentence) >= _LONGEST:
            yield part
            part = ""
        part = f"{part} {sentence}".strip()
        while len(part) > _LONGEST:  # one sentence without end
            yield part[:_LONGEST]
            part = part[_LONGEST:]
    if part:
        yield part
