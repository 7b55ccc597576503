"""How far two methods agree on the tiers of the items that both judged: share alike, and Cohen's kappa."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from corl.data.items import DIFFICULTIES, Item
from corl.rods.tiering.assign import METHODS, tiers_of


@dataclass(frozen=True, slots=True)
class Agreement:
    """kappa: (alike - chance) / (1 - chance), chance from the methods' own shares; weighted: with quadratic weights,
    so that easy beside difficult counts four times as much as a neighbouring tier. None where chance is 1."""

    first: str
    second: str
    items: int
    alike: float
    kappa: float | None
    weighted: float | None
    table: tuple[tuple[int, ...], ...]  # rows: tiers of the first


def compare(items: Sequence[Item]) -> list[Agreement]:
    """Every pair of methods that have judged an item together, in the order of METHODS."""
    judged = [tiers_of(item) for item in items]
    pairs = []
    for first, second in combinations(METHODS, 2):
        counts = Counter((tiers[first], tiers[second]) for tiers in judged if first in tiers and second in tiers)
        if counts:
            table = tuple(tuple(counts[row, column] for column in DIFFICULTIES) for row in DIFFICULTIES)
            pairs.append(agreement(first, second, table))
    return pairs


def agreement(first: str, second: str, table: tuple[tuple[int, ...], ...]) -> Agreement:
    """Cohen 1960; with weights, Cohen 1968."""
    size = range(len(table))
    n = sum(map(sum, table))
    rows = [sum(row) / n for row in table]
    columns = [sum(row[k] for row in table) / n for k in size]
    widest = (len(table) - 1) ** 2

    def kappa(cost: list[list[float]]) -> float | None:
        seen = sum(cost[i][j] * table[i][j] / n for i in size for j in size)
        chance = sum(cost[i][j] * rows[i] * columns[j] for i in size for j in size)
        return 1 - seen / chance if chance > 1e-12 else None

    plain = kappa([[float(i != j) for j in size] for i in size])
    weighted = kappa([[(i - j) ** 2 / widest for j in size] for i in size])
    return Agreement(first, second, n, sum(table[k][k] for k in size) / n, plain, weighted, table)


def describe_agreement(found: Sequence[Agreement]) -> Iterator[str]:
    if not found:
        yield "no two methods have judged the same item; run another --method on this file first"
    for pair in found:
        numbers = "  ".join(
            f"{name} {'-' if value is None else f'{value:.3f}'}"
            for name, value in (("kappa", pair.kappa), ("weighted", pair.weighted))
        )
        yield f"{pair.first} and {pair.second}: {pair.items} items, alike {pair.alike:.1%}, {numbers}"
        yield f"  {pair.first + ' / ' + pair.second:<22}" + "".join(f"{tier:>11}" for tier in DIFFICULTIES)
        for tier, row in zip(DIFFICULTIES, pair.table, strict=True):
            yield f"  {tier:<22}" + "".join(f"{count:>11}" for count in row)
