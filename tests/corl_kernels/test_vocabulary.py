"""A head sliced over 2 and 4 gloo ranks gives what one rank gives: losses, log-probs and every gradient."""

import subprocess
import sys

import pytest
import torch
import torch.distributed as dist

from corl_kernels import (
    PolicyObjective,
    linear_cross_entropy,
    linear_logprobs,
    linear_policy_loss,
)
from corl_kernels.vocabulary import VocabularySlice

T, H, V = 600, 24, 131
CUTS = {2: (0, 70, V), 4: (0, 1, 70, 130, V)}  # slices of unequal size, two of a single row


def make():
    gen = torch.Generator().manual_seed(0)
    targets = torch.randint(0, V, (T,), generator=gen)
    targets[::9], targets[1], targets[2] = -100, V - 1, 0
    weight = torch.randn(V, H, generator=gen)
    weight[5] = 1.0  # a column far above the others, on one rank alone
    per_token = {name: torch.randn(T, generator=gen) for name in ("advantages", "rollout_logprobs", "ref_logprobs")}
    inputs = {"hidden": torch.randn(T, H, generator=gen), "targets": targets, "temperature": 1.7}
    more = {"token_weights": torch.rand(T, generator=gen) / T, "old_logprobs": torch.randn(T, generator=gen) - 6}
    return inputs | more | per_token, weight, torch.randn(V, generator=gen)


def results(vocabulary, start, stop):
    """Everything the ops give, named; gradients of weight and bias are those of the rows start .. stop."""
    inputs, weight, bias = make()
    tokens = inputs["hidden"], inputs["targets"]
    found = {}
    for kind in ("reinforce", "grpo", "gspo", "cispo"):
        for softcap in (None, 30.0):
            leaves = [x.clone().requires_grad_() for x in (tokens[0], weight[start:stop], bias[start:stop])]
            objective = PolicyObjective(kind, entropy_coef=0.1, kl_coef=0.1, rollout_correction="truncate")
            out = linear_policy_loss(
                **inputs | {"hidden": leaves[0]}, weight=leaves[1], bias=leaves[2], softcap=softcap,
                cu_seqlens=torch.tensor([0, 100, 400, T]), objective=objective, vocabulary=vocabulary,
            )  # fmt: skip
            values = [*out[:3], *torch.autograd.grad(out.loss, leaves)]
            names = ("loss", "logprobs", "entropy", "hidden", "weight", "bias")
            found |= {f"{kind} {softcap} {name}": value.detach() for name, value in zip(names, values, strict=True)}
    # all rows of the first of four ranks, and one of the last, are left out
    masked = bias.masked_fill(torch.isin(torch.arange(V), torch.tensor([0, V - 1])), float("-inf"))
    leaves = [x.clone().requires_grad_() for x in (tokens[0], weight[start:stop])]
    settings = {"bias": masked[start:stop], "vocabulary": vocabulary, "return_entropy": True}
    out = linear_logprobs(*leaves, tokens[1].clamp(1, V - 2).masked_fill(tokens[1] == -100, -100), **settings)
    grads = torch.autograd.grad(out.logprobs.sum() + out.entropy.square().sum(), leaves)
    names = ("masked logprobs", "masked entropy", "masked hidden", "masked weight")
    found |= dict(zip(names, (*(x.detach() for x in out), *grads), strict=True))
    leaves = [x.clone().requires_grad_() for x in (tokens[0], weight[start:stop])]
    scored = linear_logprobs(*leaves, tokens[1], vocabulary=vocabulary, return_entropy=True)
    grads = torch.autograd.grad(scored.logprobs.sum() + scored.entropy.square().sum(), leaves)
    loss = linear_cross_entropy(
        tokens[0], weight[start:stop], tokens[1], inputs["token_weights"], vocabulary=vocabulary
    )
    names = ("score logprobs", "score entropy", "score hidden", "score weight", "cross entropy loss")
    assert all(value.isfinite().all() for value in found.values())
    return found | dict(zip(names, (*(x.detach() for x in scored), *grads, loss), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 4])
def test_slices_give_what_the_whole_gives(ranks):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), __file__]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("equal") == ranks


def test_a_group_of_one_is_the_whole(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        inputs, weight, _ = make()
        whole = VocabularySlice(dist.group.WORLD, 0, V)
        have, want = (
            linear_policy_loss(**inputs, weight=weight, objective=PolicyObjective("grpo"), vocabulary=vocabulary)
            for vocabulary in (whole, None)
        )
        torch.testing.assert_close(have.logprobs, want.logprobs)
        settings = {"objective": PolicyObjective("grpo"), "vocabulary": whole}
        compiled = torch.compile(
            lambda w: linear_policy_loss(**inputs, weight=w, **settings).loss, fullgraph=True, backend="eager"
        )
        torch.testing.assert_close(compiled(weight), want.loss)
        with pytest.raises(ValueError, match=r"targets hold 140; an id must be in \[0, 131\)"):
            linear_logprobs(inputs["hidden"], weight, torch.full((T,), 140), vocabulary=whole)
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    dist.init_process_group("gloo")
    rank, cuts = dist.get_rank(), CUTS[dist.get_world_size()]
    start, stop = cuts[rank], cuts[rank + 1]
    have, want = results(VocabularySlice(dist.group.WORLD, start, V), start, stop), results(None, 0, V)
    for name, value in want.items():
        expected = value[start:stop] if name.endswith(("weight", "bias")) else value
        torch.testing.assert_close(have[name], expected, rtol=2e-5, atol=2e-5 * float(value.abs().max()), msg=name)
        if not name.endswith(("weight", "bias")):  # the same bits on every rank
            everyone = [torch.empty_like(have[name]) for _ in cuts[1:]]
            dist.all_gather(everyone, have[name].contiguous())
            assert all(torch.equal(other, have[name]) for other in everyone), name
    print("equal", flush=True)
    dist.destroy_process_group()
