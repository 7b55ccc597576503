"""Under FSDP2 the head is called inside the root's forward; two ranks with half the tokens each give one's gradient."""

import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard

from corl_kernels import PolicyObjective, linear_policy_loss

T, H, V = 600, 24, 131


class Model(nn.Module):
    """A layer and a head, tied to the embedding or not."""

    def __init__(self, tied: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(V, H)
        self.layer = nn.Linear(H, H)
        self.lm_head = self.embed if tied else nn.Linear(H, V, bias=False)

    def forward(self, ids: Tensor, targets: Tensor, advantages: Tensor, weights: Tensor) -> Tensor:
        hidden = torch.tanh(self.layer(self.embed(ids)))
        objective = PolicyObjective("grpo", entropy_coef=0.1)
        return linear_policy_loss(hidden, self.lm_head.weight, targets, advantages, weights, objective=objective).loss


def gradients(rank: int, ranks: int, tied: bool) -> list[Tensor]:
    """The gradients of the whole batch's loss, from this rank's share of its tokens."""
    torch.manual_seed(0)
    model = Model(tied)
    batch = (torch.randint(0, V, (T,)), torch.randint(0, V, (T,)), torch.randn(T), torch.rand(T) / T)
    if ranks > 1:
        fully_shard(model.layer)
        fully_shard(model)
        for module in (model.layer, model):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    share = slice(rank * T // ranks, (rank + 1) * T // ranks)
    model(*(x[share] for x in batch)).backward()
    found = [p.grad for p in model.parameters()]
    return [g.full_tensor() if hasattr(g, "full_tensor") else g for g in found]


@pytest.mark.slow
def test_two_ranks_give_the_gradient_of_one():
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", __file__]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("equal") == 4


if __name__ == "__main__":
    dist.init_process_group("gloo")
    for tied in (False, True):
        for two, one in zip(gradients(dist.get_rank(), 2, tied), gradients(0, 1, tied), strict=True):
            torch.testing.assert_close(two, one, rtol=1e-5, atol=1e-6 * float(one.abs().max()))
        print("equal", flush=True)
    dist.destroy_process_group()
