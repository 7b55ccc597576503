"""Rows of unequal length as flat arrays: an ascending `rows` array says which row each value belongs to."""

import numpy as np
from numpy.typing import NDArray

from corl.rods.graph import Ints

POPCOUNT = np.array([bin(mask).count("1") for mask in range(256)], np.int64)  # clue masks have five bits


def starts(groups: Ints) -> Ints:
    """Where each run of equal values begins."""
    if not groups.size:
        return np.zeros(0, np.int64)
    return np.flatnonzero(np.append(True, groups[1:] != groups[:-1]))


def distinct(keys: Ints) -> Ints:
    """Sorted, each once. numpy's own `unique` hashes first, which takes several times as long on keys like ours."""
    keys = np.sort(keys)
    return keys[starts(keys)]


def rank_within(groups: Ints) -> Ints:
    """0, 1, 2, ... inside each run of equal values."""
    first = starts(groups)
    count = np.diff(np.append(first, groups.size))
    return np.arange(groups.size) - np.repeat(first, count)


def order_by(groups: Ints, score: NDArray[np.float64]) -> Ints:
    """The order that sorts by group, then by score in [0, 1); equal to 2^-20 stays in place."""
    return np.argsort((groups << 20) | (score * 2**20).astype(np.int64), kind="stable")


def row_or(rows: Ints, values: Ints, size: int) -> Ints:
    """[size] all bits of a row's values; 0 for a row without values."""
    out = np.zeros(size, np.int64)
    if rows.size:
        first = starts(rows)
        out[rows[first]] = np.bitwise_or.reduceat(values, first)
    return out


def pad(rows: Ints, size: int, width: int) -> tuple[Ints, Ints]:
    """[size, width] positions of each row's first values and how many there are; 0 where there is none."""
    count = np.minimum(np.bincount(rows, minlength=size), width)
    first = np.searchsorted(rows, np.arange(size))
    return np.minimum(first[:, None] + np.arange(width), max(rows.size - 1, 0)), count


def is_in(sorted_keys: Ints, wanted: Ints) -> NDArray[np.bool_]:
    """Whether each wanted key is among the sorted ones."""
    if not sorted_keys.size:
        return np.zeros(wanted.shape, bool)
    at = np.minimum(np.searchsorted(sorted_keys, wanted), sorted_keys.size - 1)
    return sorted_keys[at] == wanted
