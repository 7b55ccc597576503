"""`corl rods filter`: every row of the files to kept, rejected or review, with the filter and the reasons.

An item is first rewritten (NFC, anonymisation), then judged as it will be kept, so that filtering what was kept again
changes nothing. It stops at the first filter that does not let it pass; counts are by that filter.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from corl.data.checking import check_places
from corl.data.items import Item, write_items
from corl.observe.progress import sample_bar
from corl.rods.audit.surfaces import Surfaces
from corl.rods.filtering.anonymise import Change, change_record, is_made, rewrite
from corl.rods.filtering.form import form_reasons
from corl.rods.filtering.language import base, language_reasons
from corl.rods.filtering.manifest import graphs_of, inputs, versions, write_json, write_lines
from corl.rods.filtering.names import Eponyms
from corl.rods.filtering.proofs import Proofs, text_leaks
from corl.rods.filtering.references import References, words_of
from corl.rods.filtering.repeats import Words, find_repeats
from corl.rods.filtering.rows import Reason, Row, read_all
from corl.rods.graph import EMBEDDED, load_graph

# Judged in this order. Anonymisation takes no item out: it rewrites.
FILTERS = ("format", "leak", "ambiguity", "duplicates", "contamination", "anonymisation", "language")
KEPT, REJECTED, REVIEW, REWRITTEN = "kept.jsonl", "rejected.jsonl", "review.jsonl", "rewritten.jsonl"
MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Request:
    """What to filter. graph: a folder or "embedded"; None takes the embedded one where items say that they are its."""

    files: Sequence[str | Path]
    out: Path
    against: Sequence[str | Path] = ()
    graph: str | None = None
    langs: Sequence[str] = ()


@dataclass(slots=True)
class Judged:
    """A row on its way. `filter` None: it is kept."""

    row: Row
    item: Item | None
    changes: tuple[Change, ...]
    filter: str | None = None
    reasons: list[Reason] = field(default_factory=list)
    review: bool = False

    def stop(self, name: str, reasons: Sequence[Reason], *, review: bool = False) -> None:
        self.filter, self.reasons, self.review = name, list(reasons), review


@dataclass(frozen=True, slots=True)
class FilterReport:
    """read = kept + rejected + review. counts: by filter, then by reason; an item counts under each of its reasons."""

    read: int
    kept: int
    rejected: int
    review: int
    rewritten: int
    stopped: dict[str, int]
    counts: dict[str, dict[str, int]]
    rules: dict[str, int]
    against: list[str]
    notes: list[str]

    def __post_init__(self) -> None:
        assert self.read == self.kept + self.rejected + self.review, self
        assert self.read - self.kept == sum(self.stopped.values()), self


def filter_files(request: Request) -> FilterReport:
    """Write kept, rejected, review and rewritten .jsonl and, when all stand, manifest.json into `request.out`.

    Raises ValueError, with nothing written, for a file that cannot be read, a graph or test set that is none, and a
    graph that is not the one the items were made from.
    """
    places = {name: request.out / name for name in (KEPT, REJECTED, REVIEW, REWRITTEN, MANIFEST)}
    check_places([*request.files, *request.against], list(places.values()))
    references = References(request.against)
    rows = list(read_all(request.files))
    judged, proofs = _judge(rows, request, references)
    report = _report(judged, references, proofs)
    kept = [each.item for each in judged if each.filter is None and each.item is not None]
    record = {
        "inputs": inputs(request.files),
        "against": [*inputs(request.against)],
        "against_sets": references.titles,
        "graphs": graphs_of(kept),
        "dump_dates": sorted({each["dump_date"] for each in inputs(request.files) if each["dump_date"]}),
        "langs": list(request.langs),
        "versions": versions(),
        "label_check": {
            "proven by the graph": proofs.judged,
            "unchecked": sum(not is_made(item) for item in kept),
        },
    } | asdict(report)
    places[MANIFEST].unlink(missing_ok=True)  # it stands for a folder that is whole
    write_items(places[KEPT], kept)
    write_lines(places[REJECTED], (_record(each) for each in judged if each.filter is not None and not each.review))
    write_lines(places[REVIEW], (_record(each) for each in judged if each.review))
    write_lines(
        places[REWRITTEN], (change_record(each.item, each.changes) for each in judged if each.item and each.changes)
    )
    write_json(places[MANIFEST], record | {"files": inputs([places[k] for k in (KEPT, REJECTED, REVIEW, REWRITTEN)])})
    return report


def _judge(rows: list[Row], request: Request, references: References) -> tuple[list[Judged], Proofs]:
    graphs = _graphs(rows, request.graph)
    proofs, eponyms = Proofs.of(graphs), Eponyms([*graphs, *_embedded(graphs)])
    surfaces = Surfaces(graphs[0]) if graphs else None
    asked = [base(lang) for lang in request.langs]
    judged: list[Judged] = []
    with sample_bar("filter", len(rows), shown=True) as bar:
        for row in rows:
            each = Judged(row, None, ())
            if row.item is not None:
                each.item, each.changes = rewrite(row.item, eponyms)
            _judge_alone(each, proofs, surfaces)
            judged.append(each)
            bar.update()
    _judge_together(judged, references)
    for each in judged:
        if each.filter is None and each.item is not None and (found := list(language_reasons(each.item, asked))):
            each.stop("language", found)
    return judged, proofs


def _judge_alone(each: Judged, proofs: Proofs, surfaces: Surfaces | None) -> None:
    reasons = list(each.row.reasons)
    if each.item is not None:
        reasons += [r for r in form_reasons(each.item, surfaces) if r.code not in {known.code for known in reasons}]
    if reasons or each.item is None:
        each.stop("format", reasons)
    elif is_made(each.item):
        leaks, faults = proofs.reasons(each.item)
        if leaks or faults:
            each.stop("leak" if leaks else "ambiguity", leaks or faults)
    elif found := list(text_leaks(each.item)):
        each.stop("leak", found, review=True)


def _judge_together(judged: list[Judged], references: References) -> None:
    left = [(each, each.item) for each in judged if each.filter is None and each.item is not None]
    words: list[Words] = []
    with sample_bar("compare", len(left), shown=True) as bar:
        for _, item in left:
            words.append(words_of(item))
            bar.update()
    for repeat in find_repeats(words):
        left[repeat.place][0].stop("duplicates", [repeat.reason], review=repeat.conflict)
    if not references.titles:
        return
    for (each, _), own in zip(left, words, strict=True):
        if each.filter is None:
            before = [words_of(each.row.item)] if each.changes and each.row.item else []
            if found := list(references.reasons([own, *before])):
                each.stop("contamination", found)


def _graphs(rows: list[Row], given: str | None) -> list[Any]:
    stated = graphs_of(row.item for row in rows if row.item is not None and is_made(row.item))
    if given is None:
        if EMBEDDED not in stated:
            return []
        graph = load_graph(EMBEDDED)
        return [graph] if graph.hash == stated[EMBEDDED] else []
    graph = load_graph(given)
    if stated and graph.hash not in stated.values():
        made = ", ".join(f"{name!r} (hash {digest})" for name, digest in stated.items())
        raise ValueError(f"--graph {given} has hash {graph.hash}, the items are of {made}; give the graph they are of")
    return [graph]


def _embedded(graphs: list[Any]) -> list[Any]:
    """The embedded graph's names beside those at hand: whoever gives no graph has eponyms too."""
    return [] if any(graph.name == EMBEDDED for graph in graphs) else [load_graph(EMBEDDED)]


