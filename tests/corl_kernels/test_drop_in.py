"""The head inside other people's training loops: autocast, torch.compile, torch.func, shapes and dtypes they have."""

import copy

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils.flop_counter import FlopCounterMode

from corl_kernels import (
    PolicyObjective,
    chunks,
    linear_cross_entropy,
    linear_kl,
    linear_logprobs,
    linear_policy_loss,
)
from corl_kernels.logprobs import linear_logprobs_reference
from corl_kernels.policy_loss import linear_policy_loss_reference

B, L, H, V = 3, 23, 12, 41
T = B * L
OBJECTIVE = PolicyObjective("grpo", entropy_coef=0.1, kl_coef=0.2)


def make(*lead, seed=0):
    gen = torch.Generator().manual_seed(seed)

    def randn(*shape):
        return torch.randn(*shape, generator=gen)

    targets = torch.randint(0, V, lead, generator=gen)
    targets.flatten()[::7] = -100
    return {
        "hidden": randn(*lead, H),
        "weight": randn(V, H) / 3,
        "targets": targets,
        "advantages": randn(*lead),
        "token_weights": torch.rand(*lead, generator=gen) / T,
        "old_logprobs": randn(*lead) / 3 - 4,
        "ref_logprobs": randn(*lead) / 3 - 4,
    }


def leaves(batch):
    return batch | {name: batch[name].clone().requires_grad_() for name in ("hidden", "weight")}


def heads(batch):
    """A scalar of each of the four heads."""
    hidden, weight, targets = (batch[name] for name in ("hidden", "weight", "targets"))
    reference = batch["old_logprobs"][..., None].expand(hidden.shape).to(hidden.dtype), weight.detach().flip(0)
    return {
        "policy": lambda: linear_policy_loss(**batch, objective=OBJECTIVE).loss,
        "cross_entropy": lambda: linear_cross_entropy(hidden, weight, targets, batch["token_weights"]),
        "logprobs": lambda: torch.stack(linear_logprobs(hidden, weight, targets, return_entropy=True)).square().sum(),
        "kl": lambda: linear_kl(hidden, weight, *reference).square().sum(),
    }


NAMES = ("policy", "cross_entropy", "logprobs", "kl")


@pytest.mark.parametrize("name", NAMES)
def test_leading_dimensions_and_int32_targets(name):
    flat = leaves(make(T))
    shaped = {k: v.detach().view(B, L, *v.shape[1:]) if len(v) == T else v.detach() for k, v in flat.items()}
    shaped = leaves(shaped | {"targets": shaped["targets"].int()})
    want, have = heads(flat)[name](), heads(shaped)[name]()
    want.backward()
    have.backward()
    assert torch.equal(have, want)
    assert torch.equal(shaped["hidden"].grad.view(T, H), flat["hidden"].grad)
    assert torch.equal(shaped["weight"].grad, flat["weight"].grad)
    if name == "policy":
        out = linear_policy_loss(**shaped, objective=OBJECTIVE)
        assert out.logprobs.shape == out.entropy.shape == (B, L)


