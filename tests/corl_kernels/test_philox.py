"""The random numbers: known answers, every bit of seed and position, and their distribution."""

import pytest
import torch

from corl_kernels.philox import philox4x32_reference, uniform_reference, uniforms

# Random123's known answers for philox4x32-10: counter and key, then the output
KNOWN = [
    ("00000000 00000000 00000000 00000000 00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344 a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


@pytest.mark.parametrize(("given", "wanted"), KNOWN)
def test_philox_known_answers(given, wanted):
    words = [int(word, 16) for word in given.split()]
    out = philox4x32_reference(tuple(words[:4]), tuple(words[4:]))
    assert " ".join(f"{word:08x}" for word in out) == wanted


def test_a_uniform_is_53_bits_of_two_known_words():
    wanted = ((0x6627E8D5 >> 5) * 2**26 + (0xE169C58D >> 6)) / 2**53
    assert uniform_reference(0, 0) == wanted
    assert uniforms(torch.tensor([0]), torch.tensor([0])).tolist() == [wanted]


def test_uniforms_are_those_of_python_integers():
    edges = [0, 1, -1, 7 << 32, -(2**63), 2**63 - 1, 0x1234567890ABCDEF]
    gen = torch.Generator().manual_seed(0)
    seeds = torch.cat((torch.tensor(edges), torch.randint(-(2**63), 2**63 - 1, (200,), generator=gen)))
    places = [0, 1, 2, 77, 2**31 - 1, 2**32 - 1, 500]
    positions = torch.cat((torch.tensor(places), torch.randint(2**32, (200,), generator=gen)))
    have = uniforms(seeds, positions)
    assert have.dtype == torch.float64
    assert have.tolist() == [uniform_reference(*pair) for pair in zip(seeds.tolist(), positions.tolist(), strict=True)]
    narrow = positions[:4].int()
    assert torch.equal(uniforms(seeds[:4], narrow), have[:4])


@pytest.mark.parametrize("varied", ["seeds", "high half of the seeds", "positions"])
def test_uniforms_are_uniform_and_independent(varied):
    count = 1 << 18
    steps, same = torch.arange(count), torch.full((count,), 5)
    seeds, positions = {
        "seeds": (steps, same), "high half of the seeds": (steps << 32, same), "positions": (same, steps),
    }[varied]  # fmt: skip
    drawn = uniforms(seeds, positions)
    assert drawn.min() >= 0 and drawn.max() < 1
    for bins in (16, 1000):
        counts = torch.bincount((drawn * bins).long(), minlength=bins).double()
        statistic = float(((counts - count / bins) ** 2 / (count / bins)).sum())
        assert abs(statistic - (bins - 1)) < 4 * (2 * (bins - 1)) ** 0.5
    pairs = torch.bincount((drawn[:-1] * 30).long() * 30 + (drawn[1:] * 30).long(), minlength=900).double()
    statistic = float(((pairs - pairs.mean()) ** 2 / pairs.mean()).sum())
    assert abs(statistic - 899) < 4 * (2 * 899) ** 0.5
    # the sorted numbers are nowhere further from a straight line than by chance: Kolmogorov-Smirnov at 0.1 %
    gap = (drawn.sort().values - (torch.arange(count) + 0.5) / count).abs().max()
    assert gap < 1.95 / count**0.5
    low_bits = (drawn * 2**53).long() & 1
    assert abs(float(low_bits.double().mean()) - 0.5) < 4 * 0.5 / count**0.5
