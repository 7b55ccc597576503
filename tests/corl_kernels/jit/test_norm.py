"""The norm kernels, through the registered ops that autograd sees, against fp64 autograd of the references."""

import pytest
import torch

pytest.importorskip("triton")
import corl_kernels.jit.norm as kernels
from corl_kernels.norm import _OP, _rms_norm, add_rms_norm_reference, rms_norm_reference

EPS = 1e-5
SHAPES = [(2, 3584), (3, 48), (1, 1), (17, 255), (5, 10)]  # (rows, channels)
PLAIN = pytest.mark.parametrize("plain", [True, False], ids=["norm", "add"])


def make(rows, dim, device, dtype=torch.float32, plain=False):
    """x, the residual unless plain, and the weight, which all want gradients."""
    gen = torch.Generator().manual_seed(rows + dim)
    sizes = [(rows, dim), (dim,)] if plain else [(rows, dim), (rows, dim), (dim,)]
    return [torch.randn(size, generator=gen).to(device, dtype).requires_grad_() for size in sizes]


def fused(inputs):
    x, *residual, weight = inputs
    return _rms_norm(x, *residual or [None], weight, EPS)[: len(inputs) - 1]


def reference(inputs):
    if len(inputs) == 2:
        return (rms_norm_reference(*inputs, eps=EPS),)
    return add_rms_norm_reference(*inputs, eps=EPS)


def wide(inputs):
    return [x.detach().double().requires_grad_() for x in inputs]


def assert_same(got, want, tolerance=1e-5):
    assert len(got) == len(want)
    for have, truth in zip(got, want, strict=True):
        torch.testing.assert_close(have.double(), truth, rtol=tolerance, atol=tolerance)


@PLAIN
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients(shape, plain, device):
    inputs = make(*shape, device, plain=plain)
    exact = wide(inputs)
    got, want = fused(inputs), reference(exact)
    assert_same(got, want)
    upstream = [torch.randn_like(out) for out in got]
    grads = torch.autograd.grad(got, inputs, upstream)
    assert_same(grads, torch.autograd.grad(want, exact, [grad.double() for grad in upstream]), 2e-5)


@pytest.mark.parametrize("rows", [2, 3, 8])
def test_weight_sums_over_all_rows_in_one_order(rows, device, monkeypatch):
    monkeypatch.setattr(kernels, "_PROGRAMS", 3)
    inputs = make(rows, 20, device)
    exact = wide(inputs)
    got, want = fused(inputs), reference(exact)
    upstream = [torch.randn_like(out) for out in got]
    grads = torch.autograd.grad(got, inputs, upstream, retain_graph=True)
    assert_same(grads, torch.autograd.grad(want, exact, [grad.double() for grad in upstream]))
    again = torch.autograd.grad(got, inputs, upstream)
    assert all(torch.equal(*pair) for pair in zip(grads, again, strict=True))


@pytest.mark.parametrize("used", [0, 1], ids=["normed", "total"])
def test_one_result_may_go_unused(used, device):
    inputs = make(3, 16, device)
    exact = wide(inputs)
    for upstream in (torch.randn(3, 16, device=device), torch.ones(1, 1, device=device).expand(3, 16)):
        got = torch.autograd.grad(fused(inputs)[used], inputs, upstream, allow_unused=True)
        want = torch.autograd.grad(reference(exact)[used], exact, upstream.double(), allow_unused=True)
        for have, truth in zip(got, want, strict=True):
            assert (have is None) == (truth is None)
            if truth is not None:
                torch.testing.assert_close(have.double(), truth, rtol=1e-5, atol=1e-5)


def test_rows_may_be_far_apart_and_inputs_stay_as_they_were(device):
    inputs = make(4, 16, device)
    spaced = [torch.randn(4, 50, device=device) for _ in range(2)]
    for rows, x in zip(spaced, inputs, strict=False):
        rows[:, 3:19] = x.detach()
    views = [rows[:, 3:19].detach().requires_grad_() for rows in spaced] + [inputs[2]]
    before = [x.detach().clone() for x in (*spaced, inputs[2])]
    upstream = [torch.randn(4, 40, device=device)[:, ::2][:, :16] for _ in range(2)]
    kept = [grad.clone() for grad in upstream]
    got, want = fused(views), fused(inputs)
    grads, truths = (torch.autograd.grad(out, given, upstream) for out, given in ((got, views), (want, inputs)))
    for pairs in zip((*got, *grads), (*want, *truths), strict=True):
        assert torch.equal(*pairs)
    for pairs in zip((*spaced, inputs[2], *upstream), (*before, *kept), strict=True):
        assert torch.equal(*pairs)


