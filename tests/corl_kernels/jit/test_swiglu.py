"""The SwiGLU kernels, through the registered op that autograd sees, against fp64 autograd of the reference."""

import pytest
import torch

pytest.importorskip("triton")
from corl_kernels.swiglu import _OP, _swiglu, swiglu_reference

SHAPES = [(2, 1500), (3, 48), (1, 1), (17, 255), (2, 1024)]  # (rows, channels)
PACKED = pytest.mark.parametrize("packed", [True, False], ids=["packed", "pair"])


def make(rows, dim, device, dtype=torch.float32, packed=True):
    """gate | up as one tensor, or the two."""
    gen = torch.Generator().manual_seed(rows + dim)
    gate_up = (2 * torch.randn(rows, 2 * dim, generator=gen)).to(device, dtype)
    parts = [gate_up] if packed else [half.clone() for half in gate_up.chunk(2, dim=1)]
    return [part.requires_grad_() for part in parts]


def fused(inputs):
    return _swiglu(inputs[0], inputs[1] if len(inputs) == 2 else None)


@PACKED
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients(shape, packed, device):
    inputs = make(*shape, device, packed=packed)
    exact = [x.detach().double().requires_grad_() for x in inputs]
    got, want = fused(inputs), swiglu_reference(*exact)
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-5)
    upstream = torch.randn_like(got)
    grads = torch.autograd.grad(got, inputs, upstream)
    truths = torch.autograd.grad(want, exact, upstream.double())
    for have, truth in zip(grads, truths, strict=True):
        torch.testing.assert_close(have.double(), truth, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:overflow encountered in exp2")  # under the interpreter
def test_large_numbers_saturate(device):
    gate = torch.tensor([[-1e30, -200.0, -88.0, 0.0, 88.0, 200.0, 1e30]], device=device, requires_grad=True)
    up = torch.ones_like(gate).requires_grad_()
    out = fused([gate, up])
    torch.testing.assert_close(out, torch.nn.functional.silu(gate))
    grads = torch.autograd.grad(out, (gate, up), torch.ones_like(out))
    assert all(grad.isfinite().all() for grad in grads)


@PACKED
def test_rows_may_be_far_apart_and_inputs_stay_as_they_were(packed, device):
    inputs = make(4, 8, device, packed=packed)
    spaced = [torch.randn(4, 50, device=device) for _ in inputs]
    for rows, x in zip(spaced, inputs, strict=True):
        rows[:, 3 : 3 + x.shape[1]] = x.detach()
    views = [rows[:, 3 : 3 + x.shape[1]].detach().requires_grad_() for rows, x in zip(spaced, inputs, strict=True)]
    before = [rows.clone() for rows in spaced]
    upstream = torch.randn(8, 4, device=device).T
    kept = upstream.clone()
    got, want = fused(views), fused(inputs)
    assert torch.equal(got, want)
    grads, truths = (torch.autograd.grad(out, given, upstream) for out, given in ((got, views), (want, inputs)))
    for pair in zip((*grads, *spaced, upstream), (*truths, *before, kept), strict=True):
        assert torch.equal(*pair)


def test_half_precision_is_rounded_once(device):
    """The interpreter truncates bf16, so fp16 stands in for it there."""
    dtype = torch.bfloat16 if device == "cuda" else torch.float16
    (gate_up,) = make(3, 64, device, dtype)
    got, want = fused([gate_up]), swiglu_reference(gate_up.detach().double())
    assert got.dtype == dtype
    assert ((got.double() - want).abs() <= 1.001 * torch.finfo(dtype).eps / 2 * want.abs() + 1e-6).all()
    (grad,) = torch.autograd.grad(got, gate_up, torch.ones_like(got))
    assert grad.dtype == dtype


@PACKED
def test_no_rows(packed, device):
    inputs = make(0, 16, device, packed=packed)
    out = fused(inputs)
    assert out.shape == (0, 16)
    assert all(not grad.any() for grad in torch.autograd.grad(out, inputs, out))


def test_only_wanted_gradients(device):
    gate, up = (x.detach() for x in make(2, 16, device, packed=False))
    up.requires_grad_()
    fused([gate, up]).sum().backward()
    assert gate.grad is None and up.grad is not None


def test_no_number_of_rows_compiles_anew(device, launches):
    for rows in (1, 16, 5):
        inputs = make(rows, 48, device)
        out = fused(inputs)
        torch.autograd.grad(out, inputs, torch.ones_like(out))
    assert len(launches) == 6
    assert len(set(launches)) == 2


@PACKED
def test_the_op_has_a_fake_and_compiles_without_a_break(packed, device):
    inputs = make(3, 16, device, packed=packed)
    arguments = inputs if len(inputs) == 2 else (*inputs, None)
    torch.library.opcheck(
        _OP.op, tuple(arguments), test_utils=("test_schema", "test_faketensor", "test_autograd_registration")
    )

    def loss(*inputs):
        return fused(list(inputs)).square().sum()

    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    got, want = (torch.autograd.grad(f(*inputs), inputs) for f in (compiled, loss))
    transformed = torch.func.grad(loss, argnums=tuple(range(len(inputs))))(*inputs)
    assert all(torch.equal(a, c) and torch.equal(b, c) for a, b, c in zip(got, transformed, want, strict=True))


def test_rows_may_be_two_billion_elements_apart(device):
    """4 GB of addresses, of which two rows are touched; the last row's offset does not fit 32 bits."""
    storage = torch.empty(2**31 + 32, dtype=torch.float16, device=device)
    (gate_up,) = make(2, 16, device, torch.float16)
    far = storage.as_strided((2, 32), (2**31, 1)).copy_(gate_up.detach()).requires_grad_()
    got, want = fused([far]), fused([gate_up])
    (grad,), (truth,) = (torch.autograd.grad(out, x, out) for out, x in ((got, far), (want, gate_up)))
    assert torch.equal(got, want) and torch.equal(grad, truth)
