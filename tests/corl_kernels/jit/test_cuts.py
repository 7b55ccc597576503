"""The search for cuts on the device finds, in integers, what it finds on the CPU."""

import pytest
import torch

pytest.importorskip("triton")

from corl_kernels import blocks, cuts
from corl_kernels.blocks import BLOCK, LOW, TIES
from corl_kernels.jit import cuts as jit_cuts

INF = float("inf")
KINDS = ["random", "ties", "flat", "spike", "inf", "dense", "tiny", "peaked"]


def rows_of(kind, rows, vocab):
    gen = torch.Generator().manual_seed(vocab)
    x = torch.randn(rows, vocab, generator=gen) * 2
    if kind == "ties":
        x = torch.randint(-2, 3, (rows, vocab), generator=gen).float()
    if kind == "flat":
        x = x[:, :1].repeat(1, vocab)
    if kind == "spike":
        x = torch.zeros(rows, vocab)
        x[:, vocab // 2] = 50.0
    if kind == "inf":
        x[:, ::3] = -INF
    if kind == "dense":
        x = 1 + torch.randint(0, 4096, (rows, vocab), generator=gen) * 2.0**-23
    if kind == "tiny":
        x *= 1e-30
        x[:, vocab // 2] = 3.0
    if kind == "peaked":
        x[:, vocab // 3] = 20.0
    return x


def kept(logits, cut):
    least = blocks.value_of(cut[:, LOW])[:, None]
    equal = logits == least
    return (logits > least) | (equal & (equal.long().cumsum(-1) <= cut[:, TIES, None]))


def find(ops, logits, temperature, top_k, top_p, device, bits):
    vocab = logits.shape[1]
    count = -(-vocab // BLOCK)
    statistics = blocks.block_statistics(logits, temperature, count).to(device)
    limits = (None if limit is None else limit.to(device) for limit in (top_k, top_p))
    given = logits.to(device), temperature.to(device), statistics, 0, count, *limits
    return cuts.find_cut(ops, *given, vocab, None, bits).cpu()


@pytest.mark.parametrize("bits", [4, cuts.BITS])
@pytest.mark.parametrize("kind", KINDS)
def test_cuts_are_those_of_the_cpu_path(kind, bits, device, monkeypatch):
    monkeypatch.setattr(jit_cuts, "_TILE", 1)
    vocab = 307 if bits == 4 else 130
    ks, ps = [0, 1, 2, 5, 40, vocab - 1, vocab, 3, 0, 129], [1.0, 1e-30, 0.3, 0.9, 0.9999, 0.5, 0.95]
    rows = 10
    logits = rows_of(kind, rows, vocab)
    temperature = torch.tensor([0.7, 1.0, 1.7]).repeat(4)[:rows]
    top_k, top_p = torch.tensor(ks), torch.tensor(ps).repeat(2)[:rows]
    for limits in ((top_k, None), (None, top_p), (top_k, top_p)):
        have = find(jit_cuts, logits, temperature, *limits, device, bits)
        want = find(cuts, logits, temperature, *limits, "cpu", bits)
        assert torch.equal(kept(logits, have), kept(logits, want))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_rows_that_are_not_cut_keep_everything(device):
    logits = rows_of("random", 6, 140)
    logits[2, 5], logits[3, 6], logits[4] = float("nan"), INF, -INF
    temperature = torch.tensor([0.0, 1, 1, 1, 1, 1])
    limits = torch.tensor([3, 0, 3, 3, 3, 140]), torch.tensor([0.5, 1, 0.5, 0.5, 0.5, 1])
    cut = find(jit_cuts, logits, temperature, *limits, device, cuts.BITS)
    assert (cut[:, LOW] == cuts.LEAST).all() and (cut[:, TIES] == cuts.ALL).all()


def test_the_number_of_rows_recompiles_nothing(launches, device):
    logits = rows_of("random", 16, 130)
    for rows in (1, 3, 16):
        limits = torch.full((rows,), 5), torch.full((rows,), 0.5)
        find(jit_cuts, logits[:rows], torch.ones(rows), *limits, device, 4)
    assert len({launch.kernel for launch in launches}) == 3
    variants = {(launch.kernel, launch.arguments, launch.options) for launch in launches}
    # start and narrow by count and by mass, count and narrow by value and by bits
    assert len(variants) <= 8
