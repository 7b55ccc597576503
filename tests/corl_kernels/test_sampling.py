"""sample_tokens: the random integers, the distribution, and what a draw may depend on."""

import pytest
import torch

from corl_kernels import sample_tokens, sampling
from corl_kernels.sampling import _gumbel, philox4x32_reference, random_words, sample_tokens_reference

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


def test_random_words_are_philox_s():
    seeds = torch.tensor([0, 1, -1, 7 << 32, -(2**63), 2**63 - 1, 0x1234567890ABCDEF])[:, None]
    positions = torch.tensor([0, 1, 2, 77, 2**31 - 1, 2**32 - 1, 500])[:, None]
    scratch = torch.full((6, 7, 33), -1)
    words = random_words(seeds, positions, scratch)
    for row, (seed, position) in enumerate(zip(seeds[:, 0].tolist(), positions[:, 0].tolist(), strict=True)):
        key = (seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF)
        assert words[row].tolist() == [philox4x32_reference((position, v, 0, 0), key)[0] for v in range(33)]


def logits_of(rows, vocab, seed=0):
    return torch.randn(rows, vocab, generator=torch.Generator().manual_seed(seed)) * 2


def rows_of(rows):
    seeds = torch.arange(rows) * 0x9E3779B97F4A7C15 % 2**63 - 2**62
    return {"seeds": seeds, "positions": torch.arange(rows) * 3 + 1}


def test_matches_the_reference_row_by_row():
    rows = 60
    logits, keys = logits_of(rows, 23), rows_of(rows)
    settings = {
        "temperature": [(0.0, 0.5, 1.0, 1.7)[i % 4] for i in range(rows)],
        "top_k": [(0, 1, 5, 40)[i // 4 % 4] for i in range(rows)],
        "top_p": [(1.0, 0.3, 0.9)[i % 3] for i in range(rows)],
    }
    have = sample_tokens(logits, **keys, **{k: torch.tensor(v) for k, v in settings.items()})
    want = sample_tokens_reference(logits, **{k: v.tolist() for k, v in keys.items()}, **settings)
    assert torch.equal(have.tokens, want.tokens)
    torch.testing.assert_close(have.logprobs, want.logprobs)


def test_noise_is_finite_at_both_ends():
    seeds, positions = torch.arange(2000)[:, None], torch.zeros(2000, 1, dtype=torch.int64)
    noise = _gumbel(seeds, positions, torch.empty(6, 2000, 1000, dtype=torch.int64), out=torch.empty(2000, 1000))
    assert noise.isfinite().all()
    assert noise.min() > -2.82
    assert noise.max() < 16.64
    assert abs(float(noise.mean()) - 0.5772) < 0.005
    assert abs(float(noise.var()) - 1.6449) < 0.01


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(1.0, 0, 1.0), (0.7, 0, 1.0), (1.0, 4, 1.0), (1.3, 5, 0.8)]
)
def test_chi_square_against_the_softmax(temperature, top_k, top_p):
    draws, vocab = 20_000, 8
    logits = torch.tensor([0.3, -1.0, 1.2, 0.0, 2.0, -0.4, 0.9, 0.1])
    probs = (logits / temperature).softmax(-1)
    order = probs.argsort(descending=True)[: top_k or vocab]
    before = (probs[order] / probs[order].sum()).cumsum(0) - probs[order] / probs[order].sum()
    kept = order[before < top_p]
    expected = torch.zeros(vocab).index_put((kept,), probs[kept] / probs[kept].sum()) * draws
    out = sample_tokens(
        logits.expand(draws, vocab), temperature=temperature, top_k=top_k, top_p=top_p,
        seeds=torch.full((draws,), 7), positions=torch.arange(draws),
    )  # fmt: skip
    counts = torch.bincount(out.tokens, minlength=vocab)
    assert (counts[expected == 0] == 0).all()
    live = expected > 0
    # 24.3 is the 99.9 % point for 7 degrees of freedom
    assert ((counts - expected)[live] ** 2 / expected[live]).sum() < 24.3
    torch.testing.assert_close(out.logprobs, probs.log()[out.tokens])


def test_draws_depend_on_seed_and_position_only():
    logits, keys = logits_of(50, 97), rows_of(50)
    whole = sample_tokens(logits, temperature=1.0, **keys)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    for rows in (order, order[:7], torch.tensor([31])):
        part = sample_tokens(logits[rows], temperature=1.0, **{k: v[rows] for k, v in keys.items()})
        assert torch.equal(part.tokens, whole.tokens[rows])
    flat = torch.zeros(200, 97)
    same = {"seeds": torch.full((200,), 3), "positions": torch.full((200,), 5)}
    assert len(set(sample_tokens(flat, temperature=1.0, **same).tokens.tolist())) == 1
    for name in same:
        varied = same | {name: torch.arange(200)}
        assert len(set(sample_tokens(flat, temperature=1.0, **varied).tokens.tolist())) > 60
    high = same | {"seeds": torch.arange(200) << 32}
    assert len(set(sample_tokens(flat, temperature=1.0, **high).tokens.tolist())) > 60


def test_temperature_zero_is_argmax_and_the_lowest_id_wins():
    logits = logits_of(6, 40)
    logits[0, [5, 9, 30]] = 50.0
    logits[1] = 0.0
    out = sample_tokens(logits, temperature=0, **rows_of(6))
    assert out.tokens[:2].tolist() == [5, 0]
    assert torch.equal(out.tokens[2:], logits[2:].argmax(-1))
    torch.testing.assert_close(out.logprobs, logits.log_softmax(-1).gather(1, out.tokens[:, None])[:, 0])
    mixed = sample_tokens(logits, temperature=torch.tensor([0.0, 0.0, 0, 0, 1, 1]), **rows_of(6))
    assert torch.equal(mixed.tokens[:4], out.tokens[:4])


