"""rms_norm and add_rms_norm on the CPU against their references; the kernels are tested in jit/test_norm.py."""

import pytest
import torch

from corl_kernels import add_rms_norm, rms_norm
from corl_kernels.norm import add_rms_norm_reference, rms_norm_reference


def make(rows=3, dim=48, dtype=torch.float32):
    gen = torch.Generator().manual_seed(rows + dim)
    return [torch.randn(size, generator=gen).to(dtype) for size in ((rows, dim), (rows, dim), (dim,))]


@pytest.mark.parametrize("dim", [1, 17, 48, 255])
@pytest.mark.parametrize("rows", [0, 1, 17])
def test_values_and_gradients_are_those_of_the_reference(rows, dim):
    x, residual, weight = leaves = [tensor.requires_grad_() for tensor in make(rows, dim)]
    got = *add_rms_norm(x, residual, weight, eps=1e-5), rms_norm(x, weight, eps=1e-5)
    want = *add_rms_norm_reference(x, residual, weight, eps=1e-5), rms_norm_reference(x, weight, eps=1e-5)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
    upstream = [torch.randn_like(out) for out in got]
    grads, truths = (torch.autograd.grad(out, leaves, upstream) for out in (got, want))
    torch.testing.assert_close(grads, truths, rtol=1e-4, atol=1e-4)


def test_gradients_are_those_of_finite_differences():
    leaves = [tensor.double().requires_grad_() for tensor in make(2, 5)]
    assert torch.autograd.gradcheck(lambda *inputs: add_rms_norm(*inputs, eps=1e-5), leaves)
    assert torch.autograd.gradcheck(lambda x, weight: rms_norm(x, weight, eps=1e-5), leaves[::2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_bits_on_the_cpu_are_those_of_transformers(dtype):
    x, residual, weight = make(7, 48, dtype)
    total = residual + x
    wide = total.float()
    want = weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-5)).to(dtype)
    assert torch.equal(rms_norm(total, weight, eps=1e-5), want)
    normed, got_total = add_rms_norm(x, residual, weight, eps=1e-5)
    assert torch.equal(normed, want) and torch.equal(got_total, total)


def test_leading_dimensions_are_rows():
    x, residual, weight = make(6, 16)
    normed, total = add_rms_norm(x.view(2, 3, 16), residual.view(2, 3, 16), weight, eps=1e-6)
    want = add_rms_norm(x, residual, weight, eps=1e-6)
    assert torch.equal(normed.view(6, 16), want[0]) and torch.equal(total.view(6, 16), want[1])
    assert torch.equal(rms_norm(x[0], weight, eps=1e-6), rms_norm(x, weight, eps=1e-6)[0])


WRONG = {
    r"x has shape \[\]; it must be": (0, lambda x: x[0, 0]),
    "x is torch.int64; it must be one of": (0, lambda x: x.long()),
    "x has stride 2 in its last dimension; pass x.contiguous": (0, lambda x: x.repeat_interleave(2, -1)[..., ::2]),
    r"residual has shape \[2, 48\]; it must be \[3, 48\]": (1, lambda x: x[:2]),
    "residual is torch.float64; it must be one of torch.float32": (1, lambda x: x.double()),
    "residual has stride 3 in its last dimension": (1, lambda x: x.T.contiguous().T),
    r"weight has shape \[47\]; it must be \[48\]": (2, lambda x: x[1:]),
    "weight is torch.bfloat16": (2, lambda x: x.bfloat16()),
    "weight is on meta": (2, lambda x: x.to("meta")),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_arguments_raise(message):
    inputs = make()
    index, change = WRONG[message]
    inputs[index] = change(inputs[index])
    with pytest.raises(ValueError, match=message):
        add_rms_norm(*inputs, eps=1e-6)


def test_sizes_and_eps_that_mean_nothing_raise():
    x, residual, weight = make()
    with pytest.raises(ValueError, match="eps=0.0 must be above 0"):
        add_rms_norm(x, residual, weight, eps=0.0)
    with pytest.raises(ValueError, match="x has 0 channels; there must be at least 1"):
        rms_norm(x[:, :0], weight[:0], eps=1e-6)
