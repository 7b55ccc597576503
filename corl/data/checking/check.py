"""`corl data check`: every row of a file of items, beside the file's other rows and beside reference sets."""

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from corl.data.checking.contamination import Hit, Reference
from corl.data.checking.fingerprint import Section, fingerprint_lines, stem_of
from corl.data.checking.near_duplicates import Match, Stems
from corl.data.checking.rows import CONTAMINATED, NEAR_DUPLICATE, REASONS, Finding, RawRow, read_rows
from corl.data.checking.sections import SectionsOfRows, read_reference
from corl.data.items import write_whole
from corl.data.prompts import MULTI_ANSWER_SOURCES


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was found. Rows are named by their line; every row with a finding is one that the filter leaves out.

    against   the sets compared with; what is clean beside a part of a set may not be beside the whole
    sections  where asked for, the file's own questions in hashes: of every row whose question could be read
    notes     what is no fault of a row
    """

    file: str
    rows: int
    findings: tuple[Finding, ...]
    against: tuple[str, ...]
    sections: tuple[Section, ...]
    notes: tuple[str, ...]

    @property
    def dropped(self) -> frozenset[int]:
        """Lines with a finding."""
        return frozenset(finding.line for finding in self.findings)

    @property
    def counts(self) -> dict[str, int]:
        """Rows by reason; one with several reasons counts under each."""
        rows = Counter(reason for _, reason in {(finding.line, finding.reason) for finding in self.findings})
        return {reason: rows[reason] for reason in REASONS if rows[reason]}


def check_items(file: str | Path, against: Sequence[str | Path] = (), *, with_sections: bool = False) -> CheckReport:
    """Check the rows of `file`; `against` names files of items or fingerprints; `with_sections` fills report.sections.

    A wrong row of `file` is a finding. Raises ValueError when `file` cannot be read or holds no line, and for anything
    wrong in a file of `against`.
    """
    path = Path(file)
    reference = Reference([section for other in against for section in read_reference(Path(other))])
    stems = Stems()
    names: list[tuple[int, str | None]] = []  # line and id of each row
    findings: list[Finding] = []
    clean: list[bool] = []
    own = SectionsOfRows()
    asked_for_one: Counter[str] = Counter()
    for row in read_rows(path):
        found = list(row.findings)
        stem, words, texts = stem_of(row.context, row.question, row.options)
        if row.question.strip():
            found += [_contaminated(row, hit, reference.sections[hit.section]) for hit in reference.hits(stem)]
            if with_sections:
                own.add(row, stem)
        if row.several_right and row.source not in MULTI_ANSWER_SOURCES:
            asked_for_one[row.source] += 1
        stems.add(words, texts)
        names.append((row.line, row.id))
        clean.append(not found)
        findings += found
    matches, alike = stems.matches(clean)
    findings += [
        _near_duplicate(*names[row], match, *names[match.row]) for row, match in enumerate(matches) if match is not None
    ]
    findings.sort(key=lambda finding: (finding.line, REASONS.index(finding.reason)))
    notes = [
        f"{count} rows of {source!r} have several right options, but its prompt asks for one letter "
        "(MULTI_ANSWER_SOURCES in corl/data/prompts.py)"
        for source, count in asked_for_one.items()
    ]
    notes += (
        [f"{alike} rows repeat the words of an earlier stem with other options: other questions, kept"] if alike else []
    )
    titles = tuple(section.title for section in reference.sections)
    return CheckReport(str(file), len(names), tuple(findings), titles, tuple(own.sections()), tuple(notes))


def write_kept(report: CheckReport, out: str | Path) -> int:
    """Write the rows without a finding to `out`, byte for byte and whole or not at all; returns how many.

    Raises ValueError, with nothing written, when no row is without one.
    """
    dropped = report.dropped
    if len(dropped) == report.rows:
        raise ValueError(f"{report.file}: every row has a finding, so {out} was not written; see the list above")
    kept = 0

    def lines() -> Iterator[bytes]:
        nonlocal kept
        with open(report.file, "rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip() and number not in dropped:
                    kept += 1
                    yield line.strip().removeprefix(b"\xef\xbb\xbf") + b"\n"

    write_whole(out, lines())
    return kept


def write_fingerprint(report: CheckReport, out: str | Path) -> None:
    """Write the hashes of the file's questions, those with findings too: they may have been seen all the same."""
    if not report.sections:
        raise ValueError(f"{report.file}: no row has a question, so {out} was not written; give a file of items")
    if nameless := [section for section in report.sections if not section.name]:
        raise ValueError(
            f"{report.file}, line {nameless[0].lines[0]}: no source names the set; {out} was not written, add it"
        )
    write_whole(out, fingerprint_lines(report.sections))


def write_report(report: CheckReport, out: str | Path) -> None:
    """Everything `describe` says, as one JSON object."""
    record = {
        "file": report.file,
        "rows": report.rows,
        "clean": report.rows - len(report.dropped),
        "counts": report.counts,
        "against": report.against,
        "notes": report.notes,
        "findings": [asdict(finding) for finding in report.findings],
    }
    write_whole(out, [json.dumps(record, indent=1).encode() + b"\n"])


def describe(report: CheckReport) -> Iterator[str]:
    """A line a finding, what was compared with, and rows by reason; of a reference only names and line numbers."""
    for finding in report.findings:
        yield _printable(f"line {finding.line} ({finding.id or 'no id'}): {finding.reason}: {finding.detail}")
    for title in report.against:
        yield _printable(f"against {title}")
    for note in report.notes:
        yield _printable(f"note: {note}")
    for reason, count in report.counts.items():
        yield f"{reason:>20}  {count}"
    yield f"{report.file}: {report.rows} rows, {len(report.dropped)} with findings"


def check_places(inputs: Sequence[str | Path], outputs: Sequence[str | Path | None]) -> None:
    """Raises ValueError when an output would replace an input or another output."""
    taken = {os.path.realpath(place): place for place in inputs}
    for out in outputs:
        if out is None:
            continue
        real = os.path.realpath(out)
        if real in taken:
            raise ValueError(f"{out} is named twice, or is a file to read; write to another place")
        taken[real] = out


def _contaminated(row: RawRow, hit: Hit, section: Section) -> Finding:
    evidence: dict[str, Any] = {
        "set": section.name,
        "set_line": hit.line,
        "evidence": hit.evidence,
        "covered": hit.covered,
        "share": round(hit.share, 3),
        "same_options": hit.same_options,
    }
    if hit.evidence == "exact":
        how = "the same stem and options"
    else:
        options = "most options too" if hit.same_options else "other options"
        how = f"common runs cover {hit.covered} words, {hit.share:.0%} of the shorter stem; {options}"
    detail = f"{hit.evidence}, line {hit.line} of {section.title}: {how}"
    return Finding(row.line, row.id, CONTAMINATED, detail, evidence)


def _near_duplicate(line: int, id_: str | None, match: Match, first: int, first_id: str | None) -> Finding:
    options = "the same options for the most part" if match.same_options else "other options"
    detail = f"stem of line {first} ({first_id or 'no id'}), similarity {match.similarity:.2f}, {options}"
    evidence = {"line": first, "similarity": round(match.similarity, 3), "same_options": match.same_options}
    return Finding(line, id_, NEAR_DUPLICATE, detail, evidence)


def _printable(text: str) -> str:
    """`text` with what would break a line or a terminal as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
