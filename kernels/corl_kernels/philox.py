"""One uniform number per (seed, position), from the counter-based generator Philox4x32-10.

Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

import torch
from torch import Tensor

WORD = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)


def uniforms(seeds: Tensor, positions: Tensor) -> Tensor:
    """Return fp64 multiples of 2^-53 in [0, 1), one for each seed and position [B].

    seeds  [B] int64      positions  [B] int32 or int64
    With the output words w of Philox4x32-10, whose counter is (position, 0, 0, 0) and whose key are the lower and the
    upper half of the seed, the number is (floor(w0 / 2^5) 2^26 + floor(w1 / 2^6)) / 2^53.
    """
    # int64 products wrap around and so keep all 64 bits; what lies above a word is cut off before the next product
    factors, steps = torch.tensor(_MULTIPLIERS)[:, None], torch.tensor(_WEYL)[:, None]
    factored = torch.stack((positions.long() & WORD, torch.zeros_like(seeds)))  # [2, B], the words 0 and 2
    others = torch.zeros_like(factored)  # the words 1 and 3
    key = torch.stack((seeds & WORD, (seeds >> 32) & WORD))
    for _ in range(10):
        products = (factored * factors).flip(0)
        factored = ((products >> 32) ^ others ^ key) & WORD
        others, key = products & WORD, key + steps
    return ((factored[0] >> 5) * 2**26 + (others[0] >> 6)).double() * 2.0**-53


def uniform_reference(seed: int, position: int) -> float:
    """The same on Python integers."""
    words = philox4x32_reference((position & WORD, 0, 0, 0), (seed & WORD, (seed >> 32) & WORD))
    return ((words[0] >> 5) * 2**26 + (words[1] >> 6)) / 2**53


def philox4x32_reference(counter: tuple[int, ...], key: tuple[int, int]) -> tuple[int, ...]:
    """Philox4x32-10 on Python integers: four random words from a counter of four and a key of two."""
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        left, right = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (right >> 32) ^ c1 ^ k0, right & WORD, (left >> 32) ^ c3 ^ k1, left & WORD
        k0, k1 = (k0 + _WEYL[0]) & WORD, (k1 + _WEYL[1]) & WORD
    return c0, c1, c2, c3
