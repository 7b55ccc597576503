"""Lines of DIR/session.jsonl: what a step found out, beside the goal it is held against, written at once.

Every line has `kind` and `time`:
session  the machine, its versions and the commit          start, end  of a step; the end has a status and a reason
part     a part of a step begins                           row         a measurement of one of the benches
claim    a number beside its goal: measured, unit, goal, floor_share, verdict, detail
"""

import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MET, MISSED, NO_GOAL, FAILED, NOT_RUN = "met", "MISSED", "no goal", "failed", "not run"


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound that a number must not pass."""

    bound: float
    at_most: bool

    def met(self, value: float) -> bool:
        return value <= self.bound if self.at_most else value >= self.bound

    def __str__(self) -> str:
        return f"{'<=' if self.at_most else '>='} {self.bound:g}"


def at_most(bound: float) -> Goal:
    return Goal(bound, True)


def at_least(bound: float) -> Goal:
    return Goal(bound, False)


def write_line(path: Path, line: Mapping[str, Any]) -> None:
    """Append one JSON line by a single write, so that a kill between two lines loses neither."""
    text = json.dumps({"time": round(time.time(), 3), **_finite(dict(line))}, allow_nan=False) + "\n"
    with path.open("ab", buffering=0) as file:
        file.write(text.encode())


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of the file; a last one that was cut off is left out. [] without a file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_bytes().decode().split("\n")[:-1]]


@dataclass(frozen=True, slots=True)
class Recorder:
    """Writes the lines of one step.

    toy  a walk on a CPU: goals of speed and memory mean nothing there and are left out
    """

    path: Path
    step: str
    toy: bool = False

    def write(self, kind: str, **line: Any) -> None:
        write_line(self.path, {"kind": kind, "step": self.step, **line})
        shown = " ".join(f"{key}={value}" for key, value in line.items() if key != "tail")
        print(f"[{kind}] {shown}"[:2000], flush=True)

    def claim(
        self,
        claim: str,
        measured: float,
        *,
        unit: str = "",
        goal: Goal | None = None,
        must: Goal | None = None,
        floor_share: float | None = None,
        **detail: Any,
    ) -> None:
        """A number: `goal` is asked of a GPU alone, `must` everywhere. One that is not finite has failed.

        floor_share  of the time no version of the work runs much faster than, in the time measured
        """
        wanted = must or (None if self.toy else goal)
        verdict = NO_GOAL if wanted is None else MET if wanted.met(measured) else MISSED
        if not math.isfinite(measured):
            verdict = FAILED
        line: dict[str, Any] = {"claim": claim, "measured": measured, "unit": unit, "verdict": verdict}
        line |= {"goal": None if wanted is None else str(wanted), "floor_share": floor_share}
        self.write("claim", **line, **({"detail": detail} if detail else {}))

    def failed(self, claim: str, reason: str) -> None:
        self.write("claim", claim=claim, verdict=FAILED, reason=reason)

    def not_run(self, claim: str, reason: str) -> None:
        self.write("claim", claim=claim, verdict=NOT_RUN, reason=reason)


def _finite(value: Any) -> Any:
    """JSON has no nan and no infinity: they become text."""
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return os.fspath(value) if isinstance(value, os.PathLike) else value