def _record(each: Judged) -> dict[str, Any]:
    place = {"file": Path(each.row.file).name, "line": each.row.line}
    reasons = [asdict(reason) for reason in each.reasons]
    content = {"item": asdict(each.item)} if each.item is not None else {"record": each.row.record}
    return {"filter": each.filter, "reasons": reasons} | place | content


def _report(judged: list[Judged], references: References, proofs: Proofs) -> FilterReport:
    stopped = Counter(each.filter for each in judged)
    codes = {name: Counter[str]() for name in FILTERS}
    for each in judged:
        if each.filter is not None:
            codes[each.filter].update({reason.code for reason in each.reasons})
    rules = Counter(rule for each in judged for change in each.changes for rule in change.rules)
    notes = []
    if proofs.unjudged:
        notes.append(f"{proofs.unjudged} made items have no proof checked: their graph is not at hand (--graph)")
    if not references.titles:
        notes.append("no test set given: contamination was not looked for (--against)")
    return FilterReport(
        read=len(judged),
        kept=stopped[None],
        rejected=sum(each.filter is not None and not each.review for each in judged),
        review=sum(each.review for each in judged),
        rewritten=sum(bool(each.changes) for each in judged),
        stopped={name: stopped[name] for name in FILTERS},
        counts={name: dict(sorted(codes[name].items())) for name in FILTERS},
        rules=dict(sorted(rules.items())),
        against=references.titles,
        notes=notes,
    )


def describe(report: FilterReport, out: Path) -> Iterator[str]:
    """A line a filter with its reasons, notes, and the count that everything adds up to."""
    for name in FILTERS:
        codes = ", ".join(f"{code} {count}" for code, count in report.counts[name].items())
        if name == "anonymisation":
            codes = f"rewritten {report.rewritten}" + "".join(f", {rule} {n}" for rule, n in report.rules.items())
        yield f"{name:<14}{report.stopped[name]:>8}  {codes}".rstrip()
    for title in report.against:
        yield f"against {title}"
    for note in report.notes:
        yield f"note: {note}"
    yield f"{out}: read {report.read} = kept {report.kept} + rejected {report.rejected} + review {report.review}"
