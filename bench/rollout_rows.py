"""Measurements of whole rollouts: taken in turns, printed as a table, kept as lines of JSON and as a picture."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

from bench.contest import PEER_ERRORS
from bench.rollout_rivals import Generated
from bench.roofline import plotter
from bench.timing import Timing

Run = Callable[[], Generated | None]


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement: milliseconds of the wall clock, `cpu_s` of all threads, output tokens where it made some.

    facts    what else is known: first_token_s; kv_peak, idle and floor_share as shares of 1; preemptions; bytes
    skipped  why a rival has no numbers
    """

    model: str
    name: str
    timing: Timing | None
    cpu_s: float
    tokens: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, float] = field(default_factory=dict)
    skipped: str | None = None

    @property
    def rate(self) -> float:
        """Output tokens a second, of the median run; 0 of one that was skipped."""
        return self.tokens / self.timing.p50 * 1e3 if self.timing else 0.0

    @property
    def cpu_rate(self) -> float:
        """Output tokens a second of CPU time, which other work on the machine stretches less."""
        return self.tokens / self.cpu_s

    def known(self, **facts: float) -> "Row":
        """The row with more facts."""
        return replace(self, facts={**self.facts, **facts})


def measure(
    model: str,
    runs: Mapping[str, tuple[Run, Mapping[str, Any]]],
    *,
    repeats: int,
    tokens: int | Mapping[str, int] = 0,
    warm_up: bool = True,
    peers: Collection[str] = (),
) -> list[Row]:
    """A row for every (run, settings), taken in turns, every other turn in reverse; the warm-up is a turn of its own.

    tokens  what every run must make, or what each must
    peers   runs of somebody else's: one that raises what a rival may raise costs its own row
    """
    wanted = tokens if isinstance(tokens, Mapping) else dict.fromkeys(runs, tokens)
    samples: dict[str, list[tuple[float, float, float]]] = {name: [] for name in runs}
    skipped: dict[str, str] = {}
    for turn in range(-1 if warm_up else 0, repeats):
        for name in list(runs) if turn % 2 == 0 else reversed(runs):
            if name in skipped:
                continue
            wall, cpu = perf_counter(), process_time()
            try:
                done = runs[name][0]() or Generated(0, 0.0)
            except PEER_ERRORS as error:
                if name not in peers:
                    raise
                skipped[name] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
                continue
            sample = (perf_counter() - wall, process_time() - cpu, done.first_token_s)
            assert done.tokens == wanted[name], f"{name} made {done.tokens} tokens, {wanted[name]} were asked for"
            if turn >= 0:
                samples[name].append(sample)
    rows = []
    for name, (_, settings) in runs.items():
        if name in skipped:
            rows.append(Row(model, name, None, 0.0, settings=settings, skipped=skipped[name]))
            continue
        walls, cpus, firsts = zip(*samples[name], strict=True)
        timing = Timing.of([wall * 1e3 for wall in walls])
        facts = {"first_token_s": median(firsts)} if wanted[name] else {}
        rows.append(Row(model, name, timing, median(cpus), wanted[name], settings, facts))
    return rows


def table(rows: Sequence[Row]) -> str:
    """A line for each row, shares in percent; first, what was skipped and why."""
    heads = [
        "contender",
        "tok/s",
        "p20-p80",
        "tok/CPU s",
        "ms",
        "first token s",
        "KV peak %",
        "idle %",
        "floor %",
        "MB",
    ]
    lines, skipped = [heads], [f"skipped: {row.name}: {row.skipped}" for row in rows if row.skipped is not None]
    for row in rows:
        if row.timing is None:
            continue
        low, high = (f"{row.tokens / ms * 1e3:.0f}" for ms in (row.timing.p80, row.timing.p20))
        rates = [f"{row.rate:.0f}", f"{low}-{high}", f"{row.cpu_rate:.0f}"] if row.tokens else ["", "", ""]
        shares = [_shown(row, name, 100, ".1f") for name in ("kv_peak", "idle", "floor_share")]
        first, size = _shown(row, "first_token_s", 1, ".3f"), _shown(row, "bytes", 1e-6, ".1f")
        lines.append([row.name, *rates, f"{row.timing.p50:.4g}", first, *shares, size])
    widths = [max(len(line[k]) for line in lines) for k in range(len(heads))]
    kept = [k for k, head in enumerate(heads) if any(line[k] for line in lines[1:]) and head]
    return "\n".join([*skipped, *("  ".join(line[k].ljust(widths[k]) for k in kept).rstrip() for line in lines)])


def _shown(row: Row, fact: str, scale: float, form: str) -> str:
    return format(scale * row.facts[fact], form) if fact in row.facts else ""


def append(rows: Sequence[Row], surroundings: Mapping[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        for row in rows:
            line = {**surroundings, "suite": "rollout", **asdict(row)}
            line |= {"tokens_per_s": row.rate, "tokens_per_cpu_s": row.cpu_rate} if row.tokens else {}
            file.write(json.dumps(line) + "\n")


def draw(rows: Sequence[Row], title: str, path: Path) -> None:
    """Write the picture: output tokens a second of every row that made some, with its 20th and 80th percentile."""
    making = [row for row in rows if row.tokens]
    pyplot = plotter()
    figure, axes = pyplot.subplots(figsize=(9, 1.2 + 0.35 * len(making)), layout="constrained")
    rates = [row.rate for row in making]
    spread = [
        [abs(row.rate - row.tokens / ms * 1e3) for row, ms in ((row, getattr(row.timing, end)) for row in making)]
        for end in ("p80", "p20")
    ]
    bars = axes.barh([f"{row.model}: {row.name}" for row in making], rates, xerr=spread)
    axes.bar_label(bars, fmt="%.0f", padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="output tokens a second", title=title)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
