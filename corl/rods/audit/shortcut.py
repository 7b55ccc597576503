"""How far the options alone give the key away: a conditional logit over what can be seen without the question.

n items, O options at most, F features. An option's score is a weighted sum of its features; the key's probability is a
softmax over the item's options. Fitted by Newton's method with a small L2 penalty, tested on answers not fitted on.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
FOLDS = 5
_L2 = 1.0
_NEWTON_STEPS = 25


@dataclass(frozen=True, slots=True)
class Shortcut:
    accuracy: float
    chance: float
    allowance: float  # of accuracy above chance
    weights: dict[str, float]  # of a fit on all items, features by name


def option_only(
    features: Sequence[Sequence[Sequence[float]]],
    keys: Sequence[int],
    answers: Sequence[str],
    names: Sequence[str],
    *,
    points: float = 0.03,
    by_rank: bool = False,
) -> Shortcut:
    """5-fold accuracy of the logit; items of one answer share a fold, which a hash of the answer chooses.

    features  per item and option, `names` of them; standardised within the item here, the position is added
    keys      per item the key's position
    A tie counts as the share of the tied options that is right. In a file so small that `points` are less than 2.33
    standard errors of guessing (1 in 100 of such files would fail by chance), these are the allowance instead.
    `by_rank` looks at each feature's place within the item, one-hot, instead of its size: a key that is never the
    longest nor the shortest is level in size and shows here.
    """
    values, present = _padded(features)
    if by_rank:
        seen, names = _ranks(values, present, names)
    else:
        seen = _standardised(values, present)
    most = present.shape[1]
    z = np.concatenate([seen, np.eye(most) * present[:, :, None]], axis=2)
    key = np.asarray(keys)
    fold = _folds(answers)
    right = np.zeros(len(key))
    for k in range(FOLDS):
        test = fold == k
        if test.any():
            weights = _fit(z[~test], present[~test], key[~test])
            right[test] = _credit(z[test], present[test], key[test], weights)
    chances = 1 / present.sum(1)
    error = float(np.sqrt((chances * (1 - chances)).sum()) / len(key))
    letters = [f"position {chr(65 + i)}" for i in range(most)]
    overall = dict(zip([*names, *letters], _fit(z, present, key).tolist(), strict=True))
    return Shortcut(float(right.mean()), float(chances.mean()), max(points, 2.33 * error), overall)


def _padded(features: Sequence[Sequence[Sequence[float]]]) -> tuple[Floats, Bools]:
    """[n, O, F] with zeros where an item has fewer options, and [n, O] which are options."""
    most = max(len(item) for item in features)
    nothing = [[0.0] * len(features[0][0])]
    values = np.array([[*item, *nothing * (most - len(item))] for item in features], np.float64)
    return values, np.arange(most) < np.array([len(item) for item in features])[:, None]


def _standardised(values: Floats, present: Bools) -> Floats:
    """Mean 0 and deviation 1 over an item's options; 0 where they are all alike."""
    here, count = present[:, :, None], present.sum(1)[:, None, None]
    centred = np.where(here, values - (values * here).sum(1, keepdims=True) / count, 0.0)
    spread = np.sqrt((centred**2).sum(1, keepdims=True) / count)
    return np.where(spread > 1e-12, centred / np.maximum(spread, 1e-12), 0.0)


def _ranks(values: Floats, present: Bools, names: Sequence[str]) -> tuple[Floats, list[str]]:
    """[n, O, F * (O + 1)] which place an option has in its item, and whether it shares it; the names of these."""
    most = values.shape[1]
    pairs = (present[:, :, None] & present[:, None, :])[..., None]
    below = (pairs & (values[:, None] < values[:, :, None])).sum(2)
    ties = (pairs & (values[:, None] == values[:, :, None])).sum(2) - 1
    place = below + ties // 2
    columns = [place == k for k in range(most)] + [ties > 0]
    seen = np.stack(columns, axis=3) & present[:, :, None, None]
    labels = [*(f"rank {k}" for k in range(1, most + 1)), "tied"]
    return seen.reshape(*present.shape, -1).astype(np.float64), [
        f"{name} {label}" for name in names for label in labels
    ]


def _folds(answers: Sequence[str]) -> NDArray[np.int64]:
    """A fold for each item: its answer's place in the order of hashes, so folds hold about as many answers each."""
    order = sorted(set(answers), key=lambda answer: hashlib.sha256(f"audit fold\t{answer}".encode()).digest())
    place = {answer: index % FOLDS for index, answer in enumerate(order)}
    return np.array([place[answer] for answer in answers])


def _fit(z: Floats, present: Bools, key: NDArray[np.int64]) -> Floats:
    weights = np.zeros(z.shape[2])
    if not len(z):
        return weights
    rows = np.arange(len(z))
    for _ in range(_NEWTON_STEPS):
        p = _probabilities(z, present, weights)
        mean = np.einsum("no,nof->nf", p, z)
        gradient = (z[rows, key] - mean).sum(0) - _L2 * weights
        flat = z.reshape(-1, z.shape[2])
        hessian = (flat * p.reshape(-1, 1)).T @ flat - mean.T @ mean + _L2 * np.eye(len(weights))
        step = np.linalg.solve(hessian, gradient)
        weights = weights + step / max(1.0, float(np.abs(step).max()))  # far from the optimum Newton overshoots
        if np.abs(step).max() < 1e-8:
            break
    return weights


def _probabilities(z: Floats, present: Bools, weights: Floats) -> Floats:
    score = np.where(present, z @ weights, -np.inf)
    p = np.exp(score - score.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def _credit(z: Floats, present: Bools, key: NDArray[np.int64], weights: Floats) -> Floats:
    p = _probabilities(z, present, weights)
    best = p >= p.max(1, keepdims=True) - 1e-9
    return best[np.arange(len(key)), key] / best.sum(1)