@pytest.mark.parametrize("name", NAMES)
def test_a_second_backward_gives_the_same_gradients(name):
    batch = leaves(make(T))
    loss, inputs = heads(batch)[name](), (batch["hidden"], batch["weight"])
    first = [x.clone() for x in torch.autograd.grad(loss, inputs, retain_graph=True)]
    tripled = torch.autograd.grad(3 * loss, inputs, retain_graph=True)
    again = torch.autograd.grad(loss, inputs)
    for one, three, other in zip(first, tripled, again, strict=True):
        assert torch.equal(one, other)
        torch.testing.assert_close(three, 3 * one, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_torch_func_grad(name):
    batch = make(T)

    def loss(hidden, weight):
        return heads(batch | {"hidden": hidden, "weight": weight})[name]()

    have = torch.func.grad(loss, argnums=(0, 1))(batch["hidden"], batch["weight"])
    inputs = [batch[key].clone().requires_grad_() for key in ("hidden", "weight")]
    want = torch.autograd.grad(loss(*inputs), inputs)
    for x, y in zip(have, want, strict=True):
        torch.testing.assert_close(x, y)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_compiles_without_a_graph_break_for_any_number_of_tokens(name):
    torch.compiler.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(lambda inputs: heads(inputs)[name](), fullgraph=True, dynamic=True, backend=counter)
    compiles = []
    for tokens in (T, T + 3, 300):
        batch, plain = leaves(make(tokens)), leaves(make(tokens))
        have, want = compiled(batch), heads(plain)[name]()
        torch.testing.assert_close(have, want)
        have.backward()
        want.backward()
        for key in ("hidden", "weight"):
            torch.testing.assert_close(batch[key].grad, plain[key].grad)
        compiles.append(counter.frame_count)
    assert compiles[0] == compiles[-1]


@pytest.mark.parametrize(("name", "gemms"), [*zip(NAMES, (3, 3, 1, 2), strict=True)])
def test_the_registered_ops_count_their_gemms(monkeypatch, name, gemms):
    batch = leaves(make(T))
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    with FlopCounterMode(display=False) as counter:
        heads(batch)[name]()
    assert counter.get_total_flops() == gemms * 2 * T * H * V


@pytest.mark.slow
def test_compiled_gradients_can_collect_in_a_buffer():
    batch, plain, collected = leaves(make(T)), leaves(make(T)), torch.ones(V, H)

    @torch.compile(fullgraph=True, backend="aot_eager")
    def loss(inputs, out):
        settings = {"grad_weight_out": out, "grad_loss_is_one": True}
        return linear_policy_loss(**inputs, objective=OBJECTIVE, **settings).loss

    loss(batch, collected).backward()
    linear_policy_loss(**plain, objective=OBJECTIVE).loss.backward()
    assert batch["weight"].grad is None
    torch.testing.assert_close(collected, 1 + plain["weight"].grad)
    torch.testing.assert_close(batch["hidden"].grad, plain["hidden"].grad)


def test_grad_loss_is_one_adds_in_the_forward_and_checks_the_promise():
    batch, plain, collected = leaves(make(T)), leaves(make(T)), torch.ones(V, H)
    once = {"objective": OBJECTIVE, "grad_weight_out": collected, "grad_loss_is_one": True}
    out = linear_policy_loss(**batch, **once)
    linear_policy_loss(**plain, objective=OBJECTIVE).loss.backward()
    torch.testing.assert_close(collected, 1 + plain["weight"].grad)
    out.loss.backward()
    assert batch["weight"].grad is None
    torch.testing.assert_close(batch["hidden"].grad, plain["hidden"].grad)
    linear_policy_loss(**batch, **once).loss.backward()  # the next micro-batch
    torch.testing.assert_close(collected, 1 + 2 * plain["weight"].grad)
    with torch.no_grad():
        before = collected.clone()
        linear_policy_loss(**batch, **once)
    assert torch.equal(collected, before)
    with pytest.raises(ValueError, match="the loss's gradient is 2.0"):
        (2 * linear_policy_loss(**batch, objective=OBJECTIVE, grad_loss_is_one=True).loss).backward()


def recorded_gemms(monkeypatch):
    """The operand and result dtypes of every GEMM that the heads make from now on."""
    seen, gemm = [], chunks.gemm

    def record(a, b, out, *, accumulate):
        seen.append((a.dtype, b.dtype, out.dtype))
        gemm(a, b, out, accumulate=accumulate)

    monkeypatch.setattr(chunks, "gemm", record)
    return seen


def wide_sums(monkeypatch):
    """GEMMs as they are on CUDA, 16-bit operands included, made on the CPU."""

    def gemm(a, b, out, *, accumulate):
        product = a.float() @ b.float()
        out.copy_(out + product if accumulate else product)

    monkeypatch.setattr(chunks, "gemm", gemm)
    monkeypatch.setattr(chunks, "gemm_dtype", lambda operand, on_gpu: operand)


@pytest.mark.parametrize("name", NAMES)
def test_autocast_equals_an_explicit_cast(name):
    batch = leaves(make(T))
    with torch.autocast("cpu", torch.bfloat16):
        have = heads(batch)[name]()
    have.backward()
    assert batch["hidden"].grad.dtype == batch["weight"].grad.dtype == torch.float32
    other = leaves(make(T))
    cast = other | {key: other[key].bfloat16() for key in ("hidden", "weight")}
    want = heads(cast)[name]()
    want.backward()
    torch.testing.assert_close(have, want, rtol=1e-6, atol=1e-6)
    for key in ("hidden", "weight"):  # beside it an explicit cast rounds the gradients once more
        torch.testing.assert_close(batch[key].grad, other[key].grad, rtol=2**-8, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_makes_every_gemm_16_bit(monkeypatch, dtype):
    wide_sums(monkeypatch)
    seen = recorded_gemms(monkeypatch)
    batch = leaves(make(T))
    batch["hidden"] = batch["hidden"].detach().to(dtype).requires_grad_()  # what a layer under autocast hands out
    with torch.autocast("cpu", dtype):
        linear_policy_loss(**batch, objective=OBJECTIVE).loss.backward()
        linear_logprobs(batch["hidden"], batch["weight"], batch["targets"]).logprobs.sum().backward()
    assert len(seen) == 7
    assert {operand for a, b, _ in seen for operand in (a, b)} == {dtype}
    assert batch["hidden"].grad.dtype == dtype
    assert batch["weight"].grad.dtype == torch.float32


@pytest.mark.parametrize("name", ["policy", "logprobs", "kl"])
def test_fp16_keeps_gradients_far_below_its_range(monkeypatch, name):
    """Losses divided by a million tokens, as a loss scaler multiplies them back: 2^20 here."""
    wide_sums(monkeypatch)
    batch = make(T)
    scale = 2.0**-20
    batch["token_weights"] = batch["token_weights"] * scale
    half = leaves(batch | {key: batch[key].half() for key in ("hidden", "weight")})
    exact = leaves(half | {key: half[key].detach().float() for key in ("hidden", "weight")})
    factor = 1.0 if name == "policy" else scale
    for inputs in (half, exact):
        ((heads(inputs)[name]() * factor) / scale).backward()
    for key in ("hidden", "weight"):
        want = exact[key].grad
        assert float(want.abs().max()) > 0
        torch.testing.assert_close(half[key].grad.float(), want, rtol=2e-2, atol=2e-3 * float(want.abs().max()))


@pytest.mark.parametrize("softcap", [None, 2.5])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("kind", ["grpo", "gspo"])
def test_bias_and_softcap_match_autograd(kind, biased, softcap):
    objective = PolicyObjective(kind, entropy_coef=0.1, clip_low=9, clip_high=9)
    batch = make(3 * chunks.ROWS_CPU // 2) | {"softcap": softcap, "temperature": 0.8}
    batch["cu_seqlens"] = torch.tensor([0, 100, 290, 3 * chunks.ROWS_CPU // 2])
    batch["bias"] = torch.linspace(-2, 2, V) if biased else None
    results = []
    for function, dtype in ((linear_policy_loss, torch.float32), (linear_policy_loss_reference, torch.float64)):
        inputs = {k: v.to(dtype) if torch.is_tensor(v) and v.is_floating_point() else v for k, v in batch.items()}
        wanted = [inputs[key].requires_grad_() for key in ("hidden", "weight", "bias") if inputs[key] is not None]
        out = function(**inputs, objective=objective)
        results.append([*(x.detach() for x in out[:3]), *torch.autograd.grad(out[0], wanted)])
    for have, want in zip(*results, strict=True):
        torch.testing.assert_close(have.double(), want, rtol=1e-5, atol=1e-5 * float(want.abs().max()))


def test_logprobs_with_bias_and_softcap_match_autograd():
    batch, bias = make(T), torch.linspace(-1, 1, V)
    results = []
    for function, dtype in ((linear_logprobs, torch.float32), (linear_logprobs_reference, torch.float64)):
        inputs = [x.to(dtype).requires_grad_() for x in (batch["hidden"], batch["weight"], bias)]
        out = function(*inputs[:2], batch["targets"], bias=inputs[2], softcap=2.0, return_entropy=True)
        results.append([*out, *torch.autograd.grad(out[0].sum() + out[1].square().sum(), inputs)])
    for have, want in zip(*results, strict=True):
        torch.testing.assert_close(have.double(), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.01])
@pytest.mark.parametrize("kind", ["grpo", "gspo"])
def test_a_bias_of_minus_infinity_leaves_tokens_out(kind, temperature):
    """As rows of padding in a vocabulary are masked: everything is what it is without those rows."""
    batch = make(T) | {"temperature": temperature, "cu_seqlens": torch.tensor([0, 20, T])}
    batch["targets"] = batch["targets"].clamp(max=V - 8)
    objective, results = PolicyObjective(kind, entropy_coef=0.1, clip_low=9, clip_high=9), []
    for rows in (V, V - 7):
        bias = torch.linspace(-1, 1, V)
        bias[V - 7 :] = float("-inf")
        leaves_ = [x.clone().requires_grad_() for x in (batch["hidden"], batch["weight"][:rows], bias[:rows])]
        inputs = batch | {"hidden": leaves_[0], "weight": leaves_[1], "bias": leaves_[2]}
        out = linear_policy_loss(**inputs, objective=objective)
        scored = linear_logprobs(*leaves_[:2], batch["targets"], bias=leaves_[2], return_entropy=True)
        total = out.loss + scored.logprobs.sum() + scored.entropy.square().sum()
        grads = torch.autograd.grad(total, leaves_)
        results.append([*(x.detach() for x in (*out[:3], *scored)), grads[0], *(x[: V - 7] for x in grads[1:])])
        assert all((x[V - 7 :] == 0).all() for x in grads[1:])
    for have, want in zip(*results, strict=True):
        torch.testing.assert_close(have, want)


def test_bf16_factors_are_not_rounded_to_bf16(monkeypatch):
    """A loss divided by 3 gives a third of every gradient, to one rounding of the gradient."""
    wide_sums(monkeypatch)
    batch = make(T)
    whole, third = (leaves(batch | {k: batch[k].bfloat16() for k in ("hidden", "weight")}) for _ in range(2))
    linear_policy_loss(**whole, objective=OBJECTIVE, grad_loss_is_one=True).loss.backward()
    (linear_policy_loss(**third, objective=OBJECTIVE).loss / 3).backward()
    want = (whole["hidden"].grad.double() / 3).bfloat16()
    assert torch.equal(third["hidden"].grad, want)


@pytest.mark.parametrize("loss_type", ["grpo", "bnpo", "dr_grpo", "dapo"])
def test_loss_types_of_trl_are_token_weights(loss_type):
    """kernels/README.md's table, each against its definition by hand."""
    batch, mask = make(B, L), torch.arange(L) < torch.tensor([L, 9, 4])[:, None]
    sizes, longest, steps = mask.sum(1, keepdim=True), 64, 2
    token_weights = {
        "grpo": mask / sizes / B / steps,
        "bnpo": mask / mask.sum() / steps,
        "dr_grpo": mask / (B * longest) / steps,
        "dapo": mask / (steps * mask.sum()),
    }[loss_type]
    out = linear_policy_loss(**batch | {"token_weights": token_weights}, objective=PolicyObjective("grpo"))
    live = mask & (batch["targets"] != -100)
    ratio = (out.logprobs - batch["old_logprobs"]).exp()
    terms = -torch.minimum(ratio * batch["advantages"], ratio.clamp(0.8, 1.2) * batch["advantages"]) * live
    want = {
        "grpo": (terms.sum(1) / mask.sum(1)).mean() / steps,
        "bnpo": terms.sum() / mask.sum() / steps,
        "dr_grpo": terms.sum() / (B * longest) / steps,
        "dapo": terms.sum() / (steps * mask.sum()),
    }[loss_type]
    torch.testing.assert_close(out.loss, want)


def test_a_linear_layer_under_autocast_learns_as_with_an_explicit_cast():
    torch.manual_seed(0)
    body = nn.Linear(H, H)
    lm_head = nn.Linear(H, V, bias=False)
    batch, results = make(T), []
    for explicit in (False, True):
        layer, head = copy.deepcopy(body), copy.deepcopy(lm_head)
        with torch.autocast("cpu", torch.bfloat16):
            hidden = layer(batch["hidden"])
            weight = head.weight.bfloat16() if explicit else head.weight
            loss = linear_cross_entropy(hidden, weight, batch["targets"], batch["token_weights"])
        loss.backward()
        results.append((loss, layer.weight.grad, head.weight.grad))
    torch.testing.assert_close(results[0][0], results[1][0])
    for have, want in zip(*(r[1:] for r in results), strict=True):
        torch.testing.assert_close(have, want, rtol=2**-7, atol=1e-6)