@PLAIN
def test_a_row_has_the_same_bits_in_any_company(plain, device):
    inputs = make(5, 48, device, plain=plain)

    def run(part):
        rows = [x[part].detach().requires_grad_() for x in inputs[:-1]]
        out = fused([*rows, inputs[-1].detach()])
        return *out, *torch.autograd.grad(out, rows, [torch.ones_like(x) for x in out])

    for many, one in zip(run(slice(0, 5)), run(slice(3, 4)), strict=True):
        assert torch.equal(many[3:4], one)


@PLAIN
def test_half_precision_is_rounded_once(plain, device):
    """The interpreter truncates bf16, so fp16 stands in for it there."""
    dtype = torch.bfloat16 if device == "cuda" else torch.float16
    inputs = make(3, 64, device, dtype, plain=plain)
    exact = wide(inputs)
    got, want = fused(inputs), reference(exact)
    if not plain:  # the sum is rounded as well, and that is what is normed
        assert torch.equal(got[1], (inputs[0] + inputs[1]).detach())
        want = rms_norm_reference(got[1].double(), exact[2], eps=EPS), got[1].double()
    for have, truth in zip(got, want, strict=True):
        assert have.dtype == dtype
        assert ((have.double() - truth).abs() <= 1.001 * torch.finfo(dtype).eps / 2 * truth.abs() + 1e-6).all()
    grads = torch.autograd.grad(got, inputs, [torch.ones_like(x) for x in got])
    assert {grad.dtype for grad in grads} == {dtype}


@PLAIN
@pytest.mark.parametrize("wanted", ["x", "weight"])
def test_only_wanted_gradients(wanted, plain, device, launches):
    inputs = [x.detach() for x in make(2, 16, device, plain=plain)]
    leaf = inputs[0 if wanted == "x" else -1].requires_grad_()
    fused(inputs)[0].square().sum().backward()
    assert leaf.grad is not None and sum(x.grad is not None for x in inputs) == 1
    assert ("WEIGHT_GRAD", ("constexpr", wanted == "weight")) in launches[-1].arguments


@PLAIN
def test_no_rows(plain, device):
    inputs = make(0, 16, device, plain=plain)
    out = fused(inputs)
    assert all(x.shape == (0, 16) for x in out)
    assert all(not grad.any() for grad in torch.autograd.grad(out, inputs, out))


@PLAIN
def test_no_number_of_rows_compiles_anew(plain, device, launches):
    for rows in (1, 16, 5):
        inputs = make(rows, 16, device, plain=plain)
        out = fused(inputs)
        torch.autograd.grad(out, inputs, [torch.ones_like(x) for x in out])
    assert len(launches) == 6
    assert len(set(launches)) == 2


@PLAIN
def test_the_op_has_a_fake_and_compiles_without_a_break(plain, device):
    inputs = make(3, 16, device, plain=plain)
    arguments = (*inputs, EPS) if not plain else (inputs[0], None, inputs[1], EPS)
    torch.library.opcheck(
        _OP.op, arguments, test_utils=("test_schema", "test_faketensor", "test_autograd_registration")
    )

    def loss(*inputs):
        return sum(out.square().sum() for out in fused(list(inputs)))

    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    got, want = (torch.autograd.grad(f(*inputs), inputs) for f in (compiled, loss))
    transformed = torch.func.grad(loss, argnums=tuple(range(len(inputs))))(*inputs)
    assert all(torch.equal(a, c) and torch.equal(b, c) for a, b, c in zip(got, transformed, want, strict=True))


def test_rows_may_be_two_billion_elements_apart(device):
    """4 GB of addresses, of which two rows are touched; the last row's offset does not fit 32 bits."""
    storage = torch.empty(2**31 + 16, dtype=torch.float16, device=device)
    inputs = make(2, 16, device, torch.float16)
    x = storage.as_strided((2, 16), (2**31, 1))
    x.copy_(inputs[0].detach())
    got, want = fused([x, *inputs[1:]]), fused(inputs)
    grads, truths = (torch.autograd.grad(out, inputs[1:], out) for out in (got, want))
    assert all(torch.equal(*pair) for pair in zip((*got, *grads), (*want, *truths), strict=True))
