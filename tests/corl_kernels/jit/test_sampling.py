"""The sampling kernels against the CPU path: the random words, the cuts, the draws, and what a draw may depend on."""

import pytest
import torch

pytest.importorskip("triton")
import triton
import triton.language as tl

from corl_kernels import sample_tokens
from corl_kernels.jit import sampling
from corl_kernels.jit.sampling import _gumbel, _random_words, launch_cut, launch_sample_tokens
from corl_kernels.sampling import _gumbel as noise_of
from corl_kernels.sampling import _kept, random_words

SPLIT = 128
INF, NAN = float("inf"), float("nan")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Rows of several splits and blocks; wide steps of the searches, because the interpreter pays per pass."""
    monkeypatch.setattr(sampling, "_SPLIT", SPLIT)
    monkeypatch.setattr(sampling, "_SEARCH_BLOCK", 256)
    monkeypatch.setattr(sampling, "_RUNG_BITS", 6)


def logits_of(rows, vocab, kind="random"):
    gen = torch.Generator().manual_seed(rows * vocab)
    if kind == "ties":
        return torch.randint(-2, 3, (rows, vocab), generator=gen).float()
    return torch.randn(rows, vocab, generator=gen) * 3


def settings_of(rows, *, temperature=(0.0, 0.7, 1.0), start=0, **cuts):
    """The given values in turn, and a seed (of both signs) and a position for each row."""
    ids = torch.arange(start, start + rows)
    values = {"temperature": temperature} | cuts
    return {name: torch.tensor(value)[ids % len(value)] for name, value in values.items()} | {
        "seeds": ids * 0x9E3779B97F4A7C15 % 2**63 - 2**62,
        "positions": ids * 3 + 2**31,
    }


def launch(logits, settings, device):
    tensors = {name: value.to(device) for name, value in settings.items()}
    return [out.cpu() for out in launch_sample_tokens(logits.to(device), **tensors)]


def assert_like_the_cpu_path(logits, settings, device):
    want = sample_tokens(logits.cpu(), **settings)
    tokens, logprobs = launch(logits, settings, device)
    assert tokens.dtype == torch.int64
    assert tokens.tolist() == want.tokens.tolist()
    torch.testing.assert_close(logprobs, want.logprobs, rtol=0, atol=1e-5, equal_nan=True)


@triton.jit
def _noise_kernel(seeds_ptr, positions_ptr, words_ptr, noise_ptr, VOCAB: tl.constexpr):
    row = tl.program_id(0)
    ids = tl.arange(0, VOCAB)
    words = _random_words(ids, tl.load(seeds_ptr + row), tl.load(positions_ptr + row))
    tl.store(words_ptr + row * VOCAB + ids, words.to(tl.int64))
    tl.store(noise_ptr + row * VOCAB + ids, _gumbel(words))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_noise_is_that_of_the_cpu_path(dtype, device):
    seeds = torch.tensor([0, 1, -1, 7 << 32, -(2**63), 2**63 - 1])
    positions = torch.tensor([0, 1, 2, 77, 2**31 - 1, 2**31 - 1 if dtype == torch.int32 else 2**32 - 1])
    words = torch.zeros(len(seeds), 256, dtype=torch.int64, device=device)
    noise = torch.zeros(len(seeds), 256, device=device)
    _noise_kernel[(len(seeds),)](seeds.to(device), positions.to(device, dtype), words, noise, VOCAB=256)
    rows, scratch = (seeds[:, None], positions[:, None]), torch.empty(6, len(seeds), 256, dtype=torch.int64)
    assert torch.equal(words.cpu(), random_words(*rows, scratch))
    wanted = noise_of(*rows, scratch, out=torch.empty(len(seeds), 256))
    torch.testing.assert_close(noise.cpu(), wanted, rtol=1e-6, atol=1e-6)


def kept_by_the_kernel(logits, settings, device):
    names = ("temperature", "top_k", "top_p")
    cut = launch_cut(logits.to(device), *(settings[name].to(device) for name in names)).cpu()
    heat = settings["temperature"]
    scaled = logits.float() / torch.where(heat == 0, 1, heat)[:, None] + 0.0  # no -0
    bits = torch.where(scaled.isnan(), INF, scaled).view(torch.int32)
    image = torch.where(scaled.isnan(), 0x7FFFFFFF, bits ^ ((bits >> 31) & 0x7FFFFFFF)).long()
    size = 1 << (logits.shape[1] - 1).bit_length()
    return image * size + size - 1 - torch.arange(logits.shape[1]) >= cut[:, None], scaled


@pytest.mark.parametrize("kind", ["random", "ties"])
@pytest.mark.parametrize(
    ("top_k", "top_p"),
    [((0, 1, 2, 5, 300, 301), (1.0,)), ((0,), (1e-6, 0.3, 0.9, 0.9999)), ((100, 299), (0.5, 0.95, 1e-50))],
    ids=["k", "p", "both"],
)
def test_cuts_are_those_of_a_sort(kind, top_k, top_p, device):
    rows = max(len(top_k), len(top_p))
    logits = logits_of(rows, 300, kind)
    settings = settings_of(rows, temperature=(0.7, 1.0), top_k=top_k, top_p=top_p)
    kept, scaled = kept_by_the_kernel(logits, settings, device)
    assert torch.equal(kept, _kept(scaled, settings["top_k"], settings["top_p"]))


def test_cuts_in_the_default_steps(monkeypatch, device):
    monkeypatch.undo()
    logits = logits_of(1, 2100)
    settings = settings_of(1, temperature=(1.3,), top_k=(400,), top_p=(0.6,))
    kept, scaled = kept_by_the_kernel(logits, settings, device)
    assert torch.equal(kept, _kept(scaled, settings["top_k"], settings["top_p"]))


def test_equal_masses_are_cut_by_id(device):
    settings = settings_of(5, temperature=(1.0,), top_k=(0, 0, 0, 8, 2), top_p=(0.5, 0.51, 0.001, 0.5, 0.99))
    kept, _ = kept_by_the_kernel(torch.zeros(5, 16), settings, device)
    assert [row.nonzero().flatten().tolist() for row in kept] == [list(range(n)) for n in (8, 9, 1, 4, 2)]


def test_rows_that_cut_nothing_and_greedy_rows_are_not_searched(device):
    settings = settings_of(5, temperature=(1.0, 1.0, 0.5, 0.0, 0.0), top_k=(0, 40, 41, 3, 0), top_p=(1.0, 1, 1, 1, 0.1))
    kept, _ = kept_by_the_kernel(logits_of(5, 40), settings, device)
    assert kept.all()


@pytest.mark.parametrize("vocab", [1, 2, 37, SPLIT - 1, SPLIT, SPLIT + 1, 2 * SPLIT + 1, 1000])
def test_draws_without_cuts(vocab, device):
    assert_like_the_cpu_path(logits_of(3, vocab), settings_of(3), device)


@pytest.mark.parametrize(("vocab", "kind"), [(1, "random"), (130, "random"), (130, "ties")])
def test_draws_with_cuts(vocab, kind, device):
    cuts = {"top_k": (0, 1, 2, 5, vocab), "top_p": (1.0, 1e-6, 0.3, 0.9)}
    assert_like_the_cpu_path(logits_of(8, vocab, kind), settings_of(8, temperature=(0.7, 1.0, 0.0), **cuts), device)


def test_ties_between_splits_go_to_the_lowest_id(device):
    logits = torch.zeros(3, 3 * SPLIT)
    logits[1, [SPLIT - 1, SPLIT, 2 * SPLIT]] = 5.0
    logits[2] = -1.0
    logits[2, [SPLIT + 3, 2 * SPLIT]] = torch.tensor([-0.0, 0.0])
    tokens, _ = launch(logits, settings_of(3, temperature=(0.0,)), device)
    assert tokens.tolist() == [0, SPLIT - 1, SPLIT + 3]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy on NaN, under the interpreter
@pytest.mark.parametrize("cuts", [{}, {"top_k": (3, 0), "top_p": (0.8,)}], ids=["all", "cut"])
def test_extreme_logits(cuts, device):
    logits = logits_of(9, 150)
    logits[0] *= 1e4
    logits[1, 100] = 1e4
    logits[2] -= 1e4
    logits[3, :SPLIT] = -INF
    logits[4, 1:] = -INF
    logits[5] = -INF
    logits[6, [70, 90]] = INF
    logits[7, [80, 120]] = NAN
    logits[8, SPLIT : 2 * SPLIT] = -NAN
    assert_like_the_cpu_path(logits, settings_of(9, temperature=(1.0,), **cuts), device)


def test_any_strides_and_dtypes(device):
    settings = settings_of(2, temperature=(0.7,), top_k=(7, 0), top_p=(1.0, 0.9))
    wide = logits_of(2, 100).to(device)
    for logits in (wide[:, 3:90], wide[:, ::2], wide.t().contiguous().t(), wide.half(), wide.double()):
        assert_like_the_cpu_path(logits, settings, device)
    spread = {name: value.repeat_interleave(2)[::2] for name, value in settings.items()}
    assert_like_the_cpu_path(wide, spread, device)


def test_a_row_alone_has_the_bits_it_has_in_a_batch(device):
    logits, settings = logits_of(5, 150), settings_of(5, top_k=(9, 0), top_p=(1.0, 0.7, 1.0))
    tokens, logprobs = launch(logits, settings, device)
    for rows in ([1], [4, 3]):
        part = launch(logits[rows], {name: value[rows] for name, value in settings.items()}, device)
        assert torch.equal(part[0], tokens[rows])
        assert torch.equal(part[1], logprobs[rows])


def test_frequencies_are_those_of_the_softmax(device):
    draws = 20_000 if device == "cuda" else 60
    logits = torch.tensor([0.3, -0.5, 1.2, 0.0])
    tokens, _ = launch(logits.expand(draws, 4), settings_of(draws, temperature=(1.5,), start=1000), device)
    expected = (logits / 1.5).softmax(-1) * draws
    # 16.3 is the 99.9 % point for 3 degrees of freedom
    assert ((torch.bincount(tokens, minlength=4) - expected) ** 2 / expected).sum() < 16.3


def test_the_number_of_rows_recompiles_nothing(launches, device):
    logits = logits_of(16, 150)
    for rows in (1, 3, 16):
        launch(logits[:rows], settings_of(rows, top_k=(0,), top_p=(1.0,)), device)
    assert len(launches) == 9
    assert len(set(launches)) == 3
