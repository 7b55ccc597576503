"""The sampling kernels against the CPU path: sums of blocks, random numbers, draws, and what a draw may depend on."""

import pytest
import torch

pytest.importorskip("triton")
import triton
import triton.language as tl

from corl_kernels import blocks, cuts, vocabulary_slice
from corl_kernels.jit import cuts as jit_cuts
from corl_kernels.jit import sampling
from corl_kernels.jit.sampling import _uniform
from corl_kernels.philox import uniforms
from corl_kernels.sampling import Ranks, draw_tokens

INF, NAN = float("inf"), float("nan")


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """Rows of several programs."""
    monkeypatch.setattr(sampling, "_TILE", 2)
    monkeypatch.setattr(jit_cuts, "_TILE", 1)
    monkeypatch.setattr(jit_cuts, "_TILES", 2)


def logits_of(rows, vocab, kind="random"):
    gen = torch.Generator().manual_seed(rows * vocab)
    if kind == "ties":
        return torch.randint(-2, 3, (rows, vocab), generator=gen).float()
    return torch.randn(rows, vocab, generator=gen) * 3


def settings_of(rows, *, temperature=(0.0, 0.7, 1.0), start=0, **limits):
    """The given values in turn, and a seed (of both signs) and a position for each row."""
    ids = torch.arange(start, start + rows)
    values = {"temperature": temperature} | limits
    return {name: torch.tensor(value)[ids % len(value)] for name, value in values.items()} | {
        "seeds": ids * 0x9E3779B97F4A7C15 % 2**63 - 2**62,
        "positions": ids * 3 + 2**31,
    }


def launch(logits, settings, device, **more):
    tensors = {name: value.to(device) for name, value in settings.items()}
    return [out.cpu() for out in draw_tokens(sampling, jit_cuts, logits.to(device), **tensors, **more)]


def assert_like_the_cpu_path(logits, settings, device):
    want = draw_tokens(blocks, cuts, logits.cpu(), **settings)
    tokens, logprobs = launch(logits, settings, device)
    assert tokens.dtype == torch.int64
    assert tokens.tolist() == want.tokens.tolist()
    torch.testing.assert_close(logprobs, want.logprobs, rtol=0, atol=1e-5, equal_nan=True)


@triton.jit
def _uniforms_kernel(seeds_ptr, positions_ptr, out_ptr):
    row = tl.program_id(0)
    tl.store(out_ptr + row, _uniform(tl.load(seeds_ptr + row), tl.load(positions_ptr + row)))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_random_numbers_are_those_of_the_cpu_path(dtype, device):
    seeds = torch.tensor([0, 1, -1, 7 << 32, -(2**63), 2**63 - 1, 0x1234567890ABCDEF])
    last = 2**31 - 1 if dtype == torch.int32 else 2**32 - 1
    positions = torch.tensor([0, 1, 2, 77, 2**31 - 1, last, last])
    out = torch.zeros(len(seeds), dtype=torch.float64, device=device)
    _uniforms_kernel[(len(seeds),)](seeds.to(device), positions.to(device, dtype), out)
    assert torch.equal(out.cpu(), uniforms(seeds, positions))


