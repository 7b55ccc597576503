"""swiglu on the CPU against its reference; the kernels are tested in jit/test_swiglu.py."""

import pytest
import torch
import torch.nn.functional as F

from corl_kernels import swiglu
from corl_kernels.swiglu import swiglu_reference


def make(rows=3, dim=80, dtype=torch.float32):
    gen = torch.Generator().manual_seed(rows + dim)
    return torch.randn(rows, 2 * dim, generator=gen).to(dtype)


@pytest.mark.parametrize("dim", [1, 17, 80])
@pytest.mark.parametrize("rows", [0, 1, 17])
def test_values_and_gradients_are_those_of_the_reference(rows, dim):
    gate_up = make(rows, dim).requires_grad_()
    got, want = swiglu(gate_up), swiglu_reference(gate_up)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
    upstream = torch.randn_like(got)
    grads, truths = (torch.autograd.grad(out, gate_up, upstream) for out in (got, want))
    torch.testing.assert_close(grads, truths, rtol=1e-4, atol=1e-5)


def test_gradients_are_those_of_finite_differences():
    gate_up = make(2, 3).double().requires_grad_()
    gate, up = (half.detach().contiguous().requires_grad_() for half in gate_up.chunk(2, dim=1))
    assert torch.autograd.gradcheck(swiglu, gate_up)
    assert torch.autograd.gradcheck(swiglu, (gate, up))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_bits_on_the_cpu_are_those_of_transformers(dtype):
    gate_up = make(7, 80, dtype)
    assert torch.equal(swiglu(gate_up), F.silu(gate_up[:, :80]) * gate_up[:, 80:])


def test_two_tensors_are_as_good_as_one():
    gate_up = make(6, 16)
    gate, up = gate_up.chunk(2, dim=1)
    assert torch.equal(swiglu(gate, up), swiglu(gate_up))
    assert torch.equal(swiglu(gate_up.view(2, 3, 32)).view(6, 16), swiglu(gate_up))
    assert torch.equal(swiglu(gate_up[0]), swiglu(gate_up)[0])


WRONG = {
    r"gate has shape \[\]; it must be": lambda x: (x[0, 0],),
    "gate is torch.int64; it must be one of": lambda x: (x.long(),),
    "gate has 159 channels; .* or pass up as well": lambda x: (x[:, 1:],),
    "gate has stride 3 in its last dimension; pass gate.contiguous": lambda x: (x.T.contiguous().T,),
    r"up has shape \[3, 159\]; it must be \[3, 160\]": lambda x: (x, x[:, 1:]),
    "up is torch.bfloat16": lambda x: (x, x.bfloat16()),
    "up is on meta": lambda x: (x, x.to("meta")),
    "up has stride 3 in its last dimension": lambda x: (x, x.T.contiguous().T),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_arguments_raise(message):
    with pytest.raises(ValueError, match=message):
        swiglu(*WRONG[message](make()))
