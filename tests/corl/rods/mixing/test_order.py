"""In every prefix every class of every attribute is within one item of its quota."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corl.rods.mixing.order import Cells, find_order, largest_deviation, most_places


def single(weights: list[int], available: int | list[int] = 10**6) -> Cells:
    count = len(weights)
    there = np.full(count, available, np.int64) if isinstance(available, int) else np.array(available, np.int64)
    return Cells(there, np.arange(count)[:, None], (tuple(weights),))


def deviations(cells: Cells, order: list[int]) -> list[tuple[int, int, float]]:
    """(attribute, prefix, strayed) of every class in every prefix, counted one by one."""
    found = []
    for attribute, weights in enumerate(cells.weights):
        counts = [0] * len(weights)
        for k, cell in enumerate(order, 1):
            counts[cells.classes[cell, attribute]] += 1
            found += [(attribute, k, abs(c - k * w / sum(weights))) for c, w in zip(counts, weights, strict=True)]
    return found


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 10**4), min_size=1, max_size=12), st.integers(1, 200))
def test_one_attribute_is_its_quota_rounded_in_every_prefix(weights: list[int], count: int) -> None:
    cells = single(weights)
    order = find_order(cells, count).cells
    assert len(order) == count
    counts = np.zeros(len(weights), int)
    for k, cell in enumerate(order, 1):
        counts[cell] += 1
        for taken, weight in zip(counts.tolist(), weights, strict=True):
            assert k * weight // sum(weights) <= taken <= -(-k * weight // sum(weights))


@st.composite
def joint(draw) -> tuple[Cells, int]:
    """Two or three attributes over some of their cells, with quotas that the cells can meet."""
    sizes = draw(st.lists(st.integers(2, 4), min_size=2, max_size=3))
    grid = np.array(np.meshgrid(*map(range, sizes))).reshape(len(sizes), -1).T
    kept = draw(st.lists(st.sampled_from(range(len(grid))), min_size=2, max_size=len(grid), unique=True))
    classes = grid[sorted(kept)]
    table = np.array(draw(st.lists(st.integers(1, 30), min_size=len(classes), max_size=len(classes))))
    weights = []
    for attribute in range(len(sizes)):  # classes that no cell has are left out
        names, classes[:, attribute] = np.unique(classes[:, attribute], return_inverse=True)
        weights.append(
            tuple(np.bincount(classes[:, attribute], weights=table, minlength=len(names)).astype(int).tolist())
        )
    return Cells(np.full(len(classes), 10**6), classes, tuple(weights)), draw(st.integers(1, 120))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(joint())
def test_several_attributes_are_within_one_item_in_every_prefix(case: tuple[Cells, int]) -> None:
    cells, count = case
    order = find_order(cells, count).cells
    assert len(order) == count, "quotas that a table of cells has; an order is found"
    strayed = deviations(cells, order)
    assert max(value for _, _, value in strayed) <= 1 + 1e-9
    assert largest_deviation(cells, order) == pytest.approx(max(value for _, _, value in strayed))


def test_several_attributes_come_in_all_combinations() -> None:
    """Equal rhythms must not lock: source a always easy, source b always moderate."""
    grid = np.array([(s, t, lang) for s in range(2) for t in range(2) for lang in range(2)])
    cells = Cells(np.full(8, 1000), grid, ((1, 1), (1, 1), (1, 1)))
    counts = np.bincount(find_order(cells, 400).cells, minlength=8)
    assert counts.min() >= 45 and counts.max() <= 55


def test_structural_gaps() -> None:
    """Sources of one language each beside one that has both."""
    grid = np.array([(0, 0), (1, 1), (2, 0), (2, 1)])
    cells = Cells(np.array([500, 500, 500, 500]), grid, ((1, 1, 2), (1, 1)))
    order = find_order(cells, 800).cells
    assert np.bincount(order).tolist() == [200] * 4
    assert max(value for *_, value in deviations(cells, order)) <= 1


@pytest.mark.parametrize(("weights", "available"), [([1, 1], [3, 50]), ([3, 1, 2], [40, 40, 5]), ([1, 0], [4, 9])])
def test_the_most_that_can_be_had_of_one_attribute(weights, available) -> None:
    cells = single(weights, available)
    most = most_places(cells, 1000)
    assert len(find_order(cells, most).cells) == most
    assert len(find_order(cells, most + 1).cells) == most


@settings(max_examples=6, deadline=None, derandomize=True)
@given(joint(), st.lists(st.integers(1, 8), min_size=64, max_size=64))
def test_the_most_that_can_be_had_of_several_can_be_had(case: tuple[Cells, int], there: list[int]) -> None:
    cells = Cells(np.array(there[: len(case[0].classes)]), case[0].classes, case[0].weights)
    most = most_places(cells, 500)
    assert most < 500
    order = find_order(cells, most).cells
    assert len(order) == most
    assert (np.bincount(order, minlength=len(cells.available)) <= cells.available).all()
