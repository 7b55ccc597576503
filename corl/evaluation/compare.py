"""Two evaluations of the same items: is one better, item by item?"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from corl.data.benchmarks import NINE
from corl.evaluation.answers import Answer, read_answers
from corl.evaluation.estimates import RESAMPLES, Difference, difference, mcnemar, resampled_means
from corl.evaluation.settings import differences, read_settings
from corl.evaluation.table import Table

SHOWN = 5  # ids of unpaired items in a line


@dataclass(frozen=True, slots=True)
class PairedSet:
    """The items of a set that both runs answered, n of them; accuracies are of these alone.

    only_first, only_second, p    of McNemar's test; None unless both runs have one sample an item
    """

    key: str
    n: int
    first: float
    second: float
    difference: Difference
    only_first: int | None
    only_second: int | None
    p: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """`overall` is the difference of the unweighted means over the sets; None for one set.

    unpaired  ids by what is wrong with them
    settings  lines on what differs in how the runs were made
    """

    first: str
    second: str
    sets: list[PairedSet]
    overall: Difference | None
    pooled: tuple[int, int, float] | None  # McNemar over all items: right in one run alone, p
    unpaired: dict[str, list[str]]
    settings: list[str]


def compare_runs(first: Path, second: Path, *, seed: int = 0, resamples: int = RESAMPLES) -> Comparison:
    """Pair two evaluations by item id; draws of the bootstrap are keyed by seed and set.

    Raises ValueError when either folder holds no answers or no item is in both.
    """
    one, other = ({answer.id: answer for answer in _answers(folder)} for folder in (first, second))
    told = differences(read_settings(first), read_settings(second))
    both = [name for name in one if name in other]
    changed = [name for name in both if one[name].question != other[name].question]
    pairs = [(one[name], other[name]) for name in both if one[name].question == other[name].question]
    unpaired = {
        f"only in {first}": [name for name in one if name not in other],
        f"only in {second}": [name for name in other if name not in one],
        "another question or other options under the same id": changed,
    }
    unpaired = {why: names for why, names in unpaired.items() if names}
    if not pairs:
        counts = "; ".join(f"{why}: {len(names)}" for why, names in unpaired.items())
        raise ValueError(f"{first} and {second} have no item in common ({counts}); compare runs over the same items")
    by_set: dict[str, list[tuple[Answer, Answer]]] = {}
    for pair in pairs:
        by_set.setdefault(pair[0].set, []).append(pair)
    order = [b.key for b in NINE if b.key in by_set] + [key for key in by_set if key not in {b.key for b in NINE}]
    means = {
        key: resampled_means([_rate(b) - _rate(a) for a, b in by_set[key]], key=f"{seed}/{key}", resamples=resamples)
        for key in order
    }
    sets = [_paired_set(key, by_set[key], difference(_gain(by_set[key]), means[key])) for key in order]
    overall = None
    if len(sets) > 1:
        value = sum(_gain(by_set[key]) for key in order) / len(order)
        overall = difference(value, np.mean([means[key] for key in order], axis=0))
    settings = [f"{key}: {then} / {now}" for key, then, now in told]
    return Comparison(str(first), str(second), sets, overall, _mcnemar(pairs), unpaired, settings)


def describe_comparison(comparison: Comparison) -> str:
    """Markdown: a row per set, the overall one, what was not paired, which settings differ."""
    heads = ["set", "n", "first", "second", "difference", "95 %", "p bootstrap", "only first / second", "p McNemar"]
    rows = []
    for s in comparison.sets:
        alone = "-" if s.p is None else f"{s.only_first} / {s.only_second}"
        rows.append([s.key, f"{s.n:,}", *(f"{100 * value:.2f}" for value in (s.first, s.second))])
        rows[-1] += [*_difference_cells(s.difference), alone, _p(s.p)]
    n = sum(s.n for s in comparison.sets)
    if comparison.overall is not None:
        firsts, seconds = zip(*((s.first, s.second) for s in comparison.sets), strict=True)
        averages = [f"{100 * sum(values) / len(values):.2f}" for values in (firsts, seconds)]
        only_first, only_second, p = comparison.pooled or ("-", "-", None)
        alone = "-" if p is None else f"{only_first} / {only_second}"
        name = f"mean of the {len(comparison.sets)}; McNemar over all items"
        rows.append([name, f"{n:,}", *averages, *_difference_cells(comparison.overall), alone, _p(p)])
    title = (
        f"first {comparison.first}, second {comparison.second}; accuracy in %, second - first over {n:,} paired items"
    )
    lines = [Table(title, heads, rows, []).markdown(), ""]
    for why, names in comparison.unpaired.items():
        more = ", .." if len(names) > SHOWN else ""
        lines.append(f"- not paired, {why}: {len(names):,} ({', '.join(names[:SHOWN])}{more})")
    lines += [f"- settings differ: {line}" for line in comparison.settings]
    return "\n".join(lines).rstrip() + "\n"


def _answers(folder: Path) -> list[Answer]:
    read_settings(folder)
    answers = read_answers(folder)
    if not answers:
        raise ValueError(f"{folder}: no item is answered yet; let `corl eval` run")
    return answers


def _paired_set(key: str, pairs: Sequence[tuple[Answer, Answer]], gain: Difference) -> PairedSet:
    first, second = (sum(map(_rate, answers)) / len(pairs) for answers in zip(*pairs, strict=True))
    only_first, only_second, p = _mcnemar(pairs) or (None, None, None)
    return PairedSet(key, len(pairs), first, second, gain, only_first, only_second, p)


def _mcnemar(pairs: Sequence[tuple[Answer, Answer]]) -> tuple[int, int, float] | None:
    if any(len(answer.correct) != 1 for pair in pairs for answer in pair):
        return None
    only_first = sum(a.correct[0] and not b.correct[0] for a, b in pairs)
    only_second = sum(b.correct[0] and not a.correct[0] for a, b in pairs)
    return only_first, only_second, mcnemar(only_first, only_second)


def _rate(answer: Answer) -> float:
    return sum(answer.correct) / len(answer.correct)


def _gain(pairs: Sequence[tuple[Answer, Answer]]) -> float:
    return sum(_rate(b) - _rate(a) for a, b in pairs) / len(pairs)


def _difference_cells(d: Difference) -> list[str]:
    return [
        f"{100 * d.value:+.2f} +- {100 * d.stderr:.2f}",
        f"{100 * d.low:+.2f} .. {100 * d.high:+.2f}",
        _p(d.p),
    ]


def _p(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}" if value >= 0.0001 else "< 0.0001"
