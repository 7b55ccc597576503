"""Exactness where it is hard: vocabularies of real models, an odd one, and the peaked logits of a trained model."""

import pytest
import torch

from bench.inputs import ModelShape, trained_like
from corl_kernels import PolicyObjective, linear_logprobs, linear_policy_loss
from corl_kernels.logprobs import linear_logprobs_reference
from corl_kernels.policy_loss import linear_policy_loss_reference

T, H = 24, 64
OBJECTIVE = PolicyObjective("grpo", entropy_coef=0.01)
pytestmark = pytest.mark.slow


def batch(vocab, dtype):
    made = trained_like(ModelShape(H, vocab, 1, 1, 64, qk_norm=False), T, 8, "cpu", dtype)
    made.targets[3] = vocab - 1  # the last column
    return made


@pytest.mark.parametrize(("dtype", "bound"), [(torch.bfloat16, 1e-4), (torch.float32, 1e-5)], ids=["bf16", "fp32"])
@pytest.mark.parametrize("vocab", [151_936, 152_064, 151_937])
def test_logprobs_and_gradients(vocab, dtype, bound):
    b = batch(vocab, dtype)
    tokens = (b.targets, b.advantages, b.token_weights)
    out = linear_policy_loss(b.hidden, b.weight, *tokens, objective=OBJECTIVE, old_logprobs=b.old_logprobs)
    have = torch.autograd.grad(out.loss, (b.hidden, b.weight))
    wide = [x.detach().double().requires_grad_() for x in (b.hidden, b.weight)]
    loss, logprobs, entropy = linear_policy_loss_reference(
        *wide, b.targets, *(x.double() for x in tokens[1:]), objective=OBJECTIVE, old_logprobs=b.old_logprobs.double()
    )
    want = torch.autograd.grad(loss, wide)
    assert (out.logprobs - logprobs).abs().max() <= bound
    assert (out.entropy - entropy).abs().max() <= bound
    assert logprobs.max() > -0.05  # there are tokens of a trained model's confidence among them
    assert logprobs.min() < -5
    for x, y in zip(have, want, strict=True):
        limit = 1e-5 if dtype == torch.float32 else 2**-8  # bf16: one rounding of the result
        torch.testing.assert_close(x.double(), y, rtol=limit, atol=1e-5 * float(y.abs().max()))


def test_bf16_gradients_are_closer_than_those_of_autograd():
    """Against torch in bf16 with an fp32 softmax, the bound being 1.5 times its error."""
    b = batch(151_936, torch.bfloat16)
    tokens = (b.targets, b.advantages, b.token_weights)
    out = linear_policy_loss(b.hidden, b.weight, *tokens, objective=OBJECTIVE, old_logprobs=b.old_logprobs)
    have = torch.autograd.grad(out.loss, (b.hidden, b.weight))
    # the logits of a bf16 GEMM, whose softmax is then taken in fp32
    logits = b.hidden @ b.weight.T
    identity_head = torch.nn.functional.log_softmax(logits.float(), dim=-1)
    logprobs = identity_head.gather(1, b.targets[:, None])[:, 0]
    entropy = -(identity_head.exp() * identity_head).sum(-1)
    ratio = (logprobs - b.old_logprobs).exp()
    surrogate = torch.minimum(ratio * b.advantages, ratio.clamp(0.8, 1.2) * b.advantages)
    bf16 = torch.autograd.grad((b.token_weights * (-surrogate - 0.01 * entropy)).sum(), (b.hidden, b.weight))
    wide = [x.detach().double().requires_grad_() for x in (b.hidden, b.weight)]
    loss, *_ = linear_policy_loss_reference(
        *wide, b.targets, *(x.double() for x in tokens[1:]), objective=OBJECTIVE, old_logprobs=b.old_logprobs.double()
    )
    for ours, theirs, want in zip(have, bf16, torch.autograd.grad(loss, wide), strict=True):
        assert (ours - want).norm() <= 1.5 * (theirs - want).norm()


def test_a_token_has_the_same_bits_in_any_pack():
    b = batch(151_937, torch.bfloat16)
    logprobs = linear_logprobs(b.hidden, b.weight, b.targets).logprobs.detach()
    order = torch.randperm(T, generator=torch.Generator().manual_seed(1))[:7]
    again = linear_policy_loss(
        b.hidden[order], b.weight, b.targets[order], torch.ones(7), torch.ones(7),
        objective=PolicyObjective("grpo"), old_logprobs=logprobs[order],
    )  # fmt: skip
    assert torch.equal(again.logprobs, logprobs[order])
    assert again.metrics.ratio_max == 1
    reference = linear_logprobs_reference(b.hidden.double(), b.weight.double(), b.targets).logprobs
    assert (logprobs - reference).abs().max() <= 1e-4


def test_tokens_further_apart_than_two_to_the_31():
    stride, gen = 2**31, torch.Generator().manual_seed(3)
    near, weight = torch.randn(2, H, generator=gen), torch.randn(41, H, generator=gen)
    # 8 GiB of address space, of which a few pages are touched
    far = torch.empty(stride + H).as_strided((2, H), (stride, 1)).copy_(near)
    targets, ones = torch.tensor([40, 3]), torch.ones(2)
    losses = [linear_policy_loss(x, weight, targets, ones, ones, objective=OBJECTIVE) for x in (near, far)]
    assert torch.equal(losses[0].logprobs, losses[1].logprobs)
    assert torch.equal(losses[0].loss, losses[1].loss)
