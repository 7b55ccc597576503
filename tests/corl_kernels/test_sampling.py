"""sample_tokens: the distribution, what a draw may depend on, and borders."""

import pytest
import torch

from corl_kernels import blocks, sample_tokens
from corl_kernels.philox import uniforms
from corl_kernels.sampling import sample_tokens_reference

INF, NAN = float("inf"), float("nan")


def logits_of(rows, vocab, seed=0):
    return torch.randn(rows, vocab, generator=torch.Generator().manual_seed(seed)) * 2


def rows_of(rows):
    seeds = torch.arange(rows) * 0x9E3779B97F4A7C15 % 2**63 - 2**62
    return {"seeds": seeds, "positions": torch.arange(rows) * 3 + 1}


def settings_of(rows):
    return {
        "temperature": [(0.0, 0.5, 1.0, 1.7)[i % 4] for i in range(rows)],
        "top_k": [(0, 1, 5, 40)[i // 4 % 4] for i in range(rows)],
        "top_p": [(1.0, 0.3, 0.9)[i % 3] for i in range(rows)],
    }


@pytest.mark.parametrize("vocab", [1, 2, 23, 127, 128, 129, 255, 257, 1009])
def test_matches_the_reference_row_by_row(vocab):
    rows = 60
    logits, keys, settings = logits_of(rows, vocab), rows_of(rows), settings_of(rows)
    have = sample_tokens(logits, **keys, **{k: torch.tensor(v) for k, v in settings.items()})
    want = sample_tokens_reference(logits, **{k: v.tolist() for k, v in keys.items()}, **settings)
    assert torch.equal(have.tokens, want.tokens)
    torch.testing.assert_close(have.logprobs, want.logprobs)


def border_gaps(logits, temperature, keys, tokens):
    """How far outside the interval of its token, in fp64, each row's uniform number lies; 0 inside."""
    probs = (logits.double() / temperature[:, None].double()).softmax(-1)
    until = probs.cumsum(-1).gather(1, tokens[:, None])[:, 0]
    uniform = uniforms(**keys)
    return torch.maximum(uniform - until, until - probs.gather(1, tokens[:, None])[:, 0] - uniform).clamp(min=0)


def test_tokens_are_those_of_the_fp64_distribution_function():
    rows, vocab = 3000, 2311
    logits, keys = logits_of(rows, vocab), rows_of(rows)
    temperature = torch.tensor([0.5, 1.0, 1.7]).repeat(rows // 3)
    gaps = border_gaps(logits, temperature, keys, sample_tokens(logits, temperature=temperature, **keys).tokens)
    assert gaps.max() < 1e-6
    assert (gaps > 0).sum() <= rows // 1000


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
    for seeds, positions in (
        (torch.full((draws,), 7), torch.arange(draws)),
        (torch.arange(draws), torch.full((draws,), 7)),
    ):
        out = sample_tokens(
            logits.expand(draws, vocab), temperature=temperature, top_k=top_k, top_p=top_p,
            seeds=seeds, positions=positions,
        )  # fmt: skip
        counts = torch.bincount(out.tokens, minlength=vocab)
        assert (counts[expected == 0] == 0).all()
        live = expected > 0
        # 24.3 is the 99.9 % point for 7 degrees of freedom
        assert ((counts - expected)[live] ** 2 / expected[live]).sum() < 24.3
        torch.testing.assert_close(out.logprobs, probs.log()[out.tokens])


def test_chi_square_over_several_blocks():
    draws, vocab = 60_000, 701
    logits = logits_of(1, vocab)[0]
    out = sample_tokens(logits.expand(draws, vocab), temperature=1.0, seeds=torch.arange(draws), positions=torch.ones(
        draws, dtype=torch.int64))  # fmt: skip
    expected = logits.double().softmax(-1) * draws
    counts = torch.bincount(out.tokens, minlength=vocab)
    common = expected > 8
    statistic = float(((counts - expected)[common] ** 2 / expected[common]).sum())
    assert abs(statistic - int(common.sum())) < 4 * (2 * int(common.sum())) ** 0.5


def test_draws_depend_on_seed_and_position_only():
    logits, keys = logits_of(50, 297), rows_of(50)
    whole = sample_tokens(logits, temperature=1.0, **keys)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    for rows in (order, order[:7], torch.tensor([31])):
        part = sample_tokens(logits[rows], temperature=1.0, **{k: v[rows] for k, v in keys.items()})
        assert torch.equal(part.tokens, whole.tokens[rows])
        assert torch.equal(part.logprobs, whole.logprobs[rows])
    flat = torch.zeros(200, 97)
    same = {"seeds": torch.full((200,), 3), "positions": torch.full((200,), 5)}
    assert len(set(sample_tokens(flat, temperature=1.0, **same).tokens.tolist())) == 1
    for name in same:
        varied = same | {name: torch.arange(200)}
        assert len(set(sample_tokens(flat, temperature=1.0, **varied).tokens.tolist())) > 60
    high = same | {"seeds": torch.arange(200) << 32}
    assert len(set(sample_tokens(flat, temperature=1.0, **high).tokens.tolist())) > 60


@pytest.mark.parametrize("vocab", [61, 128, 1009, 3000])
@pytest.mark.parametrize("cut", [False, True], ids=["all", "cut"])
def test_bits_do_not_depend_on_batch_threads_or_strides(vocab, cut, monkeypatch):
    rows = 40
    logits, settings = logits_of(rows, vocab), settings_of(rows)
    state = {k: torch.tensor(v) for k, v in settings.items() if cut or k == "temperature"} | rows_of(rows)
    wanted = sample_tokens(logits, **state)
    threads = torch.get_num_threads()
    wide = torch.full((rows, vocab + 5), NAN)
    wide[:, 3 : vocab + 3] = logits
    layouts = (wide[:, 3 : vocab + 3], logits.t().contiguous().t(), logits.repeat_interleave(2, dim=1)[:, ::2])
    found = [sample_tokens(layout, **state) for layout in layouts]
    found.append(sample_tokens(logits.double(), **state))
    try:
        torch.set_num_threads(4)
        found.append(sample_tokens(logits, **state))
    finally:
        torch.set_num_threads(threads)
    monkeypatch.setattr(blocks, "_CHUNK", 700)
    found.append(sample_tokens(logits, **state))
    for start in (0, 17, 39):
        found.append(sample_tokens(logits[start:], **{k: v[start:] for k, v in state.items()}))
    for out in found:
        assert torch.equal(out.tokens, wanted.tokens[-len(out.tokens) :])
        assert torch.equal(out.logprobs, wanted.logprobs[-len(out.tokens) :])


@pytest.mark.parametrize("vocab", [300, 5000])
def test_rows_that_are_not_cut_draw_the_same_beside_rows_that_are(vocab):
    logits, keys = logits_of(60, vocab), rows_of(60)
    logits[::5, ::3] = -INF
    alone = sample_tokens(logits, temperature=1.2, **keys)
    top_k, top_p = torch.tensor([0, 3, vocab]).repeat(20), torch.tensor([1.0, 0.5, 1.0]).repeat(20)
    beside = sample_tokens(logits, temperature=1.2, top_k=top_k, top_p=top_p, **keys)
    for row in (0, 2):
        assert torch.equal(beside.tokens[row::3], alone.tokens[row::3])
        assert torch.equal(beside.logprobs[row::3], alone.logprobs[row::3])
    assert not torch.equal(beside.tokens[1::3], alone.tokens[1::3])


def test_temperature_zero_is_argmax_and_the_lowest_id_wins():
    logits = logits_of(6, 340)
    logits[0, [5, 9, 330]] = 50.0
    logits[1] = 0.0
    out = sample_tokens(logits, temperature=0, **rows_of(6))
    assert out.tokens[:2].tolist() == [5, 0]
    assert torch.equal(out.tokens[2:], logits[2:].argmax(-1))
    torch.testing.assert_close(out.logprobs, logits.log_softmax(-1).gather(1, out.tokens[:, None])[:, 0])
    mixed = sample_tokens(logits, temperature=torch.tensor([0.0, 0.0, 0, 0, 1, 1]), **rows_of(6))
    assert torch.equal(mixed.tokens[:4], out.tokens[:4])


@pytest.mark.parametrize("cuts", [{}, {"top_k": 3, "top_p": 0.8}], ids=["all", "cut"])
@pytest.mark.parametrize("vocab", [300, 3000])
def test_rows_that_are_no_distribution_give_their_argmax(vocab, cuts):
    logits = logits_of(8, vocab)
    logits[0, [70, 290]] = INF
    logits[1, [180, 220]] = NAN
    logits[2, 40], logits[2, 299] = INF, NAN
    logits[3] = -INF
    logits[4, 128:256] = -NAN
    logits[5] = NAN
    out = sample_tokens(logits, temperature=0.7, **rows_of(8), **cuts)
    assert out.tokens[:6].tolist() == [70, 180, 299, 0, 128, 0]
    assert out.logprobs[:6].isnan().all() and not out.logprobs[6:].isnan().any()


def test_a_token_of_probability_zero_is_never_drawn():
    rows, vocab = 2000, 400
    keys = {"seeds": torch.arange(rows), "positions": torch.zeros(rows, dtype=torch.int32)}
    logits = torch.full((rows, vocab), -INF)
    logits[:, [130, 131, 399]] = torch.tensor([0.0, -1.0, 1.0])
    out = sample_tokens(logits, temperature=1.0, **keys)
    assert set(out.tokens.tolist()) == {130, 131, 399}
    assert out.logprobs.isfinite().all()
    alone = torch.full((rows, vocab), -INF)
    alone[:, 257] = -3e38
    for cuts in ({}, {"top_k": 5, "top_p": 0.9}):
        drawn = sample_tokens(alone, temperature=0.3, **keys, **cuts)
        assert (drawn.tokens == 257).all() and (drawn.logprobs == 0).all()


@pytest.mark.parametrize("uniform", [0.0, 2.0**-53, 1 - 2.0**-53])
def test_the_ends_of_the_unit_interval_draw_the_ends_of_the_support(uniform, monkeypatch):
    logits = torch.full((300, 400), -INF)
    logits[:, 140:390] = logits_of(300, 250) * 5
    drawn = torch.full((300,), uniform, dtype=torch.float64)
    monkeypatch.setattr(blocks, "uniforms", lambda seeds, positions: drawn)
    tokens = sample_tokens(logits, temperature=1.0, **rows_of(300)).tokens
    assert (logits.gather(1, tokens[:, None]) > -INF).all()
    # at the upper end tokens of less than 2^-53 may be passed over, and no others
    probs = logits.double().softmax(-1)
    outside = probs.cumsum(-1).gather(1, tokens[:, None])[:, 0] - probs.gather(1, tokens[:, None])[:, 0]
    if uniform == 1 - 2.0**-53:
        outside = 1 - probs.cumsum(-1).gather(1, tokens[:, None])[:, 0]
    assert outside.abs().max() < 1e-7


def test_extreme_temperatures():
    logits = logits_of(40, 300)
    cold = sample_tokens(logits, temperature=1e-44, **rows_of(40))
    assert torch.equal(cold.tokens, logits.argmax(-1))
    logits[:, ::2] = -INF
    hot = sample_tokens(logits, temperature=INF, **rows_of(40))
    assert (hot.tokens % 2 == 1).all()
    torch.testing.assert_close(hot.logprobs, torch.full((40,), 1 / 150).log())


def test_top_k_keeps_exactly_k_of_equals_and_top_k_one_is_argmax():
    flat = torch.zeros(500, 12)
    keys = {"seeds": torch.arange(500), "positions": torch.zeros(500, dtype=torch.int32)}
    assert set(sample_tokens(flat, temperature=1.0, top_k=3, **keys).tokens.tolist()) == {0, 1, 2}
    logits = logits_of(30, 12)
    assert torch.equal(sample_tokens(logits, temperature=2.0, top_k=1, **rows_of(30)).tokens, logits.argmax(-1))
    assert torch.equal(sample_tokens(logits, temperature=2.0, top_p=1e-6, **rows_of(30)).tokens, logits.argmax(-1))
    # over more blocks than one: the third of the equals lies in another block than the second
    spread = torch.zeros(500, 2500)
    spread[:, [5, 127, 128, 2400]] = 9.0
    assert set(sample_tokens(spread, temperature=1.0, top_k=3, **keys).tokens.tolist()) == {5, 127, 128}


def test_scalars_and_tensors_agree():
    logits, keys = logits_of(40, 33), rows_of(40)
    scalar = sample_tokens(logits, temperature=0.8, top_k=9, top_p=0.7, **keys)
    settings = {"temperature": torch.full((40,), 0.8), "top_k": torch.full((40,), 9), "top_p": torch.full((40,), 0.7)}
    tensor = sample_tokens(logits, **settings, **keys)
    assert torch.equal(scalar.tokens, tensor.tokens)
    assert torch.equal(scalar.logprobs, tensor.logprobs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_other_dtypes_draw_what_their_fp32_values_draw(dtype):
    logits, keys = logits_of(40, 700).to(dtype), rows_of(40)
    for cuts in ({}, {"top_k": 9, "top_p": 0.7}):
        have = sample_tokens(logits, temperature=0.8, **keys, **cuts)
        want = sample_tokens(logits.float(), temperature=0.8, **keys, **cuts)
        assert torch.equal(have.tokens, want.tokens) and torch.equal(have.logprobs, want.logprobs)


def test_no_rows_give_no_tokens():
    empty = torch.zeros(0, dtype=torch.int64)
    for vocab, cuts in ((5, {}), (5, {"top_k": 2}), (3000, {"top_k": 2, "top_p": 0.5})):
        out = sample_tokens(torch.zeros(0, vocab), temperature=1.0, seeds=empty, positions=empty, **cuts)
        assert out.tokens.shape == out.logprobs.shape == (0,)


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
    tokens = have.tokens.cpu()
    assert (tokens != want.tokens).sum() <= 1  # a uniform number may lie within rounding of a border
    same = tokens == want.tokens
    torch.testing.assert_close(have.logprobs.cpu()[same], want.logprobs[same], rtol=0, atol=1e-5)


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
    "logits have 4194304 columns": {"logits": torch.zeros(1).expand(3, 1 << 22)},
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
