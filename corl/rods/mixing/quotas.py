"""Quotas as they are asked for: weights of the classes of source, tier, language and result."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import lcm

from corl.data.items import DIFFICULTIES, Item
from corl.rods.filtering.anonymise import is_made
from corl.rods.filtering.language import base
from corl.rods.tiering.attempts import Attempts

ATTRIBUTES = ("source", "tier", "lang", "result")
SYNTHETIC, PUBLIC, NONE = "synthetic", "public", "none"
RIGHT, WRONG, RIGHT_FROM = "right", "wrong", 0.5
FINEST = 10**6  # the weights of an attribute as whole numbers may add up to this


@dataclass(frozen=True, slots=True)
class Quota:
    """Whole-number weights by class of one attribute. An item of no class is not for this mix."""

    attribute: str
    weights: dict[str, int]
    class_of: Callable[[Item], str | None]


def make_quotas(asked: Mapping[str, Mapping[str, Fraction]], attempts: Attempts | None) -> list[Quota]:
    """In the order of ATTRIBUTES. `attempts` decide what is right and wrong; None: meta.tiers.pass_rate does.

    Raises ValueError for a class that an attribute cannot have and for weights that are too fine.
    """
    quotas = []
    for attribute in ATTRIBUTES:
        if not (weights := asked.get(attribute)):
            continue
        allowed = {"tier": (*DIFFICULTIES, NONE), "result": (RIGHT, WRONG)}.get(attribute)
        if allowed and (unknown := [name for name in weights if name not in allowed]):
            raise ValueError(f"{attribute} {unknown[0]!r} is unknown; use {', '.join(allowed)}")
        finest = lcm(*(weight.denominator for weight in weights.values()))
        whole = {name: int(weight * finest) for name, weight in weights.items() if weight}
        if not whole or sum(whole.values()) > FINEST:
            raise ValueError(f"{attribute}: weights {_told(weights)} are {'all 0' if not whole else 'too fine'}")
        quotas.append(Quota(attribute, whole, _class_of(attribute, whole, attempts)))
    return quotas


def parse_weights(texts: Sequence[str], option: str) -> dict[str, Fraction]:
    """`name=weight` each; a name may hold "=" itself. Raises ValueError naming the option."""
    weights: dict[str, Fraction] = {}
    for text in texts:
        name, equals, number = text.rpartition("=")
        try:
            weight = Fraction(number)
        except (ValueError, ZeroDivisionError):
            weight = Fraction(-1)
        if not equals or not name or weight < 0 or name in weights:
            raise ValueError(f"{option} {text}: write NAME=WEIGHT, each name once, the weight 0 or more")
        weights[name] = weight
    return weights


def is_synthetic(item: Item) -> bool:
    return is_made(item) or item.source.startswith("rods:")


def _class_of(attribute: str, weights: Mapping[str, int], attempts: Attempts | None) -> Callable[[Item], str | None]:
    def source(item: Item) -> str | None:
        return item.source if item.source in weights else SYNTHETIC if is_synthetic(item) else PUBLIC

    def result(item: Item) -> str | None:
        return RIGHT if (rate_of(item, attempts) or 0.0) >= RIGHT_FROM else WRONG

    found: dict[str, Callable[[Item], str | None]] = {
        "source": source,
        "tier": lambda item: item.difficulty or NONE,
        "lang": lambda item: base(item.lang),
        "result": result,
    }
    read = found[attribute]
    return lambda item: name if (name := read(item)) in weights else None


def rate_of(item: Item, attempts: Attempts | None) -> float | None:
    """None where nobody attempted it; a mix then counts it as wrong, as mining does."""
    if attempts is not None:
        count, passes = attempts.get(item.id, (0, 0))
        return passes / count if count else None
    tiers = item.meta.get("tiers")
    entry = tiers.get("pass_rate") if isinstance(tiers, dict) else None
    rate = entry.get("rate") if isinstance(entry, dict) else None
    return float(rate) if isinstance(rate, int | float) and not isinstance(rate, bool) else None


def _told(weights: Mapping[str, Fraction]) -> str:
    return ", ".join(f"{name}={weight}" for name, weight in weights.items())