@pytest.mark.parametrize("vocab", [1, 127, 129, 700])
def test_sums_of_blocks_are_those_of_the_cpu_path(vocab, device):
    logits, temperature, count = logits_of(3, vocab) * 5, torch.tensor([0.0, 0.3, 2.0]), -(-vocab // 128)
    peaks, sums = sampling.block_statistics(logits.to(device), temperature.to(device), count).cpu().unbind(1)
    wanted = blocks.block_statistics(logits, temperature, count)
    assert torch.equal(peaks, wanted[:, 0])
    torch.testing.assert_close(sums, wanted[:, 1], rtol=2e-6, atol=0)
    values = torch.nn.functional.pad(logits.double(), (0, count * 128 - vocab), value=-INF).view(3, count, 128)
    scale = torch.tensor([1.0, 1 / 0.3, 0.5]).double()[:, None, None]
    exact = ((values - values.amax(-1, keepdim=True)) * scale).exp().sum(-1)
    torch.testing.assert_close(sums.double(), exact, rtol=2e-6, atol=0)


@pytest.mark.parametrize("vocab", [1, 2, 37, 127, 128, 129, 257, 1000])
def test_draws_without_cuts(vocab, device):
    assert_like_the_cpu_path(logits_of(3, vocab), settings_of(3), device)


@pytest.mark.parametrize(("vocab", "kind"), [(1, "random"), (130, "random"), (130, "ties"), (701, "random")])
def test_draws_with_cuts(vocab, kind, device):
    limits = {"top_k": (0, 1, 2, 5, vocab), "top_p": (1.0, 1e-6, 0.3, 0.9)}
    assert_like_the_cpu_path(logits_of(8, vocab, kind), settings_of(8, temperature=(0.7, 1.0, 0.0), **limits), device)


def test_ties_between_blocks_go_to_the_lowest_id(device):
    logits = torch.zeros(3, 384)
    logits[1, [127, 128, 256]] = 5.0
    logits[2] = -1.0
    logits[2, [131, 256]] = torch.tensor([-0.0, 0.0])
    tokens, _ = launch(logits, settings_of(3, temperature=(0.0,)), device)
    assert tokens.tolist() == [0, 127, 131]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy on NaN, under the interpreter
@pytest.mark.parametrize("limits", [{}, {"top_k": (3, 0), "top_p": (0.8,)}], ids=["all", "cut"])
def test_extreme_logits(limits, device):
    logits = logits_of(12, 300)
    logits[0] *= 1e4
    logits[1, 100] = 1e4
    logits[2] -= 1e4
    logits[3, :128] = -INF
    logits[4, 1:] = -INF
    logits[5] = -INF
    logits[6, [70, 290]] = INF
    logits[7, [180, 220]] = NAN
    logits[8, 128:256] = -NAN
    logits[9, 40], logits[9, 299] = INF, NAN
    logits[10, [3, 200]] = torch.tensor([3.4e38, -3.4e38])
    logits[11] = NAN
    assert_like_the_cpu_path(logits, settings_of(12, temperature=(1.0,), **limits), device)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_extreme_temperatures(device):
    logits = logits_of(4, 140)
    logits[:, ::2] = -INF
    assert_like_the_cpu_path(logits, settings_of(4, temperature=(1e-44, INF, 1e-20, 1e20)), device)


def test_any_strides_and_dtypes(device):
    settings = settings_of(2, temperature=(0.7,), top_k=(7, 0), top_p=(1.0, 0.9))
    wide = logits_of(2, 200).to(device)
    for logits in (wide[:, 3:190], wide[:, ::2], wide.t().contiguous().t(), wide.half(), wide.double()):
        assert_like_the_cpu_path(logits, settings, device)
    spread = {name: value.repeat_interleave(2)[::2] for name, value in settings.items()}
    assert_like_the_cpu_path(wide, spread, device)


def test_a_row_alone_has_the_bits_it_has_in_a_batch(device):
    logits, settings = logits_of(5, 150), settings_of(5, top_k=(9, 0), top_p=(1.0, 0.7, 1.0))
    tokens, logprobs = launch(logits, settings, device)
    uncut = {name: value for name, value in settings.items() if not name.startswith("top")}
    plain, whole = launch(logits, uncut, device), (settings["top_k"] == 0) & (settings["top_p"] == 1)
    assert whole.any() and torch.equal(plain[0][whole], tokens[whole])
    assert torch.equal(plain[1][whole], logprobs[whole])
    for rows in ([1], [4, 3]):
        part = launch(logits[rows], {name: value[rows] for name, value in settings.items()}, device)
        assert torch.equal(part[0], tokens[rows])
        assert torch.equal(part[1], logprobs[rows])


def test_slices_draw_what_the_whole_draws(device):
    """One rank after the other: what they exchange is known from a draw of the whole."""
    vocab, size = 300, 2
    logits, settings = logits_of(4, vocab), settings_of(4)
    tokens, logprobs = launch(logits, settings, device)
    temperature = settings["temperature"]
    slices = [vocabulary_slice(vocab, rank, size) for rank in range(size)]
    own = [logits[:, first : first + count] for first, count in slices]
    parts = torch.stack([sampling.block_statistics(x.to(device), temperature.to(device), 2) for x in own])
    found = torch.zeros(2, 4, dtype=torch.float64)
    for rank in range(size):
        # first the statistics, then what this rank drew, of which the other ranks have nothing
        answers = iter((lambda x: parts, lambda x: torch.stack((x, torch.zeros_like(x)))))
        ranks = Ranks(vocab, rank, size, lambda x, answers=answers: next(answers)(x))
        found += torch.stack([out.double() for out in launch(own[rank], settings, device, ranks=ranks)])
    assert found[0].tolist() == tokens.tolist()
    assert torch.equal(found[1].float(), logprobs)


def test_frequencies_are_those_of_the_softmax(device):
    draws = 20_000 if device == "cuda" else 60
    logits = torch.tensor([0.3, -0.5, 1.2, 0.0])
    tokens, _ = launch(logits.expand(draws, 4), settings_of(draws, temperature=(1.5,), start=1000), device)
    expected = (logits / 1.5).softmax(-1) * draws
    # 16.3 is the 99.9 % point for 3 degrees of freedom
    assert ((torch.bincount(tokens, minlength=4) - expected) ** 2 / expected).sum() < 16.3


@pytest.mark.slow
def test_a_thousand_rows_draw_what_the_cpu_path_draws(device):
    """Tokens may differ where the uniform number lies within 1e-5 of a border: at most one row in 1,000."""
    rows, vocab = 1000, 257
    logits = logits_of(rows, vocab)
    settings = settings_of(rows, temperature=(0.5, 1.0, 1.7))
    want = draw_tokens(blocks, cuts, logits, **settings)
    tokens, logprobs = launch(logits, settings, device)
    differ = tokens != want.tokens
    probs = (logits.double() / settings["temperature"][:, None]).softmax(-1)
    until = probs.cumsum(-1)
    uniform = uniforms(settings["seeds"], settings["positions"])
    gap = (until - uniform[:, None]).abs().amin(-1)
    print(f"{int(differ.sum())} of {rows} rows differ")
    assert differ.sum() <= rows // 1000
    assert (gap[differ] < 1e-5).all()
    torch.testing.assert_close(logprobs[~differ], want.logprobs[~differ], rtol=0, atol=1e-5)


def test_the_number_of_rows_recompiles_nothing(launches, device):
    logits = logits_of(16, 150)
    for rows in (1, 3, 16):
        # no row is cut, so the searches are over at once and their rounds are left out
        launch(logits[:rows], settings_of(rows, temperature=(1.0,), top_k=(0,), top_p=(1.0,)), device)
    assert len(set(launches)) == len(launches) / 3
