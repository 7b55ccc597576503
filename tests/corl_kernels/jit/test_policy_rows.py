"""The row kernels, launched on a GPU or under the interpreter, against full logits and autograd in fp64."""

from dataclasses import replace

import pytest
import torch

from corl_kernels import PolicyObjective
from corl_kernels.checks import ELSEWHERE
from corl_kernels.jit import policy_rows
from corl_kernels.objective import TokenInputs, token_terms
from corl_kernels.policy_loss import linear_policy_loss_reference
from corl_kernels.rows import make_tokens

# V vocabulary, C rows of a chunk, n tokens in it
V, C, START, STOP = 37, 9, 3, 10
RESULTS = ("logprobs", "entropy", "shift", "logsum")
KINDS = {
    "reinforce": {"kind": "reinforce"},
    "grpo": {"kind": "grpo"},
    "grpo-dual": {"kind": "grpo", "dual_clip": 1.4},
    "grpo-sequence": {"kind": "grpo", "importance": "sequence", "clip_low": 0.02, "clip_high": 0.03},
    "gspo": {"kind": "gspo", "clip_low": 0.02, "clip_high": 0.03},
    "cispo": {"kind": "cispo"},
    "cispo-sequence": {"kind": "cispo", "importance": "sequence", "clip_high": 0.01},
}


@pytest.fixture(autouse=True)
def small_block(monkeypatch):
    """Three blocks a row, the last one partly outside the vocabulary."""
    monkeypatch.setattr(policy_rows, "_BLOCK", 16)


def make(device, *, per_token_temperature=True, peak=4.0, bias=None, softcap=None):
    """A chunk of logits with garbage below its tokens, the tokens' inputs, and sequences that cut them in two."""
    gen = torch.Generator().manual_seed(0)

    def randn(*shape):
        return torch.randn(*shape, generator=gen)

    logits = peak * randn(C, V)
    logits[STOP - START :] = float("nan")
    targets = torch.randint(0, V, (STOP + 2,), generator=gen)
    targets[START + 1] = -100
    temperature = 0.5 + torch.rand(STOP + 2, generator=gen) if per_token_temperature else None
    scale = 1 if temperature is None else temperature[START:STOP, None]
    picked = torch.where(targets == -100, 0, targets)[START:STOP, None]
    logprobs = (logits[: STOP - START] / scale).log_softmax(-1).gather(1, picked)[:, 0]
    old = torch.zeros(STOP + 2)
    old[START:STOP] = logprobs + 0.4 * randn(STOP - START)
    advantages = randn(STOP + 2)
    advantages[START + 2] = 0
    weights = torch.rand(STOP + 2, generator=gen)
    weights[START + 1] = weights[START + 3] = 0
    inputs = [advantages, weights, old, old + 0.5 * randn(STOP + 2), old + 0.5 * randn(STOP + 2)]
    padded = torch.full((C, 64), float("nan"), device=device)[:, :V]
    padded.copy_(logits)
    tokens = make_tokens(
        targets.to(device), None if temperature is None else temperature.to(device), bias, softcap, torch.float32
    )
    return padded, tokens, TokenInputs(*(x.to(device) for x in inputs))


def policy(logits, tokens, start, stop, inputs, objective, dtype):
    """The statistics, then dlogits [C, V] of a token-level objective: two launches."""
    policy_rows.statistics(logits, tokens, start, stop)
    return policy_rows.policy_gradient(logits, tokens, start, stop, inputs, objective, dtype)


def reference(logits, tokens, inputs, objective, cu_seqlens):
    """(logprobs, entropy, dlogits) of the chunk's tokens in fp64; an identity head makes dlogits a grad_hidden."""
    part = slice(START, STOP)
    rows = logits[: STOP - START].double().cpu().requires_grad_()
    advantages, weights, old, ref, rollout = (
        None if x is None else x[part].double().cpu()
        for x in (inputs.advantages, inputs.weights, inputs.old_logprobs, inputs.ref_logprobs, inputs.rollout_logprobs)
    )
    loss, logprobs, entropy = linear_policy_loss_reference(
        rows, torch.eye(V, dtype=torch.float64), tokens.targets[part].cpu(), advantages, weights, objective=objective,
        old_logprobs=old, ref_logprobs=ref, rollout_logprobs=rollout, cu_seqlens=cu_seqlens,
        temperature=1.0 if tokens.temperature is None else tokens.temperature[part].double().cpu(),
        bias=None if tokens.bias is None else tokens.bias.double().cpu(), softcap=tokens.softcap,
    )  # fmt: skip
    return logprobs, entropy, torch.autograd.grad(loss, rows)[0]


