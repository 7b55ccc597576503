"""Of several samples of one question, the one to keep; and how often one of k would have been right."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from typing import Any


@dataclass(frozen=True, slots=True)
class Sample:
    """A completion with its checks."""

    text: str
    checks: dict[str, Any]

    @property
    def right(self) -> bool:
        return bool(self.checks["answer"])

    @property
    def sound(self) -> bool:
        """Right, in the format, and nothing found."""
        return bool(self.checks["passed"])


def pass_at(k: int, samples: int, right: int) -> float:
    """The unbiased estimate that one of k draws is right, from `right` of `samples` (Chen et al. 2021).

    Raises ValueError unless 1 <= k <= samples and 0 <= right <= samples.
    """
    if not 1 <= k <= samples or not 0 <= right <= samples:
        raise ValueError(f"pass@{k} of {right} right among {samples}: k lies in 1..samples, right in 0..samples")
    return 1.0 - comb(samples - right, k) / comb(samples, k)


def select(samples: Sequence[Sample]) -> tuple[Sample, str] | None:
    """The sample to keep, and why; None where none is sound.

    Where all are right the question is easy, and the shortest reasoning is the best lesson. Otherwise the score
    decides: most masked nodes named, an assumption or doubt said, calculations shown, then brevity. Ties: the earlier.
    """
    sound = [sample for sample in samples if sample.sound]
    if not sound:
        return None
    if all(sample.right for sample in samples):
        return min(sound, key=lambda sample: sample.checks["words"]), "shortest"
    return max(sound, key=_score), "best"


def _score(sample: Sample) -> tuple[float, ...]:
    checks = sample.checks
    named, missing = (len(checks.get("bridges", {}).get(key, ())) for key in ("named", "missing"))
    recall = named / (named + missing) if named + missing else 1.0
    shown = checks["arithmetic"]["checked"] + checks["units"]["checked"] > 0
    return recall, float(checks["marker"]), float(shown), -float(checks["words"])


def closest(samples: Sequence[Sample]) -> list[Sample]:
    """Where to begin a refinement: fewest faults first, earlier samples first among equals."""
    return sorted(samples, key=lambda sample: (len(sample.checks["failed"]), not sample.right))
