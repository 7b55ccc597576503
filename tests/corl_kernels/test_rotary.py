"""qk_norm_rope on the CPU against its reference; the kernels are tested in jit/test_qk_norm_rope.py."""

import pytest
import torch

from corl_kernels.rotary import qk_norm_rope, qk_norm_rope_reference

NORM = pytest.mark.parametrize("norm", [True, False], ids=["norm", "rope"])


def make(tokens=3, q_heads=4, k_heads=2, dim=16, norm=True, dtype=torch.float32):
    """q and k as views of one projection, tables, weights."""
    gen = torch.Generator().manual_seed(tokens)
    projection = torch.randn(tokens, q_heads + 2 * k_heads, dim, generator=gen).to(dtype)
    q, k, _ = projection.split([q_heads, k_heads, k_heads], dim=1)
    angles = torch.randn(tokens, dim, generator=gen)
    weights = [torch.randn(dim, generator=gen).to(dtype) for _ in range(2)] if norm else []
    return [q, k, angles.cos().to(dtype), angles.sin().to(dtype), *weights]


@NORM
@pytest.mark.parametrize(("q_heads", "k_heads", "dim"), [(28, 4, 128), (8, 2, 80), (1, 1, 2)])
@pytest.mark.parametrize("tokens", [0, 1, 17])
def test_values_and_gradients_are_those_of_the_reference(tokens, q_heads, k_heads, dim, norm):
    inputs = make(tokens, q_heads, k_heads, dim, norm)
    leaves = [inputs[i].requires_grad_() for i in range(len(inputs)) if i not in (2, 3)]
    got, want = qk_norm_rope(*inputs), qk_norm_rope_reference(*inputs)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
    upstream = [torch.randn_like(out) for out in got]
    grads, truths = (torch.autograd.grad(out, leaves, upstream) for out in (got, want))
    torch.testing.assert_close(grads, truths, rtol=1e-4, atol=1e-4)


@NORM
def test_gradients_are_those_of_finite_differences(norm):
    inputs = make(2, 2, 1, 6, norm, torch.float64)
    leaves = [x.contiguous().requires_grad_() for i, x in enumerate(inputs) if i not in (2, 3)]
    assert torch.autograd.gradcheck(lambda q, k, *weights: qk_norm_rope(q, k, *inputs[2:4], *weights), leaves)


def test_weights_and_eps_are_those_of_q_and_of_k():
    q, k, cos, sin, q_weight, k_weight = make()
    got_q, got_k = qk_norm_rope(q, k, cos, sin, q_weight, k_weight, eps=0.5)
    for x, weight, got in ((q, q_weight, got_q), (k, k_weight, got_k)):
        normed = x / (x.square().mean(-1, keepdim=True) + 0.5).sqrt() * weight
        turned = torch.cat((-normed[..., 8:], normed[..., :8]), dim=-1)
        torch.testing.assert_close(got, normed * cos[:, None] + turned * sin[:, None])


def test_rotation_is_multiplication_by_a_unit_complex_number():
    q, k, _, _ = make(5, 3, 1, 8, norm=False)
    angles = torch.randn(5, 4)
    cos, sin = angles.cos().repeat(1, 2), angles.sin().repeat(1, 2)
    for x, got in zip((q, k), qk_norm_rope(q, k, cos, sin), strict=True):
        want = torch.complex(x[..., :4], x[..., 4:]) * torch.polar(torch.ones(5, 4), angles)[:, None]
        torch.testing.assert_close(got, torch.cat((want.real, want.imag), dim=-1))
    back = qk_norm_rope(*qk_norm_rope(q, k, cos, sin), cos, -sin)
    torch.testing.assert_close(back, (q, k))


@NORM
@pytest.mark.parametrize("tables", [torch.bfloat16, torch.float32], ids=str)
def test_bf16(norm, tables):
    inputs = make(9, norm=norm, dtype=torch.bfloat16)
    inputs[2:4] = [table.to(tables) for table in inputs[2:4]]
    got, want = qk_norm_rope(*inputs), qk_norm_rope_reference(*inputs)
    assert {x.dtype for x in (*got, *want)} == {torch.bfloat16}
    torch.testing.assert_close(got, want, rtol=2e-2, atol=4e-2)


def test_bf16_is_rounded_where_transformers_rounds():
    q, k, cos, sin, q_weight, k_weight = make(9, dtype=torch.bfloat16)
    wide = q.float()
    normed = q_weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)).bfloat16()
    turned = torch.cat((-normed[..., 8:], normed[..., :8]), dim=-1)
    want = normed * cos[:, None] + turned * sin[:, None]
    assert torch.equal(qk_norm_rope(q, k, cos, sin, q_weight, k_weight)[0], want)


WRONG = {
    r"q has shape \[3, 4\]; it must be": (0, lambda x: x[..., 0]),
    "q is torch.int64; it must be one of": (0, lambda x: x.long()),
    "q has head dim 15; it must be even": (0, lambda x: x[..., :15]),
    r"k has shape \[2, 2, 16\]; it must be \[3, \*, 16\]": (1, lambda x: x[:2]),
    "k is torch.float64; it must be one of torch.float32": (1, lambda x: x.double()),
    "k has stride 2 in its last dimension; pass k.contiguous": (1, lambda x: x.repeat_interleave(2, -1)[..., ::2]),
    r"cos has shape \[3, 1, 16\]": (2, lambda x: x[:, None]),
    "cos is torch.bfloat16": (2, lambda x: x.bfloat16()),
    r"sin has shape \[3, 8\]": (3, lambda x: x[:, :8]),
    r"sin has stride 1?\d in its last dimension": (3, lambda x: x.T.contiguous().T),
    r"q_weight has shape \[8\]": (4, lambda x: x[:8]),
    "k_weight is torch.float64": (5, lambda x: x.double()),
    "k_weight is on meta": (5, lambda x: x.to("meta")),
    "pass both, or neither": (5, lambda x: None),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_arguments_raise(message):
    inputs = make()
    index, change = WRONG[message]
    inputs[index] = change(inputs[index])
    with pytest.raises(ValueError, match=message):
        qk_norm_rope(*inputs)


def test_eps_must_be_positive():
    with pytest.raises(ValueError, match="eps=0.0 must be above 0"):
        qk_norm_rope(*make(), eps=0.0)
