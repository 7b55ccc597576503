"""The head's public functions with the row kernels between their GEMMs: what runs on CUDA, under the interpreter.

On a GPU the public functions choose the kernels themselves; here the choice is made for them.
"""

import pytest
import torch

from corl_kernels import (
    PolicyObjective,
    chunks,
    kl,
    linear_cross_entropy,
    linear_kl,
    linear_logprobs,
    linear_policy_loss,
)
from corl_kernels.cross_entropy import linear_cross_entropy_reference
from corl_kernels.jit import kl_rows, policy_rows
from corl_kernels.kl import linear_kl_reference
from corl_kernels.logprobs import linear_logprobs_reference
from corl_kernels.policy_loss import linear_policy_loss_reference

H, V = 8, 37


@pytest.fixture(autouse=True)
def on_the_device(monkeypatch):
    monkeypatch.setattr(chunks, "row_functions", lambda hidden: policy_rows)
    monkeypatch.setattr(kl, "_row_functions", lambda hidden: kl_rows)
    for module in (policy_rows, kl_rows):
        monkeypatch.setattr(module, "_BLOCK", 64)
    for name in ("ROWS_CPU", "ROWS_CUDA", "STEP_CPU", "STEP_CUDA"):
        monkeypatch.setattr(chunks, name, 16)


