"""Ranks that hold slices of the logits draw what the whole logits draw: ranks are threads of this process."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch

from corl_kernels import blocks, cuts, sample_tokens, vocabulary_slice
from corl_kernels.sampling import Ranks, draw_tokens


@pytest.mark.parametrize("size", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("vocab", [1, 61, 128, 129, 512, 1025, 152_064])
def test_slices_are_whole_blocks_and_cover_the_vocabulary(vocab, size):
    at = 0
    for rank in range(size):
        first, count = vocabulary_slice(vocab, rank, size)
        assert first == min(at, vocab)
        assert count % 128 == 0 or first + count == vocab
        assert count <= vocabulary_slice(vocab, 0, size)[1]
        at = first + count
    assert at == vocab


def draw_in_slices(logits, size, gathered=None, **state):
    """What every rank of `size` draws, and the sizes of what they exchanged into `gathered`."""
    parts, barrier = [None] * size, Barrier(size)

    def gather_of(rank):
        def gather(x):
            parts[rank] = x.clone()
            barrier.wait(60)
            out = torch.stack(list(parts))
            barrier.wait(60)
            if gathered is not None and rank == 0:
                gathered.append(x.numel())
            return out

        return gather

    def run(rank):
        vocab = logits.shape[1]
        first, count = vocabulary_slice(vocab, rank, size)
        own = logits[:, first : first + count]
        return draw_tokens(blocks, cuts, own, **state, ranks=Ranks(vocab, rank, size, gather_of(rank)))

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(run, range(size)))


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("kind", ["random", "ties", "inf"])
@pytest.mark.parametrize("cut", [False, True], ids=["all", "cut"])
def test_any_number_of_slices_draws_the_same_bits(size, kind, cut):
    gen = torch.Generator().manual_seed(size)
    for vocab in (1, 61, 128, 129, 300, 1009, 2500):
        rows = 30
        logits = torch.randn(rows, vocab, generator=gen) * 2
        if kind == "ties":
            logits = torch.randint(-2, 3, (rows, vocab), generator=gen).float()
        if kind == "inf":
            logits[torch.rand(rows, vocab, generator=gen) < 0.8] = -float("inf")
            logits[3, vocab // 2] = float("nan")
        state = {
            "temperature": torch.tensor([0.0, 0.7, 1.0, 1.5]).repeat(rows)[:rows],
            "seeds": torch.randint(-(2**63), 2**63 - 1, (rows,), generator=gen),
            "positions": torch.arange(rows),
        }
        if cut:
            state["top_k"] = torch.tensor([0, 1, 5, 50, 200, vocab]).repeat(rows)[:rows]
            state["top_p"] = torch.tensor([1.0, 0.9, 0.3, 1e-9, 0.9999]).repeat(rows)[:rows]
        wanted = sample_tokens(logits, **state)
        for found in draw_in_slices(logits, size, **state):
            assert torch.equal(found.tokens, wanted.tokens)
            assert torch.equal(found.logprobs.nan_to_num(7.0), wanted.logprobs.nan_to_num(7.0))


def test_logits_are_never_exchanged():
    rows, vocab, sizes = 8, 51_200, []
    logits = torch.randn(rows, vocab, generator=torch.Generator().manual_seed(0)) * 2
    keys = {"temperature": torch.ones(rows), "seeds": torch.arange(rows), "positions": torch.arange(rows)}
    draw_in_slices(logits, 4, sizes, **keys)
    # two numbers a block, then the token and its logprob
    assert sizes == [2 * rows * vocab // 128 // 4, 2 * rows]
    sizes.clear()
    limits = {"top_k": torch.full((rows,), 50), "top_p": torch.full((rows,), 0.9)}
    draw_in_slices(logits, 4, sizes, **limits, **keys)
    assert max(sizes) == 4 * rows * 256
    assert sum(sizes) < rows * vocab / 4
