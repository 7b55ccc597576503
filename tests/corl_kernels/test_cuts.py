"""The cuts of top_k and top_p: the search against a sort, against the definition, and how often it reads a row."""

import pytest
import torch

from corl_kernels import blocks, cuts
from corl_kernels.blocks import BLOCK, LOW, TIES

INF = float("inf")
KINDS = ["random", "ties", "flat", "spike", "inf", "dense", "bf16", "tiny", "wide", "zeros", "peaked"]
TOP_K = (0, 1, 2, 7, 50, 300)  # and around the size of the vocabulary
TOP_P = (1.0, 1e-30, 1e-6, 0.3, 0.5, 0.9, 0.95, 0.9999, 1 - 2**-24)


def rows_of(kind, rows, vocab, seed):
    gen = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, vocab, generator=gen) * 2
    anywhere = torch.arange(rows), torch.randint(vocab, (rows,), generator=gen)
    if kind == "ties":
        x = torch.randint(-2, 3, (rows, vocab), generator=gen).float()
    if kind == "flat":
        x = x[:, :1].repeat(1, vocab)
    if kind == "spike":
        x = torch.zeros(rows, vocab)
        x[anywhere] = 50.0
    if kind == "inf":
        x[torch.rand(rows, vocab, generator=gen) < 0.7] = -INF
        x[anywhere] = 1.0
    if kind == "dense":  # many neighbors among the fp32 numbers
        x = 1 + torch.randint(0, 4096, (rows, vocab), generator=gen) * 2.0**-23
    if kind == "bf16":
        x = x.bfloat16().float()
    if kind == "tiny":  # more than one round of bins apart from the largest
        x *= 1e-30
        x[anywhere] = 3.0
    if kind == "wide":
        x *= 10.0 ** torch.randint(-30, 38, (rows, vocab), generator=gen)
    if kind == "zeros":
        x = x.sign() * 0.0
    if kind == "peaked":
        x[anywhere] = 20.0
    return x


