"""Completions as JSON lines: graded, or held against the labels that they carry."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corl.grading.verdict import Grade, grade

_NEEDED = ("completion", "options", "gold")
_LABELS = ("format_ok", "extracted", "correct")


def grade_lines(lines: Iterable[str | bytes], *, source: str = "lines") -> Iterator[str]:
    """Each JSON line {completion, options, gold, prefill?} with format_ok, extracted and correct set.

    Other keys and their order are kept, blank lines skipped. Raises ValueError naming source and line number.
    """
    for _, record, found in _graded(lines, source, _NEEDED):
        yield _line(record | {label: getattr(found, label) for label in _LABELS})


def grade_file(path: str | Path) -> list[str]:
    """The graded lines of a JSON lines file, without newlines; all of it is read before anything can be written."""
    with open(path, "rb") as file:
        return list(grade_lines(file, source=str(path)))


def tally(graded: Iterable[str]) -> str:
    """What graded lines hold, in words; an answer that could not be read is null, not wrong."""
    records = [json.loads(line) for line in graded]
    correct = sum(record["correct"] for record in records)
    null = sum(record["extracted"] is None for record in records)
    formed = sum(record["format_ok"] for record in records)
    wrong = len(records) - correct - null
    return f"{len(records)} completions: {correct} correct, {wrong} wrong, {null} null; {formed} well-formed"


@dataclass(frozen=True, slots=True)
class Agreement:
    """Grades beside labels: counts over n lines, of which `right` are labelled correct.

    wrong_letters  lines where `extracted` differs, null being a value of its own
    notes          a line of text for every line of the file where anything differs
    """

    n: int
    right: int
    false_positives: int
    false_negatives: int
    wrong_letters: int
    formats: int
    notes: list[str]

    def __str__(self) -> str:
        return (
            f"grading: {'FAILED' if self.notes else 'ok'} n={self.n} "
            f"false_positives={self.false_positives}/{self.n - self.right} "
            f"false_negatives={self.false_negatives}/{self.right} "
            f"wrong_letters={self.wrong_letters} format={self.formats}"
        )


def check_labels(path: str | Path) -> Agreement:
    """How the grades of a file's completions differ from the format_ok, extracted and correct its lines already hold.

    Raises ValueError for a file without lines, and as `grade_lines` does.
    """
    right = false_positives = false_negatives = wrong_letters = formats = 0
    n, notes = 0, []
    with open(path, "rb") as file:
        for number, record, found in _graded(file, str(path), (*_NEEDED, *_LABELS)):
            labelled = _labelled(record, f"{path} line {number}")
            n, right = n + 1, right + labelled.correct
            false_positives += found.correct and not labelled.correct
            false_negatives += labelled.correct and not found.correct
            wrong_letters += found.extracted != labelled.extracted
            formats += found.format_ok != labelled.format_ok
            if found != labelled:
                notes.append(f"line {number}: graded {_verdict(found)}, labelled {_verdict(labelled)}")
    if not n:
        raise ValueError(f"{path} holds no lines; give it labelled completions")
    return Agreement(n, right, false_positives, false_negatives, wrong_letters, formats, notes)


def _graded(
    lines: Iterable[str | bytes], source: str, needed: tuple[str, ...]
) -> Iterator[tuple[int, dict[str, Any], Grade]]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                record = json.loads(line)
                found = _grade_record(record, needed)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{source} line {number}: {error}") from error
            yield number, record, found


def _grade_record(record: object, needed: tuple[str, ...]) -> Grade:
    if not isinstance(record, dict):
        raise ValueError(f"expected a JSON object, got {type(record).__name__}")
    if missing := [key for key in needed if key not in record]:
        raise ValueError(f"missing {', '.join(missing)}; a line needs {', '.join(needed)}")
    completion, prefill = record["completion"], record.get("prefill", "")
    if not isinstance(completion, str) or not isinstance(prefill, str):
        raise ValueError("completion and prefill must be strings")
    return grade(completion, record["options"], record["gold"], prefill=prefill)


def _labelled(record: dict[str, Any], where: str) -> Grade:
    format_ok, extracted, correct = (record[label] for label in _LABELS)
    if not isinstance(format_ok, bool) or not isinstance(correct, bool):
        raise ValueError(f"{where}: format_ok={format_ok!r}, correct={correct!r}; label both true or false")
    if not isinstance(extracted, str | None):
        raise ValueError(f"{where}: extracted={extracted!r}; label it with letters or null")
    return Grade(format_ok, extracted, correct)


def _line(record: dict[str, Any]) -> str:
    line = json.dumps(record, ensure_ascii=False)
    try:
        line.encode()
    except UnicodeEncodeError:  # half a surrogate pair, legal in JSON as an escape only
        return json.dumps(record)
    return line


def _verdict(result: Grade) -> str:
    return ", ".join(f"{label}={json.dumps(getattr(result, label))}" for label in _LABELS)
