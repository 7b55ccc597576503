"""Random numbers that are functions of their key: no state, no order, any number of workers."""

import numpy as np
from numpy.typing import NDArray

from corl.rods.graph import Ints

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def random_words(seed: int, stage: str, indices: Ints, slot: int = 0) -> NDArray[np.uint64]:
    """64 random bits for each (seed, stage, index, slot): splitmix64 (Steele, Lea, Flood 2014) applied to the key.

    indices any shape; `stage` names what is drawn, `slot` tells apart several draws of one index.
    """
    key = int.from_bytes(stage.encode(), "little") % (2**61 - 1)
    with np.errstate(over="ignore"):
        word = _mix(np.uint64(seed % 2**64) + _GOLDEN)
        word = _mix(word ^ np.uint64(key))
        word = _mix(word ^ _mix(np.uint64(slot % 2**64) + _GOLDEN))
        return _mix(word ^ _mix(np.asarray(indices).astype(np.uint64) * _GOLDEN + _GOLDEN))


def uniform(seed: int, stage: str, indices: Ints, slot: int = 0) -> NDArray[np.float64]:
    """[0, 1) for each key, 53 bits."""
    return (random_words(seed, stage, indices, slot) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def pick(seed: int, stage: str, indices: Ints, counts: Ints, slot: int = 0) -> Ints:
    """An integer in [0, count) for each key; 0 where the count is 0."""
    return (uniform(seed, stage, indices, slot) * counts).astype(np.int64)


def _mix(word: NDArray[np.uint64] | np.uint64) -> NDArray[np.uint64]:
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(word ^ (word >> np.uint64(31)))
