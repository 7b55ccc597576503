"""How hard a question is: by formula when it is made, by pass rates once a policy has attempted it."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from corl.config.rods import Difficulty
from corl.data.items import DIFFICULTIES, Item
from corl.rods.graph import Graph, Ints, reverse
from corl.rods.sampling.draws import MAX_PATH, Draws

Floats = NDArray[np.float64]
EASY_RATE, MODERATE_RATE = 0.8, 0.2  # pass rates from which an item is easy, is moderate


def scores(
    graph: Graph, settings: Difficulty, draws: Draws, rare: NDArray[np.bool_], rarity: Floats
) -> tuple[Floats, dict[str, Floats], Ints]:
    """(score [n] in [0, 1], its parts before weighting [n] each, tier [n] as an index of DIFFICULTIES).

    hops       edges from the farthest clue to the answer, 1 as 0 and MAX_PATH + 1 as 1
    masked     nodes on that way that the stem does not name, none as 0 and MAX_PATH as 1
    rarity     of the answer: `rarity` [N], raised to at least 1/2 where `rare` [N] says so
    closeness  the largest share of the clues that a wrong option satisfies; 0 where there is one clue only, which says
               nothing about closeness, so that no such question is difficult on that account
    obscurity  1 - the most telling clue's idf: 0 where one clue belongs to a single entity, 1 where all to everybody
    """
    clues = draws.clue_nodes >= 0  # [n, K]
    count = clues.sum(axis=1)
    steps = (draws.clue_steps >= 0).sum(axis=2)  # [n, K]
    farthest = np.where(clues, steps, 0).max(axis=1)
    asks = (draws.asked_step >= 0).astype(np.int64)
    named = (clues & (steps == 0)).any(axis=1)
    hidden = np.maximum(farthest - 1, 0) + asks * ~named
    satisfied = np.where(draws.distractors >= 0, draws.satisfied, 0)
    shared = sum((satisfied >> k & 1) * clues[:, k, None] for k in range(clues.shape[1]))  # [n, O - 1]
    parts = {
        "hops": np.clip((farthest + asks - 1) / MAX_PATH, 0, 1),
        "masked": np.clip(hidden / MAX_PATH, 0, 1),
        "rarity": np.maximum(rarity[draws.answer], 0.5 * rare[draws.answer]),
        "closeness": np.where(count > 1, np.asarray(shared).max(axis=1) / np.maximum(count, 1), 0.0),
        "obscurity": 1 - _idf(graph, draws, clues, steps).max(axis=1),
    }
    score = np.zeros(len(draws))
    for name, values in parts.items():
        score += getattr(settings, name) * values
    tier = (score >= settings.moderate_from).astype(np.int64) + (score >= settings.difficult_from)
    return score, parts, tier


def _idf(graph: Graph, draws: Draws, clues: NDArray[np.bool_], steps: Ints) -> Floats:
    """[n, K] log(nodes / nodes with the clue's last step to its node) / log(nodes); a named entity 1, no clue 0."""
    last = np.take_along_axis(draws.clue_steps, np.maximum(steps - 1, 0)[:, :, None], axis=2)[:, :, 0]
    real = clues & (steps > 0)
    nodes = np.where(real, draws.clue_nodes, 0).ravel()
    _, holders = graph.any.slices(nodes, reverse(np.where(real, last, 0).ravel()))
    size = max(len(graph), 2)
    idf = np.log(size / np.maximum(holders, 1)).reshape(clues.shape) / np.log(size)
    return np.where(real, idf, np.where(clues, 1.0, 0.0))


def tier_from_pass_rate(rate: float) -> str:
    """easy from 0.8, moderate from 0.2, else difficult; ValueError outside [0, 1]."""
    if not 0 <= rate <= 1:
        raise ValueError(f"pass rate {rate}; it must lie in [0, 1]")
    return "easy" if rate >= EASY_RATE else "moderate" if rate >= MODERATE_RATE else "difficult"


def retier(items: Iterable[Item], rates: Mapping[str, float]) -> list[Item]:
    """The items with the tier of their pass rate; those without one keep what they have.

    meta.difficulty then says method "pass_rate" and the rate, and keeps the formula's tier as `formula_tier`.
    """
    tiered = []
    for item in items:
        if (rate := rates.get(item.id)) is not None:
            tier = tier_from_pass_rate(rate)
            was = item.meta.get("difficulty") or {}
            told = {**was, "tier": tier, "method": "pass_rate", "pass_rate": rate}
            told["formula_tier"] = was.get("formula_tier", was.get("tier", item.difficulty))
            item = replace(item, difficulty=tier, meta={**item.meta, "difficulty": told})
        tiered.append(item)
    return tiered


def pool_pass_rates(path: str | Path) -> dict[str, float]:
    """{item id: pass rate under the newest policy that attempted it} of the pool.npz in a run's checkpoint.

    Raises ValueError when the file cannot be read or is no pool.
    """
    try:
        with np.load(path) as arrays:
            ids, log = arrays["ids"].tolist(), arrays["log"]
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(f"{path} is no pool ({error}); give the pool.npz of a checkpoint") from error
    rates: dict[str, float] = {}
    for index, _, attempts, passes in log.tolist():  # in order of the policy's versions
        if attempts:
            rates[ids[index]] = passes / attempts
    return rates


assert DIFFICULTIES == ("easy", "moderate", "difficult")  # what the tier's number counts