def launch(logits, tokens, inputs, objective, cu_seqlens, dtype=torch.float32):
    """dlogits [C, V] by the kernels alone, for sequence-level objectives with the slopes given."""
    if not objective.sequence_level:
        return policy(logits, tokens, START, STOP, inputs, objective, dtype)
    policy_rows.statistics(logits, tokens, START, STOP)
    part = slice(START, STOP)
    run = inputs.slice(START, STOP)
    offsets = cu_seqlens.to(logits.device)
    slope = token_terms(objective, tokens.logprobs[part], tokens.entropy[part], run, offsets)[1]
    bonus = -objective.entropy_coef * run.weights if objective.entropy_coef else None
    return policy_rows.gradient(logits, tokens, START, STOP, slope, bonus, dtype)


def assert_matches(have, want, tolerance=1e-5):
    want = want.to(have.device)
    torch.testing.assert_close(have.double(), want, rtol=tolerance, atol=tolerance * max(1.0, float(want.abs().max())))


@pytest.mark.parametrize("correction", [None, "truncate", "mask"])
@pytest.mark.parametrize("estimator", [None, "k1", "k2", "k3"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_objective_matches_autograd(device, monkeypatch, kind, estimator, correction):
    monkeypatch.setattr(policy_rows, "_BLOCK", 64)  # quicker; several blocks are below
    logits, tokens, inputs = make(device, per_token_temperature=estimator == "k3")
    objective = PolicyObjective(
        **KINDS[kind],
        kl_coef=0.3 if estimator else 0.0,
        kl_estimator=estimator or "k3",
        rollout_correction=correction,
        rollout_cap=1.3,
        entropy_coef=0.05 if estimator in (None, "k2") else 0.0,
    )
    cu_seqlens = torch.tensor([0, 3, STOP - START])
    want = reference(logits, tokens, inputs, objective, cu_seqlens)
    dlogits = launch(logits, tokens, inputs, objective, cu_seqlens)
    part = slice(START, STOP)
    for have, expected in zip((tokens.logprobs[part], tokens.entropy[part], dlogits), want, strict=True):
        assert_matches(have[: STOP - START], expected)
    assert (dlogits[STOP - START :] == 0).all()
    outside = torch.ones(STOP + 2, dtype=torch.bool, device=device)
    outside[part] = False
    assert (tokens.logprobs[outside] == 0).all()


@pytest.mark.parametrize("own", [False, True], ids=["old", "own"])
@pytest.mark.parametrize("kind", ["grpo", "cispo"])
def test_several_blocks_a_row(device, kind, own):
    objective = PolicyObjective(kind, entropy_coef=0.1 if kind == "grpo" else 0.0)
    logits, tokens, inputs = make(device)
    if own:
        inputs = TokenInputs(inputs.advantages, inputs.weights, None, None, None)
    want = reference(logits, tokens, inputs, objective, None)
    dlogits = launch(logits, tokens, inputs, objective, None)
    assert_matches(tokens.logprobs[START:STOP], want[0])
    assert_matches(tokens.entropy[START:STOP], want[1])
    assert_matches(dlogits[: STOP - START], want[2])


@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("block", [16, 64])
def test_bias_and_softcap(device, monkeypatch, block, biased, softcap):
    monkeypatch.setattr(policy_rows, "_BLOCK", block)
    bias = torch.linspace(-2, 3, V, device=device) if biased else None
    logits, tokens, inputs = make(device, bias=bias, softcap=softcap)
    objective = PolicyObjective("grpo", entropy_coef=0.1, clip_low=9, clip_high=9)
    want = reference(logits, tokens, inputs, objective, None)
    dlogits = launch(logits, tokens, inputs, objective, None)
    for have, expected in zip((tokens.logprobs[START:STOP], tokens.entropy[START:STOP], dlogits), want, strict=True):
        assert_matches(have[: STOP - START], expected)


@pytest.mark.parametrize("block", [16, 64])
def test_a_bias_of_minus_infinity_leaves_tokens_out(device, monkeypatch, block):
    monkeypatch.setattr(policy_rows, "_BLOCK", block)
    bias = torch.zeros(V, device=device)
    bias[20:] = float("-inf")  # a whole block of 16 among them
    logits, tokens, inputs = make(device, bias=bias)
    tokens.targets.clamp_(max=19)
    objective = PolicyObjective("grpo", entropy_coef=0.1, clip_low=9, clip_high=9)
    kept = replace(tokens, bias=None, **{name: getattr(tokens, name).clone() for name in RESULTS})
    want = launch(logits[:, :20].clone(), kept, inputs, objective, None)
    dlogits = launch(logits, tokens, inputs, objective, None)
    for name in RESULTS:
        assert_matches(getattr(tokens, name)[START:STOP], getattr(kept, name)[START:STOP].double())
    assert_matches(dlogits[: STOP - START, :20], want[: STOP - START].double())
    assert (dlogits[: STOP - START, 20:] == 0).all()


def test_a_target_another_rank_holds_gets_no_gradient_here(device):
    logits, tokens, _ = make(device)
    policy_rows.statistics(logits, tokens, START, STOP)
    elsewhere, ones = replace(tokens, targets=tokens.targets.clone()), torch.ones(STOP - START, device=device)
    elsewhere.targets[START] = ELSEWHERE
    here, there = (
        policy_rows.gradient(logits.clone(), t, START, STOP, ones, None, torch.float32) for t in (tokens, elsewhere)
    )
    target = int(tokens.targets[START])
    here[0, target] -= 1 / tokens.temperature[START]
    torch.testing.assert_close(there, here)


def test_logprobs_have_the_same_bits_with_and_without_gradient(device):
    logits, tokens, inputs = make(device, peak=12.0)
    _, again, _ = make(device)
    policy_rows.statistics(logits, again, START, STOP)
    policy(logits, tokens, START, STOP, inputs, PolicyObjective("grpo", entropy_coef=0.1), logits.dtype)
    assert torch.equal(tokens.logprobs, again.logprobs)
    assert torch.equal(tokens.entropy, again.entropy)


def test_given_slopes_and_entropy_slopes(device):
    logits, tokens, _ = make(device)
    slope, bonus = (torch.linspace(-1, 2, STOP - START, device=device), torch.linspace(2, -1, STOP - START))
    rows = logits[: STOP - START].double().cpu().requires_grad_()
    logp = (rows / tokens.temperature[START:STOP, None].double().cpu()).log_softmax(-1)
    live = tokens.targets[START:STOP].cpu() != -100
    picked = logp.gather(1, tokens.targets[START:STOP].cpu().clamp(min=0)[:, None])[:, 0]
    total = (live * (slope.cpu() * picked - bonus * (logp.exp() * logp).sum(-1))).sum()
    (want,) = torch.autograd.grad(total, rows)
    policy_rows.statistics(logits, tokens, START, STOP)
    # expanded slopes are what the backward of a sum hands over
    have = policy_rows.gradient(logits.clone(), tokens, START, STOP, slope, bonus.to(device), torch.float32)
    assert_matches(have[: STOP - START], want)
    number = torch.tensor(1.5, device=device).expand(STOP - START)
    expanded, dense = (
        policy_rows.gradient(logits.clone(), tokens, START, STOP, slopes, None, torch.float32)
        for slopes in (number, number.clone())
    )
    assert torch.equal(expanded, dense)
    assert (dense[0] != 0).any()


def test_16_bit_gradients_lie_over_the_first_half_of_each_row(device):
    # fp16 rather than bf16, which the interpreter truncates
    logits, tokens, inputs = make(device)
    objective = PolicyObjective("grpo", entropy_coef=0.1)
    want = reference(logits, tokens, inputs, objective, None)[2]
    dlogits = launch(logits, tokens, inputs, objective, None, torch.float16)
    assert dlogits.dtype == torch.float16
    assert dlogits.data_ptr() == logits.data_ptr()
    assert dlogits.stride() == (128, 1)
    assert_matches(dlogits[: STOP - START], want, tolerance=1e-3)
    assert (dlogits[STOP - START :] == 0).all()


def test_targets_outside_the_vocabulary_are_nan_and_read_nothing(device):
    logits, tokens, inputs = make(device)
    tokens.targets[START] = V
    tokens.targets[START + 2] = -7
    clean = logits.clone()
    dlogits = policy(logits, tokens, START, STOP, inputs, PolicyObjective("grpo"), logits.dtype)
    assert tokens.logprobs[[START, START + 2]].isnan().all()
    assert tokens.logprobs[START + 4 : STOP].isfinite().all()
    given = policy_rows.gradient(clean, tokens, START, STOP, torch.ones(STOP - START, device=device), None, clean.dtype)
    assert dlogits[0].isnan().all()
    assert given[[0, 2]].isnan().all()
    assert given[3:].isfinite().all()


def test_extreme_rows(device):
    """Infinite logits mean probability 0; a NaN anywhere reaches the row's results, and no other row's."""
    logits, tokens, inputs = make(device, per_token_temperature=False)
    logits[0, ::2] = float("-inf")
    logits[0, tokens.targets[START]] = 3e4
    logits[2, 5] = float("nan")
    want = reference(logits.clone(), tokens, inputs, PolicyObjective("grpo"), None)
    dlogits = policy(logits, tokens, START, STOP, inputs, PolicyObjective("grpo", entropy_coef=0.1), logits.dtype)
    assert tokens.logprobs[START] == 0
    assert tokens.entropy[START] == 0
    assert tokens.logprobs[START + 2].isnan()
    assert dlogits[2].isnan().any()
    assert_matches(tokens.logprobs[START + 4 : STOP], want[0][4:])
    assert dlogits[[0, 4, 5, 6]].isfinite().all()


@pytest.mark.slow
def test_rows_further_apart_than_two_to_the_31(device):
    stride = 2**31
    gen = torch.Generator().manual_seed(1)
    rows = torch.randn(2, V, generator=gen)
    storage = torch.empty(stride + V, device=device)  # 8 GiB of address space, of which a few pages are touched
    far = storage.as_strided((2, V), (stride, 1)).copy_(rows)
    near = rows.to(device)
    results = []
    for logits in (far, near):
        tokens = make_tokens(torch.tensor([V - 1, 4], device=device), None, None, None, torch.float32)
        inputs = TokenInputs(*(torch.ones(2, device=device) for _ in range(2)), None, None, None)
        dlogits = policy(logits, tokens, 0, 2, inputs, PolicyObjective(entropy_coef=0.1), torch.float32)
        results.append((dlogits.clone(), tokens.logprobs, tokens.entropy))
    for have, want in zip(*results, strict=True):
        assert torch.equal(have, want)


@pytest.mark.gpu
def test_gradients_in_place_are_those_beside_it_a_thousand_times(monkeypatch):
    """bf16 over the fp32 row it is made from: a race between warps would show as a changed bit."""
    monkeypatch.undo()
    rows, vocab = 264, 151_936
    gen = torch.Generator(device="cuda").manual_seed(2)
    logits = 5 * torch.randn(rows, vocab, device="cuda", generator=gen)
    targets = torch.randint(0, vocab, (rows,), device="cuda", generator=gen)
    tokens = make_tokens(targets, None, None, None, torch.float32)
    inputs = TokenInputs(*(torch.randn(rows, device="cuda", generator=gen) for _ in range(2)), None, None, None)
    objective = PolicyObjective("grpo", entropy_coef=0.1)
    want = policy(logits.clone(), tokens, 0, rows, inputs, objective, torch.float32).to(torch.bfloat16)
    buffer = torch.empty_like(logits)
    wrong = torch.zeros((), dtype=torch.int64, device="cuda")
    for _ in range(1000):
        buffer.copy_(logits)
        have = policy(buffer, tokens, 0, rows, inputs, objective, torch.bfloat16)
        wrong += (have != want).sum()
    assert wrong == 0
