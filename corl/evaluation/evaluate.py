"""Accuracy of the present policy on a fixed list of items, with the counts that explain it."""

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

from corl.evaluation.attempts import Attempt, Prompt, Sampling, Solver


@dataclass(frozen=True, slots=True)
class Evaluation:
    """accuracy: sampled pass@1 at temperature 1, mean over items of the mean over samples; stderr: over items.

    by_letter and by_difficulty are greedy accuracies by gold letter and by tier; null, truncated and format are shares
    of the sampled completions; letters counts what they answered.
    """

    accuracy: float
    stderr: float
    greedy: float
    n: int
    samples: int
    by_letter: dict[str, float]
    sampled_by_letter: dict[str, float]
    by_difficulty: dict[str, float]
    sampled_by_difficulty: dict[str, float]
    letters: dict[str, int]
    null_rate: float
    truncated_rate: float
    format_rate: float
    mean_tokens: float

    def row(self, name: str) -> dict[str, Any]:
        return {"name": name} | {field: getattr(self, field) for field in self.__dataclass_fields__}


def evaluate(solver: Solver, prompts: list[Prompt], *, samples: int, max_tokens: int, step: int) -> Evaluation:
    """Every item `samples` times at temperature 1 and once greedily; a collective."""
    sampled = solver.attempt(prompts, Sampling("eval", samples, max_tokens), step=step)
    greedy = solver.attempt(prompts, Sampling("greedy", 1, max_tokens, temperature=0.0), step=step)
    return summarise(prompts, sampled, greedy)


def summarise(prompts: list[Prompt], sampled: list[list[Attempt]], greedy: list[list[Attempt]]) -> Evaluation:
    rates = [_mean([a.grade.correct for a in attempts]) for attempts in sampled]
    greedy_rates = [float(attempts[0].grade.correct) for attempts in greedy]
    letters = [prompt.item.answer for prompt in prompts]
    tiers = [prompt.item.difficulty or "untiered" for prompt in prompts]
    everything = [attempt for attempts in sampled for attempt in attempts]
    mean = _mean(rates)
    spread = sum((rate - mean) ** 2 for rate in rates) / max(1, len(rates) - 1)
    return Evaluation(
        accuracy=mean,
        stderr=math.sqrt(spread / len(rates)),
        greedy=_mean(greedy_rates),
        n=len(prompts),
        samples=len(sampled[0]),
        by_letter=_by(letters, greedy_rates),
        sampled_by_letter=_by(letters, rates),
        by_difficulty=_by(tiers, greedy_rates),
        sampled_by_difficulty=_by(tiers, rates),
        letters=dict(sorted(Counter(a.grade.extracted or "null" for a in everything).items())),
        null_rate=_mean([a.grade.extracted is None for a in everything]),
        truncated_rate=_mean([a.finish_reason == "length" for a in everything]),
        format_rate=_mean([a.grade.format_ok for a in everything]),
        mean_tokens=_mean([len(a.ids) for a in everything]),
    )


def _mean(values: list) -> float:
    return sum(values) / len(values)


def _by(keys: list[str], values: list[float]) -> dict[str, float]:
    groups: dict[str, list[float]] = {}
    for key, value in zip(keys, values, strict=True):
        groups.setdefault(key, []).append(value)
    return {key: _mean(groups[key]) for key in sorted(groups)}