def test_top_k_keeps_exactly_k_of_equals_and_top_k_one_is_argmax():
    flat = torch.zeros(500, 12)
    keys = {"seeds": torch.arange(500), "positions": torch.zeros(500, dtype=torch.int32)}
    assert set(sample_tokens(flat, temperature=1.0, top_k=3, **keys).tokens.tolist()) == {0, 1, 2}
    logits = logits_of(30, 12)
    assert torch.equal(sample_tokens(logits, temperature=2.0, top_k=1, **rows_of(30)).tokens, logits.argmax(-1))
    assert torch.equal(sample_tokens(logits, temperature=2.0, top_p=1e-6, **rows_of(30)).tokens, logits.argmax(-1))


def test_scalars_and_tensors_agree():
    logits, keys = logits_of(40, 33), rows_of(40)
    scalar = sample_tokens(logits, temperature=0.8, top_k=9, top_p=0.7, **keys)
    settings = {"temperature": torch.full((40,), 0.8), "top_k": torch.full((40,), 9), "top_p": torch.full((40,), 0.7)}
    tensor = sample_tokens(logits, **settings, **keys)
    assert torch.equal(scalar.tokens, tensor.tokens)
    assert torch.equal(scalar.logprobs, tensor.logprobs)


@pytest.mark.parametrize("block", [1, 97 * 7])
def test_rows_are_drawn_in_blocks(block, monkeypatch):
    logits, keys = logits_of(50, 97), rows_of(50)
    whole = sample_tokens(logits, temperature=1.0, **keys)
    monkeypatch.setattr(sampling, "_BLOCK", block)
    assert torch.equal(sample_tokens(logits, temperature=1.0, **keys).tokens, whole.tokens)


def test_large_vocabulary():
    vocab = 151_936
    logits = torch.zeros(2, vocab, dtype=torch.bfloat16)
    logits[:, vocab - 1] = 40
    out = sample_tokens(logits, temperature=1.0, seeds=torch.tensor([1, -1]), positions=torch.tensor([0, 1]))
    assert out.tokens.tolist() == [vocab - 1] * 2
    assert out.logprobs.dtype == torch.float32


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("cuts", [{}, {"top_k": (0, 1, 20, 1000), "top_p": (1.0, 0.8, 0.95)}], ids=["all", "cut"])
def test_cuda_draws_what_the_cpu_draws_and_never_waits(cuts, dtype):
    rows, vocab = 64, 151_937
    logits = (logits_of(rows, vocab) * 2).to(dtype)
    values = cuts | {"temperature": (0.0, 0.7, 1.0, 1.0, 1.3)}
    settings = {name: torch.tensor(value).repeat(rows)[:rows] for name, value in values.items()} | rows_of(rows)
    want = sample_tokens(logits, **settings)
    settings = {name: value.cuda() for name, value in settings.items()}
    logits = logits.cuda()
    try:
        torch.cuda.set_sync_debug_mode("error")
        have = sample_tokens(logits, **settings)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(have.tokens.cpu(), want.tokens)
    torch.testing.assert_close(have.logprobs.cpu(), want.logprobs, rtol=0, atol=1e-5)


@pytest.mark.gpu
def test_cuda_numbers_tensors_and_graphs_agree():
    logits, keys = logits_of(40, 5000).cuda(), {name: value.cuda() for name, value in rows_of(40).items()}
    numbers = {"temperature": 0.8, "top_k": 9, "top_p": 0.7}
    tensors = {name: torch.full((40,), value, device="cuda") for name, value in numbers.items()}
    want = sample_tokens(logits, **tensors, **keys)
    graph = torch.cuda.CUDAGraph()
    have = sample_tokens(logits, **numbers, **keys)
    with torch.cuda.graph(graph):
        replayed = sample_tokens(logits, **numbers, **keys)
    graph.replay()
    for out in (have, replayed):
        assert torch.equal(out.tokens, want.tokens)
        assert torch.equal(out.logprobs, want.logprobs)


WRONG = {
    "top_k must hold integers, not 2.5": {"top_k": 2.5},
    "top_k must hold integers, not torch.float32": {"top_k": torch.ones(3)},
    "temperature is a list": {"temperature": [1.0, 1.0, 1.0]},
    "logits have no columns": {"logits": torch.zeros(3, 0)},
    r"logits has shape \[5\]": {"logits": torch.zeros(5)},
    "logits is torch.int64": {"logits": torch.zeros(3, 5, dtype=torch.int64)},
    "seeds is torch.int32": {"seeds": torch.zeros(3, dtype=torch.int32)},
    "positions has shape": {"positions": torch.zeros(2, dtype=torch.int64)},
    "temperature=-1.0 must be 0 or more": {"temperature": -1.0},
    "temperature=-2.0 must be 0 or more": {"temperature": torch.tensor([1.0, -2.0, 1.0])},
    "top_k=-1 must be 0": {"top_k": -1},
    "top_p=0 must be above 0": {"top_p": 0},
    "top_p=1.5 must be above 0": {"top_p": torch.tensor([1.0, 1.5, 1.0])},
    "top_p has shape": {"top_p": torch.ones(2)},
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_arguments_raise(message):
    with pytest.raises(ValueError, match=message):
        sample_tokens(**{"logits": torch.zeros(3, 5), "temperature": 1.0} | rows_of(3) | WRONG[message])
