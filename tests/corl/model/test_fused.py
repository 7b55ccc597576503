import logging
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F

from corl.model import fused


@pytest.fixture(autouse=True)
def fresh_choice():
    fused.ops.cache_clear()
    yield
    fused.ops.cache_clear()


@pytest.fixture
def liger_calls(monkeypatch):
    """A stand-in for liger-kernel; the list of (function, arguments) it is called with."""
    calls = []

    def module(name, *functions):
        made = ModuleType(name)
        made.__spec__ = ModuleSpec(name, None)
        for function in functions:
            setattr(made, function, type(function, (), {"apply": lambda *args, f=function: calls.append((f, args))}))
        monkeypatch.setitem(sys.modules, name, made)

    module("liger_kernel")
    module("liger_kernel.ops")
    module("liger_kernel.ops.rms_norm", "LigerRMSNormFunction")
    module("liger_kernel.ops.swiglu", "LigerFusedGateUpSiLUMulFunction")
    return calls


def inputs(dtype=torch.float32, device="cpu", tokens=7):
    gen = torch.Generator().manual_seed(0)
    sizes = ((tokens, 48), (48,), (tokens, 2 * 80))
    return [torch.randn(size, generator=gen).to(device, dtype).requires_grad_() for size in sizes]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_bits_on_the_cpu_are_those_of_transformers(dtype):
    x, weight, gate_up = inputs(dtype)
    wide = x.float()
    want = weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-5)).to(dtype)
    assert torch.equal(fused.rms_norm(x, weight, 1e-5), want)
    assert torch.equal(fused.swiglu(gate_up), F.silu(gate_up[:, :80]) * gate_up[:, 80:])


def test_gradients_on_the_cpu():
    leaves = [x.detach().double().requires_grad_() for x in inputs(tokens=2)]
    assert torch.autograd.gradcheck(lambda x, weight, _: fused.rms_norm(x, weight, 1e-5), leaves)
    assert torch.autograd.gradcheck(fused.swiglu, leaves[2:])


def test_liger_gets_whole_tensors_on_cuda_and_overwrites_none(liger_calls):
    x, weight, gate_up = inputs()
    ops = fused.ops(True)
    ops.rms_norm(x, weight, 1e-5)
    ops.swiglu(gate_up)
    (norm, norm_args), (glu, glu_args) = liger_calls
    assert norm == "LigerRMSNormFunction" and norm_args[0] is x and norm_args[1] is weight
    assert norm_args[2:] == (1e-5, 0.0, "llama", False)
    assert glu == "LigerFusedGateUpSiLUMulFunction" and glu_args[0] is gate_up
    assert glu_args[1:] == (False,)


def test_the_cpu_never_asks_for_liger(liger_calls):
    x, weight, gate_up = inputs()
    fused.rms_norm(x, weight, 1e-5)
    fused.swiglu(gate_up)
    assert not liger_calls


def test_one_line_names_the_choice(liger_calls, monkeypatch, caplog):
    caplog.set_level(logging.INFO, logger=fused.__name__)

    def lines(on_cuda):
        fused.ops.cache_clear()
        caplog.clear()
        for _ in range(3):
            fused.ops(on_cuda)
        return caplog.messages

    assert lines(True) == ["RMSNorm and SwiGLU on CUDA: liger-kernel"]
    monkeypatch.setitem(sys.modules, "liger_kernel", None)
    assert lines(True) == ["RMSNorm and SwiGLU on CUDA: torch ops; `pip install -e '.[cuda]'` adds liger-kernel's"]
    assert fused.ops(True) == fused.ops(False)
    assert lines(False) == ["RMSNorm and SwiGLU on CPU: torch ops"]


@pytest.mark.gpu
@pytest.mark.parametrize("tokens", [1, 255, 4096])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_liger_on_cuda_is_as_close_to_the_truth_as_torch(dtype, tokens):
    pytest.importorskip("liger_kernel")
    leaves = inputs(dtype, "cuda", tokens)
    exact = [x.detach().double().requires_grad_() for x in leaves]
    for fast, torch_op, picked in zip(fused.ops(True), fused.ops(False), ((0, 1), (2,)), strict=True):
        extra = (1e-5,) if len(picked) == 2 else ()
        upstream = None
        results = []
        for run, given in ((torch_op, exact), (torch_op, leaves), (fast, leaves)):
            mine = [given[i] for i in picked]
            out = run(*mine, *extra)
            upstream = torch.randn_like(out) if upstream is None else upstream
            results.append((out, *torch.autograd.grad(out, mine, upstream.to(out.dtype))))
        for truth, plain, have in zip(*results, strict=True):
            assert have.dtype == dtype
            error, allowed = ((value.double() - truth).abs().max() for value in (have, plain))
            assert error <= 1.5 * allowed + 1e-6 * truth.abs().max()
    assert all(torch.equal(x.double(), y) for x, y in zip(leaves, exact, strict=True))
