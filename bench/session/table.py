"""The session's end: every claim beside its goal, as text, and the file for bench/results."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.session.record import FAILED, MET, MISSED, NO_GOAL, NOT_RUN, read_lines

DONE = "done"
_HEADS = ["step", "claim", "goal", "measured", "% of floor", "verdict"]


def rows(lines: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """A row for every claim, and one for every step that did not come to its end."""
    found = []
    for line in lines:
        if line["kind"] == "claim":
            measured = "" if line.get("measured") is None else f"{_shown(line['measured'])} {line['unit']}".rstrip()
            share = line.get("floor_share")
            shown = "" if share is None else f"{100 * share:.0f}"
            reason = f": {line['reason']}" if line.get("reason") else ""
            goal = line.get("goal") or ""
            found.append([line["step"], line["claim"], goal, measured, shown, line["verdict"] + reason.split("\n")[0]])
        elif line["kind"] == "end" and line["status"] != DONE:
            verdict = NOT_RUN if line["status"] == NOT_RUN else FAILED
            found.append([line["step"], "(the step)", "", "", "", f"{verdict}: {line['reason']}"])
    return found


def counts(lines: Sequence[Mapping[str, Any]]) -> Counter[str]:
    return Counter(row[-1].split(":")[0] for row in rows(lines))


def text(lines: Sequence[Mapping[str, Any]]) -> str:
    """The table, under the line of the machine and above the number of each verdict."""
    table = [_HEADS, *([cell[:110] for cell in row] for row in rows(lines))]
    widths = [max(len(row[column]) for row in table) for column in range(len(_HEADS))]
    shown = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    found = counts(lines)
    total = ", ".join(f"{found[name]} {name}" for name in (MET, MISSED, NO_GOAL, FAILED, NOT_RUN) if found[name])
    heads = [str({k: v for k, v in x.items() if k not in ("kind", "time")}) for x in lines if x["kind"] == "session"]
    seconds = sum(line.get("seconds", 0.0) for line in lines if line["kind"] == "end")
    return "\n".join([*heads[-1:], *shown, f"{total or 'nothing was run'}; {seconds:.0f} s in steps"]) + "\n"


def finish(out: Path) -> tuple[str, Path]:
    """Write DIR/session.txt and the file of results, gpu_DEVICE_DATE.jsonl; the table, and the latter's path."""
    lines = read_lines(out / "session.jsonl")
    shown = text(lines)
    (out / "session.txt").write_text(shown)
    heads = [line for line in lines if line["kind"] == "session"]
    device = re.sub(r"[^a-z0-9]+", "_", str(heads[-1]["device"] if heads else "unknown").lower()).strip("_")
    date = str(heads[-1]["date"] if heads else "unknown")[:10]
    results = out / f"gpu_{device}_{date}.jsonl"
    kept = (line for line in lines if line["kind"] not in ("start", "part"))
    results.write_text("".join(json.dumps(line) + "\n" for line in kept))
    return shown, results


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
