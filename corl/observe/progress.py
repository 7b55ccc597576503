"""One bar and one readable line per step, on rank 0 alone."""

import sys
from typing import Any

from tqdm import tqdm


class Progress:
    """A bar over `total` steps where standard error is a terminal, and lines everywhere; silent on other ranks."""

    def __init__(self, name: str, total: int | None, done: int, *, shown: bool) -> None:
        self.name, self.shown = name, shown
        self._bar = tqdm(total=total, initial=done, desc=name, unit="step", disable=None if shown else True)

    def step(self, line: str) -> None:
        self.note(line)
        self._bar.update()

    def note(self, line: str) -> None:
        if self.shown:
            tqdm.write(f"{self.name:<10} {line}")

    def close(self) -> None:
        self._bar.close()


def sample_bar(purpose: str, total: int, *, shown: bool) -> tqdm:
    """A bar over the samples of a rollout, once it has taken 2 s; where no terminal is, a line a minute."""
    terminal = sys.stderr.isatty()
    return tqdm(
        total=total,
        desc=purpose,
        unit="sample",
        leave=False,
        delay=2.0 if terminal else 60.0,
        mininterval=0.5 if terminal else 60.0,
        disable=not shown,
    )


def readable(values: dict[str, Any]) -> str:
    """`{"loss": 0.12345, "step": 7}` as `loss 0.1235  step 7`; None is left out."""
    parts = []
    for key, value in values.items():
        if value is not None:
            parts.append(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}")
    return "  ".join(parts)
