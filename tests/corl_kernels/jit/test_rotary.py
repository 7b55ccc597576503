"""The fused kernels, as autograd sees them, against fp64 autograd of the reference."""

import pytest
import torch

pytest.importorskip("triton")
import corl_kernels.jit.rotary as kernels
from corl_kernels.rotary import _QKNormRope, qk_norm_rope_reference

# (tokens, query heads, key heads, head dim)
SHAPES = [(2, 28, 4, 128), (3, 8, 2, 64), (1, 8, 2, 80), (2, 17, 1, 96), (5, 3, 2, 10)]


def make(tokens, q_heads, k_heads, dim, device, norm=True, dtype=torch.float32):
    """A projection q | k | v, tables whose halves differ, and weights, all but the tables with gradients."""
    gen = torch.Generator().manual_seed(tokens + dim)
    projection = torch.randn(tokens, q_heads + 2 * k_heads, dim, generator=gen).to(device, dtype).requires_grad_()
    angles = 3 * torch.randn(tokens, dim, generator=gen)
    tables = angles.cos().to(device, dtype), angles.sin().to(device, dtype)
    weights = [torch.randn(dim, generator=gen).to(device, dtype).requires_grad_() for _ in range(2)] if norm else []
    return projection, tables, weights


def heads(projection, k_heads):
    q, k, _ = projection.split([projection.shape[1] - 2 * k_heads, k_heads, k_heads], dim=1)
    return q, k


def fused(q, k, tables, weights, eps=1e-6):
    return _QKNormRope.apply(q, k, *tables, *(weights or (None, None)), eps)


def wide(projection, tables, weights):
    leaves = [x.detach().double().requires_grad_() for x in (projection, *weights)]
    return leaves[0], [table.double() for table in tables], leaves[1:]