def make(tokens, device, seed=0):
    gen = torch.Generator().manual_seed(seed)

    def randn(*shape):
        return torch.randn(*shape, generator=gen).to(device)

    targets = torch.randint(0, V, (tokens,), generator=gen)
    targets[::6] = -100
    bounds = [0, tokens // 4, tokens // 4, tokens // 2, tokens]
    return {
        "hidden": randn(tokens, H).requires_grad_(),
        "weight": randn(V, H).requires_grad_(),
        "targets": targets.to(device),
        "advantages": randn(tokens),
        "token_weights": randn(tokens).relu(),
        "old_logprobs": randn(tokens) - 4,
        "ref_logprobs": randn(tokens) - 4,
        "rollout_logprobs": randn(tokens) - 4,
        "cu_seqlens": torch.tensor(bounds, dtype=torch.int32),
        "temperature": 0.8,
    }


def assert_equal(have, want, inputs):
    """Every output, and the gradients of the first one, against the fp64 outputs of a reference."""
    for x, y in zip(have, want, strict=True):
        torch.testing.assert_close(x.double(), y, rtol=1e-5, atol=1e-5)
    coefficients = torch.linspace(-1, 2, want[0].numel(), device=want[0].device).view_as(want[0])
    have_grads = torch.autograd.grad((have[0] * coefficients).sum(), inputs, retain_graph=True)
    want_grads = torch.autograd.grad((want[0] * coefficients.double()).sum(), inputs, retain_graph=True)
    for x, y in zip(have_grads, want_grads, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=2e-5)


def wide(batch):
    return {k: v.double() if isinstance(v, torch.Tensor) and v.is_floating_point() else v for k, v in batch.items()}


@pytest.mark.parametrize("kind", ["grpo", "gspo"])
@pytest.mark.parametrize("tokens", [1, 16, 45])
def test_policy_loss(device, tokens, kind):
    batch = make(tokens, device)
    objective = PolicyObjective(kind, kl_coef=0.1, entropy_coef=0.1, rollout_correction="truncate")
    have = linear_policy_loss(**batch, objective=objective)[:3]
    want = linear_policy_loss_reference(**wide(batch), objective=objective)
    assert_equal(have, want, (batch["hidden"], batch["weight"]))


def test_logprobs_and_cross_entropy(device):
    batch = make(45, device)
    hidden, weight, targets = (batch[name] for name in ("hidden", "weight", "targets"))
    have = linear_logprobs(hidden, weight, targets, temperature=0.7, return_entropy=True)
    want = linear_logprobs_reference(hidden.double(), weight.double(), targets, temperature=0.7, return_entropy=True)
    assert_equal(have, want, (hidden, weight))
    assert_equal(have[::-1], want[::-1], (hidden, weight))
    weights = batch["token_weights"]
    loss = linear_cross_entropy(hidden, weight, targets, weights)
    expected = linear_cross_entropy_reference(hidden.double(), weight.double(), targets, weights.double())
    assert_equal([loss], [expected], (hidden, weight))


def test_kl(device):
    batch, other = make(45, device), make(45, device, seed=1)
    hidden, weight = batch["hidden"], batch["weight"]
    have = linear_kl(hidden, weight, other["hidden"], other["weight"], temperature=1.3)
    reference = (x.double() for x in (hidden, weight, other["hidden"], other["weight"]))
    assert_equal([have], [linear_kl_reference(*reference, temperature=1.3)], (hidden, weight))


@pytest.mark.parametrize("kind", ["grpo", "gspo", "cispo"])
def test_the_first_update_has_ratio_one_to_the_bit(device, kind):
    batch = make(45, device)
    scored = linear_logprobs(batch["hidden"], batch["weight"], batch["targets"], temperature=0.8)
    batch["old_logprobs"] = scored.logprobs.detach()
    out = linear_policy_loss(**batch, objective=PolicyObjective(kind, entropy_coef=0.1))
    assert torch.equal(out.logprobs, scored.logprobs)
    assert out.metrics.ratio_max == 1.0


@pytest.mark.parametrize("kind", ["grpo", "gspo"])
def test_no_variant_more_as_the_number_of_tokens_varies(device, launches, kind):
    seen = []
    for tokens in (1, 16, 45):
        launches.clear()
        batch = make(tokens, device)
        linear_policy_loss(**batch, objective=PolicyObjective(kind, entropy_coef=0.1)).loss.backward()
        linear_logprobs(batch["hidden"], batch["weight"], batch["targets"]).logprobs.sum().backward()
        linear_kl(batch["hidden"], batch["weight"], batch["hidden"], batch["weight"]).sum().backward()
        assert launches
        seen.append(set(launches))
    assert set.union(*seen) == seen[0]


def test_one_kernel_makes_the_statistics_of_every_op(device, launches):
    """Whatever the objective, log-probs come from one compiled variant, so that they have the same bits everywhere."""
    batch = make(45, device)
    for kind in ("reinforce", "grpo", "gspo", "cispo"):
        objective = PolicyObjective(kind, kl_coef=0.1, entropy_coef=0.1, rollout_correction="mask")
        linear_policy_loss(**batch, objective=objective).loss.backward()
    linear_logprobs(batch["hidden"], batch["weight"], batch["targets"]).logprobs.sum().backward()
    statistics = [launch for launch in launches if launch.kernel.endswith("._statistics_rows_kernel")]
    assert len(statistics) > 5
    assert len(set(statistics)) == 1


def test_two_runs_are_bitwise_equal(device):
    results = []
    for _ in range(2):
        batch = make(45, device)
        out = linear_policy_loss(**batch, objective=PolicyObjective("gspo", entropy_coef=0.1))
        grads = torch.autograd.grad(out.loss, (batch["hidden"], batch["weight"]))
        results.append((*out[:3], *grads))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_strided_inputs_give_what_dense_ones_give(device):
    """Columns of a wider tensor, and a number expanded to all tokens."""
    batch = make(45, device) | {"temperature": torch.linspace(0.5, 1.5, 45, device=device)}
    objective = PolicyObjective("grpo", kl_coef=0.1, rollout_correction="truncate")
    per_token = [name for name, value in batch.items() if isinstance(value, torch.Tensor) and len(value) == 45]
    columns = {name: torch.stack([batch[name]] * 3, dim=1)[:, 1] for name in per_token if name != "hidden"}
    columns["advantages"] = torch.tensor(0.7, device=device).expand(45)
    batch["advantages"] = columns["advantages"].clone()
    assert len(columns) == 7
    dense, strided = (
        torch.autograd.grad(linear_policy_loss(**inputs, objective=objective).loss, (batch["hidden"], batch["weight"]))
        for inputs in (batch, batch | columns)
    )
    assert all(torch.equal(a, b) for a, b in zip(dense, strided, strict=True))
    scored = (
        linear_logprobs(batch["hidden"], batch["weight"], inputs["targets"], temperature=inputs["temperature"]).logprobs
        for inputs in (batch, columns)
    )
    dense, strided = (torch.autograd.grad(x.sum(), (batch["hidden"], batch["weight"])) for x in scored)
    assert all(torch.equal(a, b) for a, b in zip(dense, strided, strict=True))
    heads = (batch["hidden"], batch["weight"], batch["hidden"] + 1, batch["weight"])
    assert torch.equal(*(linear_kl(*heads, temperature=inputs["temperature"]) for inputs in (batch, columns)))


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["grpo", "gspo", "cispo"])
def test_bf16_ratio_is_one_to_the_bit_at_a_real_vocabulary(monkeypatch, kind):
    monkeypatch.undo()
    gen = torch.Generator(device="cuda").manual_seed(0)
    hidden = torch.randn(5000, 256, device="cuda", generator=gen).bfloat16().requires_grad_()
    weight = (0.1 * torch.randn(151_936, 256, device="cuda", generator=gen)).bfloat16().requires_grad_()
    targets = torch.randint(0, 151_936, (5000,), device="cuda", generator=gen)
    old = linear_logprobs(hidden, weight, targets).logprobs.detach()
    ones = torch.ones(5000, device="cuda")
    out = linear_policy_loss(
        hidden, weight, targets, ones, ones, objective=PolicyObjective(kind, entropy_coef=0.1), old_logprobs=old,
        cu_seqlens=torch.tensor([0, 700, 4500, 5000]),
    )  # fmt: skip
    assert torch.equal(out.logprobs, old)
    assert out.metrics.ratio_max == 1.0
