"""Tiers of items by one method, written beside those that other methods gave before."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from corl.config.rods import Difficulty
from corl.data.items import DIFFICULTIES, Item
from corl.rods.sampling.difficulty import tier_from_pass_rate

METHODS = ("formula", "llm", "pass_rate")


@dataclass(frozen=True, slots=True)
class Verdict:
    """A method's tier for an item, None where it has none, and what it rests on."""

    tier: str | None
    evidence: dict[str, Any]


@dataclass(frozen=True, slots=True)
class TierReport:
    """items = tiered + left. left: the method says nothing of them, they keep the difficulty they had."""

    items: int
    tiered: int
    left: int
    tiers: dict[str, int]  # of all items as they are now
    note: str


def by_formula(items: Sequence[Item], settings: Difficulty | None = None) -> list[Verdict]:
    """The score that `corl rods sample` wrote, cut at the settings' points; other items have none.

    A public item has no graph, so no hops, no masked nodes and no rarity: the formula is not defined on it.
    """
    settings = settings or Difficulty()
    return [_formula(item, settings) for item in items]


def by_pass_rate(items: Sequence[Item], attempts: Mapping[str, tuple[int, int]]) -> list[Verdict]:
    """`attempts`: (attempts, passes) by item id."""
    verdicts = []
    for item in items:
        count, passes = attempts.get(item.id, (0, 0))
        if not count:
            verdicts.append(Verdict(None, {}))
            continue
        evidence = {"attempts": count, "passes": passes, "rate": round(passes / count, 4)}
        verdicts.append(Verdict(tier_from_pass_rate(passes / count), evidence))
    return verdicts


def apply(items: Sequence[Item], method: str, verdicts: Sequence[Verdict]) -> tuple[list[Item], TierReport]:
    """The items with the method's tiers; those it says nothing of as they were, also without an older verdict of it."""
    assert method in METHODS, method
    tiered = []
    for item, verdict in zip(items, verdicts, strict=True):
        known = item.meta.get("tiers")
        others = {k: v for k, v in known.items() if k != method} if isinstance(known, dict) else {}
        if verdict.tier is not None:
            others[method] = {"tier": verdict.tier} | verdict.evidence
        meta = {key: value for key, value in item.meta.items() if key != "tiers"} | (
            {"tiers": others} if others else {}
        )
        tiered.append(replace(item, difficulty=verdict.tier or item.difficulty, meta=meta))
    left = sum(verdict.tier is None for verdict in verdicts)
    counts = Counter(item.difficulty or "none" for item in tiered)
    tiers = {tier: counts[tier] for tier in (*DIFFICULTIES, "none") if counts[tier]}
    return tiered, TierReport(len(items), len(items) - left, left, tiers, _note(method, left))


def tiers_of(item: Item) -> dict[str, str]:
    """Tier by method, as `apply` left them; the formula's also as the sampler left it."""
    known = item.meta.get("tiers")
    found = {
        method: entry["tier"]
        for method, entry in (known.items() if isinstance(known, dict) else ())
        if method in METHODS and isinstance(entry, dict) and entry.get("tier") in DIFFICULTIES
    }
    formula = _formula(item, Difficulty()).tier
    return found if formula is None or "formula" in found else {"formula": formula, **found}


def _formula(item: Item, settings: Difficulty) -> Verdict:
    made = item.meta.get("difficulty")
    score = made.get("score") if isinstance(made, dict) else None
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
        return Verdict(None, {})
    at = (score >= settings.moderate_from) + (score >= settings.difficult_from)
    return Verdict(DIFFICULTIES[at], {"score": score})


def _note(method: str, left: int) -> str:
    if not left:
        return ""
    why = {
        "formula": "carry no score: the formula needs a graph, public items need --method llm or pass_rate",
        "llm": "got no vote that could be read, or no answer (start again to ask for what is missing)",
        "pass_rate": "were not attempted",
    }
    return f"{left} items {why[method]}; they keep the difficulty they had"


def read_difficulty(path: str | Path | None) -> Difficulty:
    """The cut points in a file of `corl rods sample --config`."""
    from corl.rods.sampling.settings import load_settings

    return load_settings(path).difficulty
