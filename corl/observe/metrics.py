"""metrics.jsonl and TensorBoard: one line a step, each step once, also after a resume."""

import json
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class MetricsLog:
    """Appends to RUN/metrics.jsonl and the event files. Lines beyond `resume_step` are dropped when it opens."""

    def __init__(self, run_dir: Path, resume_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # 1 s of imports that a command line does not need

        self.path = run_dir / "metrics.jsonl"
        kept = [line for line in read_lines(self.path) if line["step"] <= resume_step]
        replace_text(self.path, "".join(json.dumps(line) + "\n" for line in kept))
        for rollouts in (run_dir / "rollouts").glob("step_*.jsonl"):
            if int(rollouts.stem.removeprefix("step_")) > resume_step:
                rollouts.unlink()
        self._file = self.path.open("a")
        self._board = SummaryWriter(run_dir / "tensorboard", purge_step=resume_step + 1)

    def write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(_without_nan(line), allow_nan=False) + "\n")
        self._file.flush()
        for name, value in _scalars(line, line["stage"]):
            self._board.add_scalar(name, value, line["step"])

    def close(self) -> None:
        self._file.close()
        self._board.close()


class PhaseTimer:
    """Seconds per phase of a step: `with timer("rollout"): ...`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - start


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The complete JSON lines of a file; a last line that a kill cut short is left out. [] without a file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]]


def replace_text(path: Path, text: str) -> None:
    """Write a whole file or nothing of it."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_text(text)
    os.replace(unfinished, path)


def _without_nan(value: Any) -> Any:
    """JSON knows no nan and no infinity: they become null."""
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _scalars(value: dict[str, Any], prefix: str) -> Iterator[tuple[str, float]]:
    for key, inner in value.items():
        if isinstance(inner, dict):
            yield from _scalars(inner, f"{prefix}/{key}")
        elif isinstance(inner, (int, float)) and not isinstance(inner, bool):
            yield f"{prefix}/{key}", inner
