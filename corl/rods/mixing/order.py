"""The order of a mix: which class every place goes to, so that no prefix strays from the quotas by more than one item.

One attribute: the quota method (Balinski and Young 1975), a weighted round robin. Of the classes that lie below their
quota at a place, the one whose next item is due first takes it. Every count is then the quota rounded down or up, in
every prefix.

Several attributes: a cell is a class of each. Cells are chosen place by place, nearest to all quotas and to a joint
table fitted to them; where one choice at a time runs into a wall, several are followed (a beam). No theorem says that
an order within one item exists for every joint quota, so the bound is a condition of the search: an order that it gives
keeps every class of every attribute within one item of its quota in every prefix, and where it finds none it says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

WIDTHS = (
    1,
    8,
    64,
)  # orders followed together; of 283 random tables with two or three attributes 265 need one, 18 eight
SWEEPS = 400  # of the fit
FIT = 0.002  # share of the items by which the fit may miss the quotas before it counts as impossible
STEEP = 3.0  # how much dearer a class far from its quota is than one near it


@dataclass(frozen=True, slots=True)
class Cells:
    """C cells of A attributes. available [C] items; classes [C, A]; weights: whole numbers, by attribute and class."""

    available: NDArray[np.int64]
    classes: NDArray[np.int64]
    weights: tuple[tuple[int, ...], ...]


class Order(NamedTuple):
    """cells: of the places, in order; fewer than asked for where the search ended."""

    cells: list[int]


def find_order(cells: Cells, count: int) -> Order:
    """An order of `count` places, or the longest prefix found."""
    if len(cells.weights) == 1:
        return Order(_quota_method(cells, count))
    table = _fitted(cells, count)
    if table is None:
        return Order([])
    best: list[int] = []
    for width in WIDTHS:
        found = _search(cells, table / count, count, width)
        best = max(best, found, key=len)
        if len(best) == count:
            break
    return Order(best)


def most_places(cells: Cells, below: int) -> int:
    """The most places, fewer than `below`, for which an order was found."""
    if len(cells.weights) == 1:
        return len(_quota_method(cells, below - 1))
    low, high = 0, min(below - 1, int(cells.available.sum()))
    while low < high:  # the fit is quick, the search is not
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _fitted(cells, middle) is not None else (low, middle - 1)
    while low:
        found = len(find_order(cells, low).cells)
        if found == low:
            return low
        low = min(low - 1, found)
    return 0


def largest_deviation(cells: Cells, order: Sequence[int]) -> float:
    """In items, over all prefixes and all classes of all attributes."""
    most = 0.0
    places = np.arange(1, len(order) + 1)
    for attribute, weights in enumerate(cells.weights):
        taken = cells.classes[np.asarray(order, np.int64), attribute]
        for place, weight in enumerate(weights):
            strayed = np.cumsum(taken == place) - places * (weight / sum(weights))
            most = max(most, float(np.abs(strayed).max(initial=0.0)))
    return most


def _quota_method(cells: Cells, count: int) -> list[int]:
    weights, total = cells.weights[0], sum(cells.weights[0])
    cell_of = {int(place): cell for cell, (place,) in enumerate(cells.classes.tolist())}
    left = {place: int(cells.available[cell]) for place, cell in cell_of.items()}
    taken = [0] * len(weights)
    order: list[int] = []
    positive = [place for place, weight in enumerate(weights) if weight]
    for k in range(1, count + 1):
        below = [place for place in positive if taken[place] * total < k * weights[place]]
        # due: place of the next item's deadline, (taken + 1) total / weight
        chosen = min(below, key=lambda place: ((taken[place] + 1) / weights[place], -weights[place], place))
        if not left.get(chosen):
            break
        taken[chosen] += 1
        left[chosen] -= 1
        order.append(cell_of[chosen])
    return order


def _fitted(cells: Cells, count: int) -> NDArray[np.float64] | None:
    """[C] a table with the quotas as margins and no cell above what is there; None where there is none.

    Proportional fitting in turn with the caps: projections onto convex sets, which meet where the sets do.
    """
    available = cells.available.astype(np.float64)
    if available.sum() < count:
        return None
    table = available * (count / available.sum())
    missed = np.inf
    for _ in range(SWEEPS):
        missed = 0.0
        for attribute, weights in enumerate(cells.weights):
            wanted = count * np.array(weights) / sum(weights)
            place = cells.classes[:, attribute]
            margin = np.bincount(place, weights=table, minlength=len(weights))
            missed = max(missed, float(np.abs(margin - wanted).max()))
            table = table * np.where(margin > 0, wanted / np.where(margin > 0, margin, 1.0), 0.0)[place]
        missed = max(missed, float((table - available).max()))
        table = np.minimum(table, available)
        if missed < 1e-6:
            break
    return table if missed <= 1 + FIT * count else None


def _search(cells: Cells, rates: NDArray[np.float64], count: int, width: int) -> list[int]:
    # B orders followed, C cells, K classes of all attributes
    sizes = [len(weights) for weights in cells.weights]
    starts = np.cumsum([0, *sizes[:-1]])
    member = np.zeros((len(rates), sum(sizes)), np.int64)
    for attribute, start in enumerate(starts.tolist()):
        member[np.arange(len(rates)), start + cells.classes[:, attribute]] = 1
    share = np.concatenate([np.array(weights, np.int64) for weights in cells.weights])  # [K]
    whole = np.concatenate([np.full(len(weights), sum(weights), np.int64) for weights in cells.weights])  # [K]
    step = member * whole  # [C, K]
    strayed = np.zeros((1, len(share)), np.int64)  # [B, K] taken x whole - places x share
    taken = np.zeros((1, len(rates)), np.int64)  # [B, C]
    back: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    for k in range(1, count + 1):
        after = strayed[:, None, :] - share + step  # [B, C, K]
        barred = (np.abs(after) > whole).any(axis=2) | (taken >= cells.available)
        behind = taken - k * rates
        cost = np.cosh(STEEP * after / whole).sum(axis=2) + 0.5 * ((behind**2).sum(axis=1)[:, None] + 2 * behind + 1)
        cost[barred] = np.inf
        flat = cost.ravel()
        chosen = np.array([flat.argmin()]) if width == 1 else np.argsort(flat, kind="stable")[: 2 * width]
        chosen = chosen[np.isfinite(flat[chosen])]
        if not len(chosen):
            break
        parent, cell = np.divmod(chosen, len(rates))
        grown = taken[parent]
        grown[np.arange(len(cell)), cell] += 1
        if width > 1:  # two orders of the same items so far have the same future
            _, first = np.unique(grown, axis=0, return_index=True)
            first = np.sort(first)[:width]
            parent, cell, grown = parent[first], cell[first], grown[first]
        taken, strayed = grown, after[parent, cell]
        back.append((parent, cell))
    order: list[int] = []
    at = 0
    for parent, cell in reversed(back):
        order.append(int(cell[at]))
        at = int(parent[at])
    return order[::-1]
