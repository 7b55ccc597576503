"""Accuracies and differences with their errors: over items, since those are what was sampled from a field."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

RESAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over items; its standard error is None for a single item, which has no spread."""

    value: float
    stderr: float | None


@dataclass(frozen=True, slots=True)
class Difference:
    """second - first, with the bootstrap's standard error, its central 95 %, and twice its smaller tail beyond 0."""

    value: float
    stderr: float
    low: float
    high: float
    p: float


def estimate(values: Sequence[float]) -> Estimate:
    """Mean of one value an item, and sqrt(sum (value - mean)^2 / (n - 1) / n)."""
    n, mean = len(values), math.fsum(values) / len(values)
    if n == 1:
        return Estimate(mean, None)
    return Estimate(mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1) / n))


def mean_of(estimates: Sequence[Estimate]) -> Estimate:
    """Unweighted mean of independent estimates."""
    errors = [e.stderr for e in estimates if e.stderr is not None]
    known = len(errors) == len(estimates)
    stderr = math.sqrt(math.fsum(error**2 for error in errors)) / len(estimates) if known else None
    return Estimate(math.fsum(e.value for e in estimates) / len(estimates), stderr)


def pass_at(k: int, *, correct: int, samples: int) -> float:
    """Chance that k of an item's samples, drawn without replacement, hold a correct one: the unbiased estimator of
    pass@k (Chen et al. 2021, arXiv:2107.03374)."""
    assert 1 <= k <= samples, (k, samples)
    return 1.0 - math.comb(samples - correct, k) / math.comb(samples, k)


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided p of McNemar's test, exact at every count: who alone is right on an item is a fair coin's choice."""
    n = only_first + only_second
    term = tail = 1
    for i in range(min(only_first, only_second)):
        term = term * (n - i) // (i + 1)
        tail += term
    return min(1.0, 2 * tail / 2**n)


def resampled_means(differences: Sequence[float], *, key: str, resamples: int = RESAMPLES) -> np.ndarray:
    """Means [resamples] of as many items drawn with replacement, one difference an item; `key` names the draws.

    How often each of the few distinct differences is drawn is multinomial, so no [resamples, items] table is made.
    """
    values, counts = np.unique(np.asarray(differences, dtype=np.float64), return_counts=True)
    n = int(counts.sum())
    words = np.frombuffer(blake2b(key.encode(), digest_size=16).digest(), dtype="<u8")
    drawn = np.random.Generator(np.random.Philox(key=words)).multinomial(n, counts / n, size=resamples)
    return drawn @ values / n


def difference(value: float, means: np.ndarray) -> Difference:
    """What resampled means say about a difference."""
    low, high = np.quantile(means, (0.025, 0.975))
    tail = (1 + min(int((means <= 0).sum()), int((means >= 0).sum()))) / (1 + len(means))
    return Difference(value, float(means.std(ddof=1)), float(low), float(high), min(1.0, 2 * tail))
