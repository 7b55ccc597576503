"""Items in the layout of the authors' released files: {graph_idx, question, choices, answer}, `choices` one text.

`corl data import medkgqa` reads them back. Only an item that comes back as it was is written: one with a context, in
another language than its script tells, or whose options read as labels, is left out with the reason.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corl.data.checking import check_places
from corl.data.importing.cmexam import options_of
from corl.data.importing.values import gold_letters, language
from corl.data.items import Item, read_items
from corl.rods.filtering.manifest import write_json, write_lines


@dataclass(frozen=True, slots=True)
class ExportReport:
    """read = written + left out."""

    read: int
    written: int
    left_out: tuple[tuple[str, str], ...]  # id, reason

    def __post_init__(self) -> None:
        assert self.read == self.written + len(self.left_out), self


def export_medkgqa(files: Sequence[str | Path], out: Path) -> ExportReport:
    """Write the rows to `out` and what was left out to `out`.report.json.

    Raises ValueError, with nothing written, when no item can be written.
    """
    report_place = out.with_name(f"{out.name}.report.json")
    check_places(files, [out, report_place])
    rows: list[dict[str, Any]] = []
    left_out: list[tuple[str, str]] = []
    for file in files:
        for item in read_items(file):
            if reason := lost(item):
                left_out.append((item.id, reason))
            else:
                rows.append(medkgqa_row(item))
    report = ExportReport(len(rows) + len(left_out), len(rows), tuple(left_out))
    if not rows:
        raise ValueError(
            f"{', '.join(map(str, files))}: none of {report.read} items fits the layout (the first, "
            f"{left_out[0][0]!r}: {left_out[0][1]}); nothing was written"
        )
    write_lines(out, rows)
    listed = [{"id": id_, "reason": reason} for id_, reason in left_out]
    write_json(report_place, {"read": report.read, "written": report.written, "left_out": listed})
    return report


def medkgqa_row(item: Item) -> dict[str, Any]:
    return {
        "graph_idx": item.meta.get("graph_idx"),
        "question": item.question,
        "choices": "\n".join(f"{letter}. {text}" for letter, text in item.options.items()),
        "answer": item.answer,
    }


def lost(item: Item) -> str | None:
    """What of an item the layout would lose; None where the importer reads it back as it is."""
    row = json.loads(json.dumps(medkgqa_row(item)))
    if item.context is not None:
        return "has a context, the layout has none"
    if item.question != item.question.strip() or any(text != text.strip() for text in item.options.values()):
        return "has white space at an end, which an import trims"
    if language(item.question) != item.lang:
        return f"is {item.lang}, its question would be read as {language(item.question)}"
    if options_of(row["choices"]) != list(item.options.values()):
        return "has options that would be read as others"
    if gold_letters(row["answer"]) != item.answer:
        return "has an answer that would be read as another"
    return None


def describe(report: ExportReport, out: Path) -> Iterator[str]:
    reasons = Counter(reason for _, reason in report.left_out)
    for reason, count in reasons.most_common():
        yield f"left out {count}: {reason}"
    yield f"{out}: read {report.read} = written {report.written} + left out {len(report.left_out)}"
