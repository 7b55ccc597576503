"""The KL row kernels, launched on a GPU or under the interpreter, against autograd in fp64."""

import pytest
import torch

from corl_kernels.jit import kl_rows
from corl_kernels.kl import linear_kl_reference
from corl_kernels.kl_rows import make_divergence

V, C, START, STOP = 37, 7, 2, 7


@pytest.fixture(autouse=True)
def small_block(monkeypatch):
    monkeypatch.setattr(kl_rows, "_BLOCK", 16)


def make(device, temperature):
    gen = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(C, V, generator=gen)
    ref_logits = logits + torch.randn(C, V, generator=gen)
    ref_logits[1] = logits[1]
    logits[STOP - START :] = ref_logits[STOP - START :] = float("nan")
    scale = 0.5 + torch.rand(STOP + 3, generator=gen) if temperature else None
    padded = (torch.full((C, 64), float("nan"), device=device)[:, :V].copy_(x) for x in (logits, ref_logits))
    return *padded, make_divergence(None if scale is None else scale.to(device), STOP + 3, logits.to(device))


def reference(logits, ref_logits, tokens, slope):
    rows, ref_rows = (x[: STOP - START].double().cpu() for x in (logits, ref_logits))
    rows.requires_grad_()
    scale = 1.0 if tokens.temperature is None else tokens.temperature[START:STOP].double().cpu()
    head = torch.eye(V, dtype=torch.float64)
    kl = linear_kl_reference(rows, head, ref_rows, head, temperature=scale)
    return kl.detach(), torch.autograd.grad((kl * slope.double().cpu()).sum(), rows)[0]


@pytest.mark.parametrize("temperature", [False, True], ids=["one", "per-token"])
def test_values_and_gradients(device, temperature):
    logits, ref_logits, tokens = make(device, temperature)
    slope = torch.tensor([1.0, -2.0, 0.0, 0.5, 3.0], device=device)
    want, want_gradient = reference(logits, ref_logits, tokens, slope)
    kl_rows.divergence(logits, ref_logits, tokens, START, STOP)
    torch.testing.assert_close(tokens.kl[START:STOP].double().cpu(), want, rtol=1e-5, atol=2e-6)
    assert (tokens.kl[:START] == 0).all()
    assert (tokens.kl[STOP:] == 0).all()
    dlogits = kl_rows.gradient(logits, ref_logits, tokens, START, STOP, slope, torch.float32)
    torch.testing.assert_close(dlogits[: STOP - START].double().cpu(), want_gradient, rtol=1e-5, atol=1e-5)
    assert (dlogits[STOP - START :] == 0).all()


def test_16_bit_gradients_lie_over_the_first_half_of_each_row(device):
    logits, ref_logits, tokens = make(device, True)
    slope = torch.ones((), device=device).expand(STOP - START)
    _, want = reference(logits, ref_logits, tokens, slope)
    kl_rows.divergence(logits, ref_logits, tokens, START, STOP)
    dlogits = kl_rows.gradient(logits, ref_logits, tokens, START, STOP, slope, torch.float16)
    assert dlogits.data_ptr() == logits.data_ptr()
    torch.testing.assert_close(dlogits[: STOP - START].double().cpu(), want, rtol=2e-3, atol=1e-3)


def test_extreme_rows(device):
    """Where the policy gives probability 0 the reference does not matter; a NaN reaches its own row alone."""
    logits, ref_logits, tokens = make(device, False)
    logits[0, :30] = float("-inf")
    ref_logits[0, :4] = float("-inf")
    logits[2, 3] = float("nan")
    live = torch.arange(V, device=device) >= 30
    p, q = (x[0].double().log_softmax(-1)[live] for x in (logits, ref_logits))
    kl_rows.divergence(logits, ref_logits, tokens, START, STOP)
    torch.testing.assert_close(tokens.kl[START].double(), (p.exp() * (p - q)).sum(), rtol=1e-5, atol=1e-5)
    assert tokens.kl[START + 2].isnan()
    assert tokens.kl[[START + 1, START + 3]].isfinite().all()
