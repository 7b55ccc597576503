"""The tables of an evaluation: a row per set, and the nine columns beside the paper's; Markdown, JSON, a picture."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from corl.data.benchmarks import NINE
from corl.data.items import write_whole
from corl.evaluation.estimates import Estimate
from corl.evaluation.paper import PAPER
from corl.evaluation.summary import SetSummary, macro_mean
from corl.evaluation.table import Table, draw_tables

MISPRINT = "HuatuoGPT-o1-7B's PubMedQA is as the paper prints it: 64.60 would be 323 of 500 and fit its Avg"


def write_tables(folder: Path, name: str, summaries: Sequence[SetSummary], notes: Sequence[str]) -> str:
    """table.md, table.json and table.png, each whole or not at all; returns the Markdown."""
    tables = [sets_table(summaries)]
    if any(summary.key == benchmark.key for summary in summaries for benchmark in NINE):
        tables.append(nine_table(name, summaries))
        notes = [*notes, MISPRINT]
    notes = [*(f"{summary.title} is {summary.status}" for summary in summaries if not summary.complete), *notes]
    listed = "".join(f"- {note}\n" for note in notes)
    text = "\n\n".join([*(table.markdown() for table in tables), listed])
    write_whole(folder / "table.json", [json.dumps(as_json(name, summaries, notes), indent=1).encode() + b"\n"])
    write_whole(folder / "table.png", [draw_tables(tables, notes)])
    write_whole(folder / "table.md", [text.encode("utf-8", "replace")])
    return text


def sets_table(summaries: Sequence[SetSummary]) -> Table:
    """A row per set; shares in %, +- is one standard error."""
    at = sorted({k for summary in summaries for k in summary.pass_at})
    heads = ["set", "n", "accuracy", *(f"pass@{k}" for k in at), "wrong", "null", "truncated", "format", "tokens"]
    rows = []
    for s in summaries:
        passes = [_percent(s.pass_at[k]) if k in s.pass_at else "-" for k in at]
        shares = [_share(share) for share in (s.wrong, s.null, s.truncated, s.format_ok)]
        tokens = "-" if s.mean_tokens is None else f"{s.mean_tokens:.1f}"
        rows.append(
            [s.title, s.status if s.status.startswith("partial") else f"{s.n:,}", _percent(s.accuracy), *passes]
            + [*shares, tokens, _letters(s.answers), _letters(s.golds)]
        )
    title = f"Accuracy in %, +- one standard error; {_samples(summaries)}"
    return Table(title, [*heads, "answered", "gold"], rows, list(range(len(rows))))


def nine_table(name: str, summaries: Sequence[SetSummary]) -> Table:
    """This evaluation above the paper's rows; a star marks a set that is not complete."""
    by_key = {summary.key: summary for summary in summaries}
    cells = []
    for benchmark in NINE:
        found = by_key.get(benchmark.key)
        cells.append("-" if found is None else _percent(found.accuracy) + ("" if found.complete else " *"))
    macro = macro_mean(summaries)
    own = [name, *cells, "-" if macro is None else _percent(macro)]
    paper = [[row.model, *(f"{accuracy:.2f}" for accuracy in row.accuracies), f"{row.average:.2f}"] for row in PAPER]
    title = "Beside the paper's rows; * is not the complete set, Avg the unweighted mean of nine complete ones"
    return Table(title, ["model", *(benchmark.title for benchmark in NINE), "Avg"], [own, *paper], [0])


def as_json(name: str, summaries: Sequence[SetSummary], notes: Sequence[str]) -> dict[str, Any]:
    """Everything unrounded; accuracies as shares, the paper's as it prints them, in %."""
    keys = [benchmark.key for benchmark in NINE]
    macro = macro_mean(summaries)
    return {
        "name": name,
        "sets": [asdict(summary) for summary in summaries],
        "macro": None if macro is None else asdict(macro),
        "notes": list(notes),
        "paper": [
            {"model": row.model, "percent": dict(zip(keys, row.accuracies, strict=True)), "average": row.average}
            for row in PAPER
        ],
    }


def _samples(summaries: Sequence[SetSummary]) -> str:
    counts = sorted({summary.samples for summary in summaries})
    return f"{' or '.join(map(str, counts))} sample{'s' if counts != [1] else ''} an item"


def _percent(value: Estimate) -> str:
    return f"{100 * value.value:.2f}" + ("" if value.stderr is None else f" +- {100 * value.stderr:.2f}")


def _share(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _letters(counts: dict[str, int]) -> str:
    """Answers of several letters together: there may be hundreds of kinds."""
    single = {letter: count for letter, count in counts.items() if "," not in letter and letter != "null"}
    others = {"several": sum(count for letter, count in counts.items() if "," in letter), "null": counts.get("null", 0)}
    return " ".join(f"{letter} {count}" for letter, count in (single | others).items() if count)
