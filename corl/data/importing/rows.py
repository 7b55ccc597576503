"""From the rows of a source file to items: reading JSON of any layout, checks, repairs, flags and ids.

A set's reader turns its layout into Rows; what is dropped, changed, flagged and how an item is named is decided here,
the same way for every set.
"""

import hashlib
import json
import math
import string
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from corl.data.importing.report import Drop, Repair, Report
from corl.data.items import MAX_OPTIONS, Item

LETTERS = string.ascii_uppercase


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of a source in common terms, its values as the source has them.

    number      its place in the source, from 1
    options     values in letter order; one without text is taken out
    answer      the gold: letters joined by "," in alphabetical order; anything else is reported as no usable gold
    bad_gold    why the gold cannot be used although it names an option
    native_id   the source's own id
    selected    False for a row that was not asked for: counted, nothing else
    """

    number: int
    question: Any
    options: list[Any]
    answer: Any
    bad_gold: str = ""
    native_id: Any = None
    context: str | None = None
    lang: str = "en"
    meta: dict[str, Any] = field(default_factory=dict)
    selected: bool = True


def read_json(path: Path) -> Any:
    """A file's content: the JSON value it holds, or the list of its lines' values when every line is one.

    What the file is called plays no part. Raises ValueError naming file and line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 ({error.reason}); convert the file") from error
    if not text.strip():
        raise ValueError(f"{path} is empty; fetch the set again")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        if not error.msg.startswith("Extra data"):  # one value and then more: lines of JSON
            raise ValueError(f"{path}, line {error.lineno}: not JSON ({error.msg}); fetch the set again") from error
    values = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                values.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {number}: not JSON ({error.msg}); fetch the set again") from error
    return values


def keys_of(content: Any) -> set[str]:
    """The keys of a source's rows: of an object's objects, of a list's objects, or of a lone object."""
    if isinstance(content, dict) and content and all(isinstance(value, dict) for value in content.values()):
        content = list(content.values())
    rows = content if isinstance(content, list) else [content]
    return {key for row in rows if isinstance(row, dict) for key in row}


def layout_error(where: str, name: str, wanted: str, content: Any) -> ValueError:
    """The error for a source whose layout is not recognised: what was expected, which keys were found."""
    found = sorted(keys_of(content))
    listed = ", ".join(found[:20]) + (", .." if len(found) > 20 else "")
    return ValueError(f"{where}: no layout of {name} that is known ({wanted}); the keys found are: {listed or 'none'}")


def items_from(name: str, rows: Iterable[Row]) -> tuple[list[Item], Report]:
    """The items of a set's rows in source order, and the report on every row."""
    items: list[Item] = []
    dropped: list[Drop] = []
    repaired: list[Repair] = []
    taken: set[str] = set()
    read = not_selected = 0
    for row in rows:
        read += 1
        if not row.selected:
            not_selected += 1
            continue
        question = _text(row.question)
        options, answer, changes = _lettered(row)
        id_ = f"{name}:{_text(row.native_id) or _digest(question, options)}"
        if reason := _unusable(row, question, options, answer):
            dropped.append(Drop(row.number, id_, reason))
            continue
        id_ = _unique(id_, taken)
        repaired += [Repair(row.number, id_, change) for change in changes]
        context = _text(row.context) or None
        items.append(Item(id_, name, row.lang, context, question, options, answer, None, row.meta))
    return _flagged(items), Report(read, len(items), tuple(dropped), tuple(repaired), not_selected)


def _text(value: Any) -> str:
    """Trimmed text of a source's value; null, NaN and everything that is neither text nor number is no text."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return str(value)
    return value.strip() if isinstance(value, str) else ""


def _lettered(row: Row) -> tuple[dict[str, str], str, list[str]]:
    """Options, gold ("" when it names no option) and changes: an option without text goes, later letters move up."""
    if len(row.options) > MAX_OPTIONS:
        raise ValueError(f"row {row.number} has {len(row.options)} options; an item holds {MAX_OPTIONS} at most")
    options: dict[str, str] = {}
    new_letter: dict[str, str] = {}
    changes: list[str] = []
    for old, value in zip(LETTERS, row.options, strict=False):
        text = _text(value)
        if not text:
            changes.append(f"option {old} has no text: removed, later options move up")
            continue
        new_letter[old] = LETTERS[len(options)]
        options[new_letter[old]] = text
        if not isinstance(value, str):
            changes.append(f"option {old} is a number: written as text")
    letters = _text(row.answer).split(",")
    named = all(letter in new_letter for letter in letters)
    return options, ",".join(new_letter[letter] for letter in letters) if named else "", changes


def _unusable(row: Row, question: str, options: dict[str, str], answer: str) -> str:
    if not question:
        return "no question"
    if len(options) < 2:
        return f"fewer than two options ({len(options)})"
    if not answer:
        return f"no usable gold ({row.answer!r} names no option)"
    return row.bad_gold and f"no usable gold ({row.bad_gold})"


def _digest(question: str, options: dict[str, str]) -> str:
    return hashlib.sha256("\n".join([question, *options.values()]).encode()).hexdigest()[:16]


def _unique(id_: str, taken: set[str]) -> str:
    candidate, n = id_, 1
    while candidate in taken:
        n += 1
        candidate = f"{id_}-{n}"
    taken.add(candidate)
    return candidate


def _flagged(items: list[Item]) -> list[Item]:
    """Items with meta.flags: what is content, and kept, but a later stage may want to know."""
    stems = Counter((item.context, item.question) for item in items)
    flagged = []
    for item in items:
        texts = list(item.options.values())
        found = {
            "duplicate_options": len(set(texts)) < len(texts),
            "repeated_stem": stems[item.context, item.question] > 1,
            "none_option": any(text.casefold() == "none" for text in texts),
        }
        flags = [flag for flag, holds in found.items() if holds]
        flagged.append(replace(item, meta={**item.meta, "flags": flags}))
    return flagged