def assert_same(got, want, tolerance=1e-5):
    assert len(got) == len(want)
    for have, truth in zip(got, want, strict=True):
        torch.testing.assert_close(have.double(), truth, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("norm", [True, False], ids=["norm", "rope"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients(shape, norm, device):
    projection, tables, weights = make(*shape, device, norm)
    exact_projection, exact_tables, exact_weights = wide(projection, tables, weights)
    got = fused(*heads(projection, shape[2]), tables, weights)
    want = qk_norm_rope_reference(*heads(exact_projection, shape[2]), *exact_tables, *exact_weights)
    assert_same(got, want)
    assert all(out.is_contiguous() for out in got)
    upstream = [torch.randn_like(out) for out in got]
    grads = torch.autograd.grad(got, [projection, *weights], upstream)
    truths = torch.autograd.grad(want, [exact_projection, *exact_weights], [grad.double() for grad in upstream])
    assert_same(grads, truths)


@pytest.mark.parametrize("tokens", [2, 3, 8])
def test_weights_sum_over_all_tokens_and_always_alike(tokens, device, monkeypatch):
    monkeypatch.setattr(kernels, "_PROGRAMS", 3)
    projection, tables, weights = make(tokens, 3, 1, 16, device)
    exact_projection, exact_tables, exact_weights = wide(projection, tables, weights)
    got = fused(*heads(projection, 1), tables, weights)
    want = qk_norm_rope_reference(*heads(exact_projection, 1), *exact_tables, *exact_weights)
    upstream = [torch.randn_like(out) for out in got]
    grads = torch.autograd.grad(got, [projection, *weights], upstream, retain_graph=True)
    truths = torch.autograd.grad(want, [exact_projection, *exact_weights], [grad.double() for grad in upstream])
    assert_same(grads, truths)
    again = torch.autograd.grad(got, [projection, *weights], upstream)
    assert all(torch.equal(*pair) for pair in zip(grads, again, strict=True))


@pytest.mark.parametrize("norm", [True, False], ids=["norm", "rope"])
def test_gradients_of_any_strides(norm, device):
    projection, tables, weights = make(3, 4, 2, 16, device, norm)
    q, k = fused(*heads(projection, 2), tables, weights)
    transposed = torch.randn(4, 3, 16, device=device).transpose(0, 1)
    expanded = torch.ones(1, 1, 1, device=device).expand(3, 2, 16)
    got = torch.autograd.grad((q, k), projection, (transposed, expanded), retain_graph=True)
    want = torch.autograd.grad((q, k), projection, (transposed.contiguous(), expanded.contiguous()))
    assert torch.equal(got[0], want[0])


def test_a_token_has_the_same_bits_in_any_company(device):
    projection, tables, weights = make(3, 5, 1, 16, device)
    upstream = [torch.randn(3, heads, 16, device=device) for heads in (5, 1)]

    def run(part):
        rows = projection[part].detach().requires_grad_()
        out = fused(*heads(rows, 1), [table[part] for table in tables], weights)
        return *out, *torch.autograd.grad(out, rows, [grad[part] for grad in upstream])

    together, alone = run(slice(0, 3)), run(slice(2, 3))
    assert all(torch.equal(batch[2:], single) for batch, single in zip(together, alone, strict=True))


def test_rotating_back_gives_the_heads_again(device):
    projection, _, _ = make(3, 4, 2, 16, device)
    q, k = (x.detach() for x in heads(projection, 2))
    angles = torch.arange(24, dtype=torch.float32, device=device).view(3, 8).repeat(1, 2)
    turned = fused(q, k, (angles.cos(), angles.sin()), [])
    back = fused(*turned, (angles.cos(), -angles.sin()), [])
    assert (turned[0] - q).abs().max() > 1
    torch.testing.assert_close(back, (q, k))


def test_half_precision_is_rounded_once(device):
    """The interpreter truncates bf16, so fp16 stands in for it there."""
    dtype = torch.bfloat16 if device == "cuda" else torch.float16
    projection, tables, weights = make(3, 4, 2, 64, device, dtype=dtype)
    exact_projection, exact_tables, exact_weights = wide(projection, tables, weights)
    got = fused(*heads(projection, 2), tables, weights)
    want = qk_norm_rope_reference(*heads(exact_projection, 2), *exact_tables, *exact_weights)
    for have, truth in zip(got, want, strict=True):
        assert have.dtype == dtype
        assert ((have.double() - truth).abs() <= 1.001 * torch.finfo(dtype).eps / 2 * truth.abs() + 1e-6).all()


@pytest.mark.parametrize("needed", ["q", "k", "q_weight", "all but weights"])
def test_only_wanted_gradients(needed, device, launches):
    projection, tables, weights = make(2, 2, 1, 16, device)
    leaves = dict(zip(("q", "k"), (x.detach().clone() for x in heads(projection, 1)), strict=True))
    leaves |= dict(zip(("q_weight", "k_weight"), (w.detach() for w in weights), strict=True))
    wanted = ("q", "k") if needed == "all but weights" else (needed,)
    for name in wanted:
        leaves[name].requires_grad_()
    q, k = fused(leaves["q"], leaves["k"], tables, [leaves["q_weight"], leaves["k_weight"]])
    (q.square().sum() + k.square().sum()).backward()
    assert {name for name, leaf in leaves.items() if leaf.grad is not None} == set(wanted)
    assert ("WEIGHT_GRADS", ("constexpr", needed == "q_weight")) in launches[-1].arguments


def test_rotation_alone_keeps_the_tables_and_nothing_else(device):
    projection, tables, _ = make(2, 2, 1, 16, device, norm=False)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.data_ptr()) or x, lambda x: x):
        fused(*heads(projection, 1), tables, [])
    assert sorted(kept) == sorted(table.data_ptr() for table in tables)


@pytest.mark.parametrize("norm", [True, False], ids=["norm", "rope"])
def test_no_tokens(norm, device):
    projection, tables, weights = make(0, 4, 2, 16, device, norm)
    q, k = fused(*heads(projection, 2), tables, weights)
    assert (q.shape, k.shape) == ((0, 4, 16), (0, 2, 16))
    grads = torch.autograd.grad((q, k), [projection, *weights], (q, k))
    assert all(not grad.any() for grad in grads)


@pytest.mark.parametrize("norm", [True, False], ids=["norm", "rope"])
def test_no_number_of_tokens_compiles_anew(norm, device, launches):
    for tokens in (1, 16, 5):
        projection, tables, weights = make(tokens, 2, 1, 16, device, norm)
        out = fused(*heads(projection, 1), tables, weights)
        torch.autograd.grad(out, [projection, *weights], [torch.ones_like(x) for x in out])
    assert len(launches) == 6
    assert len(set(launches)) == 2
