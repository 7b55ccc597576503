"""KL estimators by hand and linear_kl against full logits and autograd in fp64."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from corl_kernels import kl_estimate, linear_kl
from corl_kernels.chunks import ROWS_CPU
from corl_kernels.kl import linear_kl_reference


@pytest.mark.parametrize(
    ("estimator", "value", "slope"),
    [
        ("k1", lambda d: d, lambda d: 1.0),
        ("k2", lambda d: d * d / 2, lambda d: d),
        ("k3", lambda d: 2.718281828459045**-d + d - 1, lambda d: 1 - 2.718281828459045**-d),
    ],
)
def test_estimators_are_differentiated_as_written(estimator, value, slope):
    gaps = [-1.5, -0.1, 0.0, 0.3, 2.0]
    ref = torch.linspace(-3, -1, 5, dtype=torch.float64)
    logprobs = (ref + torch.tensor(gaps, dtype=torch.float64)).requires_grad_()
    kl = kl_estimate(logprobs, ref, estimator)
    (gradient,) = torch.autograd.grad(kl.sum(), logprobs)
    torch.testing.assert_close(kl.detach(), torch.tensor([value(d) for d in gaps], dtype=torch.float64))
    torch.testing.assert_close(gradient, torch.tensor([slope(d) for d in gaps], dtype=torch.float64))


def test_k1_and_k3_average_to_the_exact_kl():
    logp, logq = torch.randn(2, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64).log_softmax(-1)
    exact = (logp.exp() * (logp - logq)).sum()
    for estimator in ("k1", "k3"):
        torch.testing.assert_close((logp.exp() * kl_estimate(logp, logq, estimator)).sum(), exact)


def test_estimator_errors():
    with pytest.raises(ValueError, match="estimator='k0' is not known; choose one of k1, k2, k3"):
        kl_estimate(torch.zeros(2), torch.zeros(2), "k0")
    with pytest.raises(ValueError, match="ref_logprobs has shape"):
        kl_estimate(torch.zeros(2), torch.zeros(3), "k1")


def make(tokens, vocab=29):
    gen = torch.Generator().manual_seed(tokens)
    return [torch.randn(n, h, generator=gen) for n, h in ((tokens, 6), (vocab, 6), (tokens, 10), (vocab, 10))]


@pytest.mark.parametrize("temperature", [1.0, 1.4, "per token"])
@pytest.mark.parametrize("tokens", [1, ROWS_CPU, ROWS_CPU + 45])
def test_linear_kl_values_and_gradients(tokens, temperature):
    temperature = torch.linspace(0.5, 2, tokens) if temperature == "per token" else temperature
    coefficients = torch.randn(tokens, generator=torch.Generator().manual_seed(1))

    def run(function, dtype):
        hidden, weight, *reference = (x.to(dtype).requires_grad_() for x in make(tokens))
        kl = function(hidden, weight, *reference, temperature=temperature)
        inputs = (hidden, weight, *reference)
        return kl, *torch.autograd.grad((kl * coefficients).sum(), inputs, allow_unused=True)

    have, want = run(linear_kl, torch.float32), run(linear_kl_reference, torch.float64)
    assert have[3:] == want[3:] == (None, None)
    assert (want[0] > 0).all()
    for mine, expected in zip(have[:3], want[:3], strict=True):
        limit = 1e-5 * max(1.0, float(expected.detach().abs().max()))
        torch.testing.assert_close(mine.double(), expected, rtol=1e-5, atol=limit)


def test_linear_kl_of_a_policy_with_itself_is_zero():
    hidden, weight, _, _ = make(30)
    hidden.requires_grad_()
    kl = linear_kl(hidden, weight, hidden, weight)
    kl.sum().backward()
    assert (kl == 0).all()
    assert (hidden.grad == 0).all()


def test_linear_kl_holds_two_chunk_buffers():
    hidden, weight, ref_hidden, ref_weight = make(3 * ROWS_CPU, vocab=301)
    buffers = set()

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **kwargs or {})
            if isinstance(out, torch.Tensor) and out.numel() >= ROWS_CPU * 301:
                buffers.add(out.untyped_storage().data_ptr())
            return out

    with Watch():
        linear_kl(hidden, weight, ref_hidden, ref_weight)
    assert len(buffers) == 2


def test_linear_kl_errors():
    hidden, weight, ref_hidden, ref_weight = make(5)
    with pytest.raises(ValueError, match=r"ref_hidden has shape \[4, 10\]; it must be \[5, \*\]"):
        linear_kl(hidden, weight, ref_hidden[:4], ref_weight)
    with pytest.raises(ValueError, match=r"ref_weight has shape \[28, 10\]; it must be \[29, \*\]"):
        linear_kl(hidden, weight, ref_hidden, ref_weight[:28])
    with pytest.raises(ValueError, match="ref_weight is torch.bfloat16"):
        linear_kl(hidden, weight, ref_hidden, ref_weight.bfloat16())


def test_the_reference_may_come_from_inference_mode():
    hidden, weight, ref_hidden, ref_weight = make(40, vocab=31)
    want = linear_kl(hidden, weight, ref_hidden, ref_weight)
    with torch.inference_mode():
        inside = ref_hidden.clone(), ref_weight.clone()
    have = linear_kl(hidden.requires_grad_(), weight, *inside)
    have.sum().backward()
    assert torch.equal(have, want)
    assert hidden.grad.isfinite().all()
