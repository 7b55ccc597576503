"""The rows of a file of items, read so that a wrong one is a finding with its line and the others are still checked."""

import json
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from corl.data.benchmarks import Benchmark, benchmark_of
from corl.data.checking.encoding import artefacts
from corl.data.items import Item

NOT_AN_ITEM = "not_an_item"
REPEATED_ID = "repeated_id"
EMPTY_QUESTION = "empty_question"
EMPTY_OPTION = "empty_option"
BAD_LABEL = "bad_label"
DUPLICATE_OPTIONS = "duplicate_options"
ENCODING = "encoding"
NEAR_DUPLICATE = "near_duplicate"
CONTAMINATED = "contaminated"
REASONS = (
    NOT_AN_ITEM, REPEATED_ID, EMPTY_QUESTION, EMPTY_OPTION, BAD_LABEL, DUPLICATE_OPTIONS, ENCODING, NEAR_DUPLICATE,
    CONTAMINATED,
)  # fmt: skip
_KEYS = [field.name for field in fields(Item)]


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a line. `evidence` holds the numbers and names behind `detail`; no text of another item."""

    line: int
    id: str | None
    reason: str
    detail: str
    evidence: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RawRow:
    """One line with what could be read of it. `question` is "" and `options` empty where the line has none.

    set_name       the column of the paper's table that the row belongs to, else its source
    official_rows  how many rows that column has
    """

    line: int
    id: str | None
    source: str
    set_name: str
    split: str | None
    official_rows: int | None
    context: str
    question: str
    options: tuple[str, ...]
    several_right: bool
    findings: tuple[Finding, ...]


def read_rows(path: Path) -> Iterator[RawRow]:
    """The lines of a file that are not blank. Raises ValueError when it cannot be read or has none."""
    line_of: dict[str, int] = {}
    empty = True
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    empty = False
                    yield _row(number, line, line_of)
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); check the path") from error
    if empty:
        raise ValueError(f"{path} is empty; it must hold at least one JSON line")


def _row(number: int, line: bytes, line_of: dict[str, int]) -> RawRow:
    try:
        record = json.loads(line.decode("utf-8-sig"), object_pairs_hook=_object, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        return _unreadable(number, f"not UTF-8 ({error.reason})")
    except (ValueError, RecursionError) as error:
        return _unreadable(number, f"not JSON ({error})")
    if not isinstance(record, dict):
        return _unreadable(number, "not an object")
    id_ = record.get("id") if isinstance(record.get("id"), str) else None
    found: list[tuple[str, str]] = []
    if id_ is not None and line_of.setdefault(id_, number) != number:
        found.append((REPEATED_ID, f"the id of line {line_of[id_]}"))
    options = record.get("options")
    texts = [text for text in options.values() if isinstance(text, str)] if isinstance(options, dict) else []
    found += _content(record, texts)
    explained = any(reason in (EMPTY_QUESTION, EMPTY_OPTION, BAD_LABEL) for reason, _ in found)
    item, why = _item(record)
    if why and not explained:
        found.append((NOT_AN_ITEM, why))
    context, question, answer = (record.get(key) for key in ("context", "question", "answer"))
    source = record["source"] if isinstance(record.get("source"), str) else ""
    meta = record["meta"] if isinstance(record.get("meta"), dict) else {}
    benchmark = benchmark_of(item) if item else _benchmark(source, record.get("lang"), meta)
    return RawRow(
        line=number,
        id=id_,
        source=source,
        set_name=benchmark.key if benchmark else source,
        split=meta["split"] if isinstance(meta.get("split"), str) else None,
        official_rows=benchmark.rows if benchmark else None,
        context=context if isinstance(context, str) else "",
        question=question if isinstance(question, str) else "",
        options=tuple(texts),
        several_right=isinstance(answer, str) and "," in answer,
        findings=tuple(Finding(number, id_, reason, detail) for reason, detail in found),
    )


def _benchmark(source: str, lang: Any, meta: dict[str, Any]) -> Benchmark | None:
    """The set a row belongs to, whatever else is wrong with it."""
    try:
        return benchmark_of(Item("row", source, lang, None, "question", {"A": "x", "B": "y"}, "A", None, meta))
    except ValueError:
        return None


def _content(record: dict[str, Any], texts: list[str]) -> list[tuple[str, str]]:
    """What is wrong with question, options, label and encoding of a row, in the order of REASONS."""
    found: list[tuple[str, str]] = []
    question, options, answer = record.get("question"), record.get("options"), record.get("answer")
    if question is None or (isinstance(question, str) and not question.strip()):
        found.append((EMPTY_QUESTION, "no question"))
    if isinstance(options, dict):
        empty = [key for key, text in options.items() if text is None or (isinstance(text, str) and not text.strip())]
        if empty:
            found.append((EMPTY_OPTION, f"option {', '.join(empty)} has no text"))
        if options and not _is_label(answer, options):
            found.append((BAD_LABEL, f"answer is {ascii(answer)[:60]}, the options are {', '.join(options)}"))
        same = [text for text, count in Counter(map(_squeezed, texts)).items() if count > 1 and text]
        if same:
            keys = [key for key, text in options.items() if isinstance(text, str) and _squeezed(text) == same[0]]
            found.append((DUPLICATE_OPTIONS, f"options {', '.join(keys)} have the same text"))
    places = {"id": record.get("id"), "context": record.get("context"), "question": question}
    places |= {f"option {key}": text for key, text in options.items()} if isinstance(options, dict) else {}
    found += [
        (ENCODING, f"{place}: {', '.join(kinds)}")
        for place, text in places.items()
        if isinstance(text, str) and (kinds := artefacts(text))
    ]
    return found


def _item(record: dict[str, Any]) -> tuple[Item | None, str]:
    """The row as an item, or why `read_items` would refuse it."""
    for what, wrong in (
        ("missing key", [key for key in _KEYS if key not in record]),
        ("unknown key", [key for key in record if key not in _KEYS]),
    ):
        if wrong:
            return None, f"{what} {', '.join(wrong)}; a line has {', '.join(_KEYS)}"
    try:
        return Item(**record), ""
    except ValueError as error:
        return None, str(error)


def _is_label(answer: Any, options: dict[str, Any]) -> bool:
    letters = answer.split(",") if isinstance(answer, str) else []
    return bool(letters) and letters == sorted(set(letters) & set(options))


def _squeezed(text: str) -> str:
    """White space collapsed and NFKC, case kept: two genotypes may differ by it alone."""
    text = " ".join(text.split())
    # NFKC sorts runs of combining marks in quadratic time; such a text is compared as it is.
    return text if text.isascii() or len(text) > 4096 else unicodedata.normalize("NFKC", text)


def _unreadable(number: int, why: str) -> RawRow:
    finding = Finding(number, None, NOT_AN_ITEM, why)
    return RawRow(number, None, "", "", None, None, "", "", (), False, (finding,))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return made


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")
