"""linear_policy_loss against full logits and autograd in fp64."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from corl_kernels import PolicyObjective, linear_logprobs, linear_policy_loss
from corl_kernels.chunks import ROWS_CPU
from corl_kernels.policy_loss import linear_policy_loss_reference

H, V = 12, 37
KINDS = {
    "reinforce": {"kind": "reinforce"},
    "grpo": {"kind": "grpo", "dual_clip": 1.5},
    "grpo-sequence": {"kind": "grpo", "importance": "sequence", "clip_low": 0.02, "clip_high": 0.03},
    "gspo": {"kind": "gspo", "clip_low": 0.02, "clip_high": 0.03},
    "cispo": {"kind": "cispo"},
    "cispo-sequence": {"kind": "cispo", "importance": "sequence", "clip_high": 0.01},
}
TOKEN_INPUTS = ("advantages", "token_weights", "old_logprobs", "ref_logprobs", "rollout_logprobs")


def make(tokens, seed=0, temperature=0.8, dtype=torch.float32):
    """Inputs of a pack of sequences of many lengths, some longer than a chunk when there is room, one empty."""
    gen = torch.Generator().manual_seed(seed)
    hidden, weight = torch.randn(tokens, H, generator=gen), torch.randn(V, H, generator=gen) * 0.5
    targets = torch.randint(0, V, (tokens,), generator=gen)
    hidden, weight = hidden.to(dtype), weight.to(dtype)
    old = linear_logprobs(hidden, weight, targets, temperature=temperature).logprobs
    old = old + 0.3 * torch.randn(tokens, generator=gen)
    bounds = torch.tensor([0, tokens // 9, tokens // 5, tokens // 5, tokens // 3, tokens], dtype=torch.int32)
    return {
        "hidden": hidden,
        "weight": weight,
        "targets": targets,
        "advantages": torch.randn(tokens, generator=gen) * (torch.rand(tokens, generator=gen) > 0.1),
        "token_weights": torch.rand(tokens, generator=gen) * (torch.rand(tokens, generator=gen) > 0.25) / tokens,
        "old_logprobs": old,
        "ref_logprobs": old + 0.4 * torch.randn(tokens, generator=gen),
        "rollout_logprobs": old + 0.5 * torch.randn(tokens, generator=gen),
        "cu_seqlens": bounds,
        "temperature": temperature,
    }


def run(batch, function, dtype=None, **kwargs):
    """(loss, logprobs, entropy), grad_hidden and grad_weight of `function` on a batch."""
    batch = {k: v.to(dtype) if dtype and k in TOKEN_INPUTS and v is not None else v for k, v in batch.items()}
    hidden, weight = (batch.pop(k).to(dtype or batch["advantages"].dtype) for k in ("hidden", "weight"))
    if dtype and isinstance(batch["temperature"], torch.Tensor):
        batch["temperature"] = batch["temperature"].to(dtype)
    hidden, weight = hidden.requires_grad_(), weight.requires_grad_()
    out = function(hidden, weight, **batch, **kwargs)
    return out, *torch.autograd.grad(out[0], (hidden, weight), allow_unused=True)


def assert_matches_reference(batch, objective, tolerance=1e-5):
    out, *grads = run(dict(batch), linear_policy_loss, objective=objective)
    want, *want_grads = run(dict(batch), linear_policy_loss_reference, torch.float64, objective=objective)
    want = [x.detach() for x in want]
    for have, expected in zip((*out[:3], *grads), (*want, *want_grads), strict=True):
        largest = float(expected.abs().max())
        torch.testing.assert_close(have.double(), expected, rtol=tolerance, atol=tolerance * largest)


@pytest.mark.parametrize("correction", [None, "truncate", "mask"])
@pytest.mark.parametrize("estimator", [None, "k1", "k2", "k3"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_objective_matches_autograd(kind, estimator, correction):
    objective = PolicyObjective(
        **KINDS[kind],
        kl_coef=0.3 if estimator else 0.0,
        kl_estimator=estimator or "k3",
        rollout_correction=correction,
        rollout_cap=1.3,
        entropy_coef=0.05 if estimator == "k2" else 0.0,
    )
    assert_matches_reference(make(2 * ROWS_CPU + 19), objective)


@pytest.mark.parametrize("tokens", [1, 2, 17, ROWS_CPU - 1, ROWS_CPU, ROWS_CPU + 1, 2 * ROWS_CPU])
@pytest.mark.parametrize("kind", ["grpo", "gspo"])
def test_lengths_around_the_chunk(kind, tokens):
    assert_matches_reference(make(tokens), PolicyObjective(kind=kind, entropy_coef=0.1, kl_coef=0.1))


@pytest.mark.parametrize("kind", KINDS)
def test_without_old_logprobs_the_ratio_is_one_and_keeps_its_gradient(kind):
    batch = make(2 * ROWS_CPU + 40) | {"old_logprobs": None}
    assert_matches_reference(batch, PolicyObjective(**KINDS[kind], kl_coef=0.2, rollout_correction="truncate"))


@pytest.mark.parametrize("kind", ["reinforce", "gspo"])
def test_temperature_per_token(kind):
    temperature = torch.linspace(0.5, 1.7, ROWS_CPU + 30)
    batch = make(ROWS_CPU + 30, temperature=temperature)
    assert_matches_reference(batch, PolicyObjective(kind=kind, entropy_coef=0.2))


def test_temperature_as_number_and_as_tensor_agree_bitwise():
    batch = make(40, temperature=0.7)
    number = linear_policy_loss(**batch, objective=PolicyObjective())
    tensor = linear_policy_loss(**batch | {"temperature": torch.full((40,), 0.7)}, objective=PolicyObjective())
    assert torch.equal(number.logprobs, tensor.logprobs)
    assert torch.equal(number.entropy, tensor.entropy)


def test_entropy_gradient_alone():
    batch = make(70) | {"advantages": torch.zeros(70)}
    assert_matches_reference(batch, PolicyObjective(entropy_coef=1.0))


@pytest.mark.parametrize("kind", KINDS)
def test_ignored_targets_and_zero_weights(kind):
    batch = make(120)
    batch["targets"][::7] = -100
    batch["old_logprobs"][::7] = 0.0
    objective = PolicyObjective(**KINDS[kind], entropy_coef=0.1)
    assert_matches_reference(batch, objective)
    out, grad_hidden, _ = run(dict(batch), linear_policy_loss, objective=objective)
    assert (out.logprobs[::7] == 0).all()
    assert (out.entropy[::7] == 0).all()
    assert (grad_hidden[(batch["token_weights"] == 0) | (batch["targets"] == -100)] == 0).all()
    masked = (batch["token_weights"] == 0) & (batch["targets"] != -100)
    assert masked.any()
    assert (out.logprobs[masked] < 0).all()
    assert (out.entropy[masked] > 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_garbage_where_the_weight_is_zero_reaches_nothing(kind):
    batch = make(100)
    dead = batch["token_weights"] == 0
    objective = PolicyObjective(**KINDS[kind], kl_coef=0.1, rollout_correction="mask")
    clean = run(dict(batch), linear_policy_loss, objective=objective)
    for name in ("advantages", "old_logprobs", "ref_logprobs", "rollout_logprobs"):
        batch[name] = batch[name].masked_fill(dead, float("nan"))
    dirty = run(dict(batch), linear_policy_loss, objective=objective)
    assert torch.equal(clean[0].loss, dirty[0].loss)
    assert torch.equal(clean[1], dirty[1])
    assert torch.equal(clean[2], dirty[2])


@pytest.mark.parametrize("kind", KINDS)
def test_all_masked_is_zero(kind):
    batch = make(50) | {"token_weights": torch.zeros(50)}
    out, grad_hidden, grad_weight = run(
        batch, linear_policy_loss, objective=PolicyObjective(**KINDS[kind], entropy_coef=0.1, kl_coef=0.1)
    )
    assert out.loss == 0
    assert (grad_hidden == 0).all()
    assert (grad_weight == 0).all()
    assert all(getattr(out.metrics, name) == 0 for name in out.metrics.__slots__)


def test_values_of_the_contract_by_hand():
    # one-token vocabulary of two, logits (x, 0) with x chosen so that logprob = log(1/2)
    hidden, weight, targets = torch.zeros(4, 1), torch.ones(2, 1), torch.zeros(4, dtype=torch.int64)
    ratio = torch.tensor([1.5, 0.5, 2.5, 0.9])
    advantages = torch.tensor([1.0, -1.0, -2.0, 3.0])
    half = torch.tensor(0.5).log()
    inputs = {"hidden": hidden, "weight": weight, "targets": targets, "advantages": advantages,
              "token_weights": torch.ones(4), "old_logprobs": half - ratio.log(),
              "cu_seqlens": torch.tensor([0, 2, 4])}  # fmt: skip

    def loss(**kwargs):
        return float(linear_policy_loss(**inputs, objective=PolicyObjective(**kwargs)).loss)

    assert loss() == pytest.approx(-float(advantages.sum() * half))
    assert loss(kind="grpo") == pytest.approx(-1.2 + 0.8 + 5.0 - 2.7)
    assert loss(kind="grpo", dual_clip=2.0) == pytest.approx(-1.2 + 0.8 + 4.0 - 2.7)
    assert loss(kind="cispo") == pytest.approx(-float(half) * (1.2 - 0.5 - 2.4 + 2.7))
    first, second = (1.5 * 0.5) ** 0.5, (2.5 * 0.9) ** 0.5
    assert loss(kind="gspo", clip_low=9, clip_high=9) == pytest.approx(-first + first + 2 * second - 3 * second)


def test_metrics_count_tokens_of_nonzero_weight():
    batch = make(300)
    objective = PolicyObjective(kind="grpo", rollout_correction="truncate", rollout_cap=1.2, kl_estimator="k2")
    out = linear_policy_loss(**batch, objective=objective)
    live = batch["token_weights"] != 0
    ratio = (out.logprobs - batch["old_logprobs"]).exp()[live]
    gap = (batch["old_logprobs"] - batch["rollout_logprobs"])[live]
    up, down = batch["advantages"][live] > 0, batch["advantages"][live] < 0
    want = {
        "clip_fraction_low": ((ratio < 0.8) & down).float().mean(),
        "clip_fraction_high": ((ratio > 1.2) & up).float().mean(),
        "ratio_max": ratio.max(),
        "kl": ((out.logprobs - batch["ref_logprobs"])[live] ** 2 / 2).mean(),
        "entropy": out.entropy[live].mean(),
        "rollout_gap_mean": gap.abs().mean(),
        "rollout_gap_max": gap.abs().max(),
        "rollout_clip_fraction": (gap.exp() > 1.2).float().mean(),
    }
    assert set(want) == set(out.metrics.__slots__)
    for name, value in want.items():
        have = getattr(out.metrics, name)
        assert have.shape == ()
        assert have.dtype == torch.float32
        assert not have.requires_grad
        assert value > 0
        torch.testing.assert_close(have, value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("width", [8, 33, 64])
@pytest.mark.parametrize("vocab", [2, 11, 151, 1000])
def test_with_fixed_rows_the_ratio_is_bitwise_one_in_any_pack(vocab, width):
    gen = torch.Generator().manual_seed(vocab)
    hidden, weight = torch.randn(300, width, generator=gen), torch.randn(vocab, width, generator=gen)
    targets = torch.randint(0, vocab, (300,), generator=gen)
    old = linear_logprobs(hidden, weight, targets, temperature=0.9, chunk_rows=ROWS_CPU).logprobs
    place = torch.randperm(300, generator=gen)
    for order in (torch.arange(300), place, place[:77], torch.arange(299, 130, -1), torch.tensor([5])):
        ones = torch.ones(len(order))
        out = linear_policy_loss(
            hidden[order], weight, targets[order], ones, ones,
            objective=PolicyObjective(kind="grpo"), old_logprobs=old[order], temperature=0.9, chunk_rows=ROWS_CPU,
        )  # fmt: skip
        assert torch.equal(out.logprobs, old[order])
        assert out.metrics.ratio_max == 1.0


def flops(function, **kwargs):
    with FlopCounterMode(display=False) as counter:
        function(**kwargs)
    return counter.get_total_flops()


def test_three_gemms_one_without_gradient_and_no_dw_for_a_frozen_weight():
    tokens = 2 * ROWS_CPU
    batch = make(tokens)
    batch["cu_seqlens"] = torch.arange(0, tokens + 1, 64)
    gemm = 2 * tokens * H * V

    def count(hidden, weight, kind="grpo", cu_seqlens=batch["cu_seqlens"]):
        inputs = batch | {"hidden": batch["hidden"].clone().requires_grad_(hidden), "cu_seqlens": cu_seqlens}
        inputs["weight"] = batch["weight"].clone().requires_grad_(weight)

        def step(**kwargs):
            loss = linear_policy_loss(**kwargs, objective=PolicyObjective(kind=kind, entropy_coef=0.1)).loss
            if hidden or weight:
                loss.backward()

        return flops(step, **inputs) / gemm

    assert count(True, True) == 3
    assert count(True, False) == 2
    assert count(False, True) == 2
    assert count(False, False) == 1
    assert count(True, True, "gspo") == 3
    # across the end of a chunk: as cheap; longer than a chunk: the fourth GEMM, of the chunks concerned
    assert count(True, True, "gspo", torch.tensor([0, 100, 300, tokens])) == 3
    assert count(True, True, "gspo", torch.tensor([0, 1, tokens])) == 3
    batch = make(4 * ROWS_CPU)
    gemm *= 2
    long = torch.tensor([0, 1, 3 * ROWS_CPU + 7, 4 * ROWS_CPU])
    assert count(True, True, "gspo", long) == 4
    assert count(True, True, "gspo", torch.tensor([0, 2 * ROWS_CPU, 4 * ROWS_CPU])) == 3
    batch["old_logprobs"] = None
    assert count(True, True, "gspo", long) == 3
    with torch.no_grad():
        batch["hidden"].requires_grad_()
        assert flops(linear_policy_loss, **batch, objective=PolicyObjective(kind="gspo")) == gemm


def test_nothing_of_the_size_of_the_logits_is_allocated():
    tokens, vocab = 3000, 499
    hidden, weight = torch.randn(tokens, 4, requires_grad=True), torch.randn(vocab, 4, requires_grad=True)
    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **kwargs or {})
            largest = max([largest, *(t.numel() for t in torch.utils._pytree.tree_leaves(out) if hasattr(t, "numel"))])
            return out

    with Watch():
        ones = torch.ones(tokens)
        targets = torch.zeros(tokens, dtype=torch.int64)
        linear_policy_loss(hidden, weight, targets, ones, ones, objective=PolicyObjective()).loss.backward()
    assert largest == ROWS_CPU * 512  # rows start on cache lines


def test_grad_weight_out_collects_over_micro_batches():
    objective = PolicyObjective(kind="grpo")
    batches = [make(40, seed=seed) for seed in (1, 2)]
    weight = batches[0]["weight"].requires_grad_()
    collected = torch.full_like(weight, 3.0).detach()
    wanted = torch.full((V, H), 3.0)
    for factor, batch in enumerate(batches, start=1):
        batch["weight"] = weight
        (wanted_part,) = torch.autograd.grad(linear_policy_loss(**batch, objective=objective).loss * factor, weight)
        wanted += wanted_part
        loss = linear_policy_loss(**batch, objective=objective, grad_weight_out=collected).loss
        (loss * factor).backward()
    assert weight.grad is None
    torch.testing.assert_close(collected, wanted)


def test_only_the_loss_carries_gradient():
    batch = make(20)
    batch["hidden"].requires_grad_()
    out = linear_policy_loss(**batch, objective=PolicyObjective())
    assert out.loss.requires_grad
    assert not out.logprobs.requires_grad
    assert not out.entropy.requires_grad
    with torch.no_grad():
        assert not linear_policy_loss(**batch, objective=PolicyObjective()).loss.requires_grad


def test_bf16_inputs_keep_fp32_statistics():
    batch = make(ROWS_CPU + 9, dtype=torch.bfloat16)
    hidden, weight = (batch[k].clone().requires_grad_() for k in ("hidden", "weight"))
    objective = PolicyObjective(kind="grpo", entropy_coef=0.1)
    out = linear_policy_loss(**batch | {"hidden": hidden, "weight": weight}, objective=objective)
    out.loss.backward()
    want, want_hidden, want_weight = run(dict(batch), linear_policy_loss_reference, torch.float64, objective=objective)
    assert {t.dtype for t in out[:3]} == {torch.float32}
    assert (out.logprobs - want[1]).abs().max() < 1e-5
    assert hidden.grad.dtype == weight.grad.dtype == torch.bfloat16
    for have, expected in ((hidden.grad, want_hidden), (weight.grad, want_weight)):
        torch.testing.assert_close(have, expected.to(torch.bfloat16), rtol=1e-2, atol=1e-6)


def test_parts_of_a_batch_add_up():
    batch = make(200)
    whole = linear_policy_loss(**batch, objective=PolicyObjective(kind="cispo", kl_coef=0.1)).loss
    parts = 0.0
    for part in (slice(0, 90), slice(90, 200)):
        piece = {k: v[part] if k in (*TOKEN_INPUTS, "hidden", "targets") else v for k, v in batch.items()}
        parts += linear_policy_loss(**piece, objective=PolicyObjective(kind="cispo", kl_coef=0.1)).loss
    torch.testing.assert_close(whole, parts)


class Sharded(torch.Tensor):
    """Looks like a DTensor to code that asks for its way back to a plain tensor."""

    def to_local(self):
        return self


WRONG = {
    "hidden is a list": {"hidden": [1.0]},
    "weight has no rows": {"weight": torch.zeros(0, H)},
    "temperature is a str": {"temperature": "1"},
    "temperature holds inf": {"temperature": torch.tensor([1.0] * 19 + [float("inf")])},
    "objective=None must be": {"objective": None},
    "hidden has shape": {"hidden": torch.randn(H)},
    "hidden is torch.int64": {"hidden": torch.ones(20, H, dtype=torch.int64)},
    "must be one of torch.float16": {"hidden": torch.randn(20, H).half()},
    "bias has shape": {"bias": torch.randn(V - 1)},
    "softcap=0 must be": {"softcap": 0},
    "chunk_rows=100 must be": {"chunk_rows": 100},
    "weight has shape": {"weight": torch.randn(V, H + 1)},
    "weight is torch.bfloat16": {"weight": torch.randn(V, H).bfloat16()},
    r"weight is a DTensor; pass weight.to_local\(\) or call unshard": {
        "weight": torch.randn(V, H).as_subclass(Sharded)
    },
    "targets has shape": {"targets": torch.zeros(19, dtype=torch.int64)},
    "targets is torch.int16": {"targets": torch.zeros(20, dtype=torch.int16)},
    "targets hold 37; an id must be in": {"targets": torch.full((20,), V)},
    "targets hold -1;": {"targets": torch.full((20,), -1)},
    "advantages has shape": {"advantages": torch.zeros(20, 1)},
    "token_weights is torch.int64": {"token_weights": torch.ones(20, dtype=torch.int64)},
    "token_weights is on meta": {"token_weights": torch.ones(20, device="meta")},
    "old_logprobs has shape": {"old_logprobs": torch.zeros(3)},
    "temperature=0 must be": {"temperature": 0},
    "temperature holds 0.0": {"temperature": torch.zeros(20)},
    "grad_weight_out is torch.bfloat16": {"grad_weight_out": torch.zeros(V, H).bfloat16()},
    "grad_weight_out has shape": {"grad_weight_out": torch.zeros(H, V)},
    "needs cu_seqlens": {"cu_seqlens": None, "objective": PolicyObjective(kind="gspo")},
    "'sequence' needs cu_seqlens": {"cu_seqlens": None, "objective": PolicyObjective("cispo", importance="sequence")},
    "must rise from 0 to the 20": {"cu_seqlens": torch.tensor([0, 19]), "objective": PolicyObjective(kind="gspo")},
    "kl_coef=0.1 needs ref_logprobs": {"ref_logprobs": None, "objective": PolicyObjective(kl_coef=0.1)},
    "needs rollout_logprobs": {"rollout_logprobs": None, "objective": PolicyObjective(rollout_correction="mask")},
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_arguments_raise(message):
    with pytest.raises(ValueError, match=message):
        linear_policy_loss(**{"objective": PolicyObjective()} | make(20) | WRONG[message])


def test_arguments_an_objective_does_not_use_are_ignored():
    batch = make(30)
    used = {k: v for k, v in batch.items() if k not in ("ref_logprobs", "rollout_logprobs", "cu_seqlens")}
    objective = PolicyObjective(kind="grpo")
    everything, needed = (
        linear_policy_loss(**batch, objective=objective),
        linear_policy_loss(**used, objective=objective),
    )
    assert torch.equal(everything.loss, needed.loss)


@pytest.mark.parametrize("dual_clip", [None, 2.0])
def test_a_ratio_beyond_fp32_leaves_clipped_and_zero_advantage_tokens_alone(dual_clip):
    hidden = torch.tensor([[100.0, 0.0], [100.0, 0.0], [100.0, 0.0], [1.0, 0.5]], requires_grad=True)
    weight, targets, ones = torch.eye(2), torch.tensor([0, 0, 0, 1]), torch.ones(4)
    advantages = torch.tensor([1.0, 0.0, 0.0 if dual_clip is None else -1.0, 1.0])
    old = torch.tensor([-90.0, -200.0, -1e4, -0.7])
    objective = PolicyObjective("grpo", dual_clip=dual_clip)
    out = linear_policy_loss(hidden, weight, targets, advantages, ones, objective=objective, old_logprobs=old)
    (gradient,) = torch.autograd.grad(out.loss, hidden)
    assert out.loss.isfinite()
    assert (gradient[:3] == 0).all()
    assert (gradient[3] != 0).all()


def test_nothing_of_an_ignored_token_reaches_a_result():
    batch = make(60)
    batch["targets"][::5] = -100
    batch["old_logprobs"][::5] = 0
    clean = run(dict(batch), linear_policy_loss, objective=PolicyObjective("grpo", entropy_coef=0.1))
    batch["hidden"] = batch["hidden"].detach().clone()
    batch["hidden"][::5] = float("nan")
    dirty = run(dict(batch), linear_policy_loss, objective=PolicyObjective("grpo", entropy_coef=0.1))
    for have, want in zip((*dirty[0][:3], *dirty[1:]), (*clean[0][:3], *clean[1:]), strict=True):
        assert torch.equal(have, want)


@pytest.mark.parametrize("vocab", [1000, 40_001, 128_256])
def test_bits_do_not_depend_on_company_with_several_threads(vocab):
    """torch sums a row that stands alone over several threads, in another order than rows beside each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        gen = torch.Generator().manual_seed(0)
        hidden, weight = torch.randn(9, 16, generator=gen), torch.randn(vocab, 16, generator=gen)
        targets = torch.randint(0, vocab, (9,), generator=gen)
        together = linear_logprobs(hidden, weight, targets, return_entropy=True)
        for k in range(9):
            part = slice(k, k + 1)
            alone = linear_logprobs(hidden[part], weight, targets[part], return_entropy=True)
            assert torch.equal(alone.logprobs, together.logprobs[part])
            assert torch.equal(alone.entropy, together.entropy[part])
    finally:
        torch.set_num_threads(before)
