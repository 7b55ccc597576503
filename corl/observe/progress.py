"""One bar and one readable line per step, on rank 0 alone."""

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


def readable(values: dict[str, Any]) -> str:
    """`{"loss": 0.12345, "step": 7}` as `loss 0.1235  step 7`; None is left out."""
    parts = []
    for key, value in values.items():
        if value is not None:
            parts.append(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}")
    return "  ".join(parts)