def settings_of(rows, vocab, seed):
    gen = torch.Generator().manual_seed(seed)
    ks = torch.tensor([*TOP_K, vocab, vocab + 5, max(1, vocab - 1), vocab // 2 + 1])
    k, p = (x[torch.randint(len(x), (rows,), generator=gen)] for x in (ks, torch.tensor(TOP_P)))
    temperature = torch.tensor([0.7, 1.0, 0.0, 1.7, 0.1])[torch.arange(rows) % 5]
    return temperature, k, p


def searched(logits, temperature, top_k, top_p, bits=cuts.BITS):
    vocab = logits.shape[1]
    count = -(-vocab // BLOCK)
    statistics = blocks.block_statistics(logits, temperature, count)
    return cuts.find_cut(cuts, logits, temperature, statistics, 0, count, top_k, top_p, vocab, None, bits), statistics


def kept(logits, cut):
    """Which logits [B, V] stay."""
    least = blocks.value_of(cut[:, LOW])[:, None]
    equal = logits == least
    return (logits > least) | (equal & (equal.long().cumsum(-1) <= cut[:, TIES, None]))


def assert_as_by_sorting(kind, vocab, rows, seed, bits=cuts.BITS):
    logits, (temperature, k, p) = rows_of(kind, rows, vocab, seed), settings_of(rows, vocab, seed + 1)
    for top_k, top_p in ((k, None), (None, p), (k, p)):
        found, statistics = searched(logits, temperature, top_k, top_p, bits)
        wanted = cuts.cut_by_sorting(logits, temperature, statistics, top_k, top_p)
        assert torch.equal(kept(logits, found), kept(logits, wanted)), (kind, vocab, seed, top_k is None, top_p is None)


@pytest.mark.parametrize("kind", KINDS)
def test_the_search_finds_what_a_sort_finds(kind):
    for seed, vocab in enumerate((1, 2, 61, 127, 128, 129, 257, 1009, 2100)):
        assert_as_by_sorting(kind, vocab, 20, seed)


@pytest.mark.parametrize("bits", [2, 3, 8])
def test_few_bins_find_the_same(bits):
    for seed, kind in enumerate(KINDS):
        assert_as_by_sorting(kind, 307, 15, 100 + seed, bits)


@pytest.mark.slow
def test_ten_thousand_rows_are_cut_as_by_sorting():
    gen = torch.Generator().manual_seed(0)
    for seed in range(1000, 1000 + 10_000 // (5 * len(KINDS)) + 1):
        for kind in KINDS:
            assert_as_by_sorting(kind, int(torch.randint(1, 3000, (), generator=gen)), 5, seed)


@pytest.mark.parametrize("kind", ["random", "ties", "flat", "spike", "inf", "dense", "peaked"])
def test_a_sort_keeps_what_the_definition_says(kind):
    """Python lists and exact fractions of the masses: value first, then the lower id, until top_p is reached."""
    vocab, rows = 41, 40
    logits, (temperature, k, p) = rows_of(kind, rows, vocab, 7), settings_of(rows, vocab, 8)
    statistics = blocks.block_statistics(logits, temperature, 1)
    stays = kept(logits, cuts.cut_by_sorting(logits, temperature, statistics, k, p))
    for row in range(rows):
        if temperature[row] == 0:
            assert stays[row].all()
            continue
        x = logits[row].tolist()
        order = sorted(range(vocab), key=lambda v: (-x[v], v))[: int(k[row]) or vocab]
        mass = (((logits[row] - max(x)).double() / temperature[row].double()).exp()).tolist()
        total, reached, wanted = sum(mass[v] for v in order), 0.0, set()
        for token in order:
            if wanted and p[row] < 1 and reached >= float(p[row]) * total * cuts.NEARLY:
                break
            wanted.add(token)
            reached += mass[token]
        # a token of no weight (below 2^-40 of the largest) is never drawn, whether it stays or not
        heavy = {v for v in range(vocab) if mass[v] > 2.0**-38}
        assert set(stays[row].nonzero()[:, 0].tolist()) & heavy == wanted & heavy, (kind, row)


def test_three_of_ten_equal_tokens_reach_three_tenths():
    logits, temperature = torch.zeros(9, 10), torch.ones(9)
    top_p = torch.arange(1, 10) / 10
    cut, _ = searched(logits, temperature, None, top_p)
    assert kept(logits, cut).sum(-1).tolist() == list(range(1, 10))
    assert torch.equal(kept(logits, cut), torch.arange(10) < torch.arange(1, 10)[:, None])


def test_rows_that_are_not_cut_keep_everything():
    logits = rows_of("random", 6, 300, 0)
    logits[2, 5] = float("nan")
    logits[3, 6] = INF
    logits[4] = -INF
    temperature = torch.tensor([0.0, 1, 1, 1, 1, 1])
    cut, _ = searched(logits, temperature, torch.tensor([3, 0, 3, 3, 3, 300]), torch.tensor([0.5, 1, 0.5, 0.5, 0.5, 1]))
    assert (cut[:, LOW] == cuts.LEAST).all() and (cut[:, TIES] == cuts.ALL).all()


class Reads:
    """corl_kernels.cuts, noting which share of the rows' blocks each round reads."""

    start, narrow = staticmethod(cuts.start), staticmethod(cuts.narrow)

    def __init__(self):
        self.shares = []

    def count(self, logits, temperature, peaks, search, bins, *, by_value):
        live = (peaks >= blocks.value_of(search[:, LOW])[:, None]) & (search[:, cuts.DONE] == 0)[:, None]
        self.shares.append(float(live.float().mean()))
        cuts.count(logits, temperature, peaks, search, bins, by_value=by_value)


def reads_of(kind, top_k, top_p, vocab=49_152, rows=8):
    """Reads of whole rows: the statistics, the rounds, and the blocks that hold what stays; then how many passes."""
    logits, temperature, reads = rows_of(kind, rows, vocab, 3), torch.ones(rows), Reads()
    limits = top_k and torch.full((rows,), top_k), top_p and torch.full((rows,), top_p)
    statistics = blocks.block_statistics(logits, temperature, vocab // BLOCK)
    cut = cuts.find_cut(reads, logits, temperature, statistics, 0, vocab // BLOCK, *limits, vocab, None)
    last = float((statistics[:, 0] >= blocks.value_of(cut[:, LOW])[:, None]).float().mean())
    return 1 + sum(reads.shares) + last, 2 + len(reads.shares)


@pytest.mark.parametrize(
    ("kind", "top_k", "top_p", "most", "begun"),
    [
        # typical rows: one read of the row, and a few blocks again
        ("peaked", 1, None, 1.01, 2),
        ("peaked", None, 0.95, 1.01, 3),
        ("peaked", 50, 0.95, 1.3, 4),
        ("random", 50, None, 1.3, 4),
        ("random", 50, 0.95, 1.5, 5),
        # rows where nearly everything could be the border
        ("random", None, 0.95, 4.0, 4),
        ("random", 20_000, None, 4.0, 4),
        ("inf", None, 0.95, 4.0, 4),
        ("flat", 50, None, 2.0, 2),
        ("flat", None, 0.5, 3.0, 3),
        ("spike", 50, None, 3.0, 3),
        ("spike", 20_000, 0.95, 3.0, 4),
        ("ties", 50, 0.9, 4.0, 4),
        ("ties", None, 0.9, 4.0, 4),
        ("ties", 20_000, None, 4.0, 4),
        ("zeros", None, 0.5, 3.0, 3),
        ("bf16", None, 0.95, 4.0, 4),
    ],
)
def test_a_cut_reads_a_row_at_most_four_times(kind, top_k, top_p, most, begun):
    read, passes = reads_of(kind, top_k, top_p)
    print(f"{kind} top_k={top_k} top_p={top_p}: {read:.3f} reads in {passes} passes")
    assert read <= most
    assert passes <= begun


@pytest.mark.parametrize("bits", [2, 8, cuts.BITS])
@pytest.mark.parametrize("kind", KINDS)
def test_every_search_ends_within_its_rounds(kind, bits):
    logits = rows_of(kind, 12, 2000, 11)
    top_k, top_p = torch.tensor([700, 1999, 1]).repeat(4), torch.tensor([0.97, 0.5]).repeat(6)
    for limits in ((top_k, None), (None, top_p), (top_k, top_p)):
        cut, _ = searched(logits, torch.ones(12), *limits, bits)
        assert cut[:, cuts.DONE].all()
