"""The audit of a file of made questions: every item judged against the graph, then the file as a whole."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from corl.data.items import write_whole
from corl.observe.progress import sample_bar
from corl.rods.audit.bounds import Bound, file_bounds
from corl.rods.audit.facts import Facts
from corl.rods.audit.judge import Finding, Judge
from corl.rods.audit.reading import open_graph, read_rods_items
from corl.rods.audit.surfaces import Surfaces

SHOWN = 20  # findings of each kind; the report holds them all
_IN_LAST_LINE = ("ambiguous", "leaks", "option_only", "single_clue", "letters", "rare")
_COUNTED_THERE = {"ambiguous", "leak"}


@dataclass(frozen=True, slots=True)
class AuditReport:
    file: str
    graph: str
    items: int
    findings: tuple[Finding, ...]
    bounds: tuple[Bound, ...]

    @property
    def faults(self) -> int:
        """What is wrong beside the last line's own numbers."""
        others = sum(finding.kind not in _COUNTED_THERE for finding in self.findings)
        # Duplicates are findings already; the answers' bound is none.
        return others + sum(not b.holds for b in self.bounds if b.name == "most items of one answer")

    @property
    def ok(self) -> bool:
        return not self.findings and all(bound.holds for bound in self.bounds)

    @property
    def last_line(self) -> str:
        values = {bound.name: bound.value for bound in self.bounds}
        numbers = " ".join(f"{name}={values[name]}" for name in _IN_LAST_LINE)
        faults = f" faults={self.faults}" if self.faults else ""
        return f"audit: {'ok' if self.ok else 'FAILED'} n={self.items} {numbers}{faults}"


def audit_file(path: str | Path, graph: str | None = None) -> AuditReport:
    """Judge a file of `corl rods sample` by its graph, its questions and their clues; the stored proof is not read.

    Raises ValueError for what cannot be audited: see corl.rods.audit.reading.
    """
    items = read_rods_items(path)
    opened = open_graph(path, items, graph)
    facts = Facts(opened)
    judge = Judge(facts, Surfaces(opened))
    verdicts = []
    bar = sample_bar("audit", len(items), shown=True)
    for item in items:
        verdicts.append(judge.judge(item))
        bar.update()
    bar.close()
    bounds, findings = file_bounds(items, verdicts, facts)
    return AuditReport(str(path), f"{opened.name} {opened.hash}", len(items), tuple(findings), tuple(bounds))


def describe(report: AuditReport) -> Iterator[str]:
    """Findings by item, the first of each kind; the table of bounds; the last line."""
    for kind, count in Counter(finding.kind for finding in report.findings).items():
        for finding in [finding for finding in report.findings if finding.kind == kind][:SHOWN]:
            yield _printable(f"{finding.id}: {kind}: {finding.detail}")
        if count > SHOWN:
            yield f"{kind}: {count - SHOWN} more"
    for bound in report.bounds:
        mark = "ok" if bound.holds else "FAILED"
        yield _printable(f"{bound.name:<26}{bound.value:>12}   limit {bound.limit:<14}{mark:<8}{bound.note}".rstrip())
    yield report.last_line


def write_report(report: AuditReport, out: str | Path) -> None:
    """Every finding and every bound as one JSON object."""
    record = {"ok": report.ok, "last_line": report.last_line, "faults": report.faults} | asdict(report)
    write_whole(out, [json.dumps(record, indent=1).encode() + b"\n"])


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
