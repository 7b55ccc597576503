"""Nothing in an op reads a value back to the host: the traces of the CPU path hold no op that would wait on a GPU."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from corl_kernels import (
    PolicyObjective,
    linear_cross_entropy,
    linear_kl,
    linear_logprobs,
    linear_policy_loss,
)

T, H, V = 600, 16, 41


class Trace(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.waits = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        masked = name in ("index", "index_put", "index_put_") and any(
            isinstance(i, torch.Tensor) and i.dtype in (torch.bool, torch.uint8) for i in args[1]
        )
        if masked or name in ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "unique_dim", "equal"):
            self.waits.append(name)
        return func(*args, **kwargs or {})


def inputs(**more):
    gen = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(T, H, generator=gen), torch.randn(V, H, generator=gen)
    targets = torch.randint(0, V, (T,), generator=gen)
    targets[::9] = -100
    return {
        "hidden": hidden.requires_grad_(),
        "weight": weight.requires_grad_(),
        "targets": targets,
        **{name: torch.randn(T, generator=gen) for name in more.pop("per_token", ())},
        **more,
    }


TOKEN_INPUTS = ("advantages", "token_weights", "old_logprobs", "ref_logprobs", "rollout_logprobs")


@pytest.mark.parametrize("temperature", [0.7, "per token"])
@pytest.mark.parametrize("kind", ["reinforce", "grpo", "gspo", "cispo"])
def test_policy_loss(kind, temperature):
    batch = inputs(per_token=TOKEN_INPUTS, cu_seqlens=torch.tensor([0, 100, 100, T]))
    temperature = torch.linspace(0.5, 1, T) if temperature == "per token" else temperature
    objective = PolicyObjective(kind, dual_clip=2.0, kl_coef=0.1, entropy_coef=0.1, rollout_correction="mask")
    with Trace() as trace:
        linear_policy_loss(**batch, temperature=temperature, objective=objective).loss.backward()
    assert not trace.waits


def test_the_other_losses():
    batch = inputs()
    hidden, weight, targets = batch.values()
    with Trace() as trace:
        linear_logprobs(hidden, weight, targets, return_entropy=True).entropy.sum().backward()
        linear_cross_entropy(hidden, weight, targets, torch.ones(T)).backward()
        linear_kl(hidden, weight, hidden.detach(), weight.detach()).sum().backward()
    assert not trace.waits


def test_the_trace_sees_what_waits():
    values = torch.arange(3.0)
    with Trace() as trace:
        bool(values.sum() > 0)
        values[values > 1]
        values.nonzero()
    assert trace.waits == ["_local_scalar_dense", "index", "nonzero"]
