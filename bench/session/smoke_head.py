"""The cases of the smoke test on the language-model head: losses, log-probs and divergences over several chunks."""

import torch
from torch import Tensor

import corl_kernels
from bench.accuracy import cross_entropy_truth, errors, policy_truth
from bench.session.record import at_most
from bench.session.smoke_inputs import LOGPROB, Found, Inputs, gradient_goal, largest, poisoned, relative
from corl_kernels import PolicyObjective
from corl_kernels.kl import linear_kl_reference
from corl_kernels.logprobs import linear_logprobs_reference
from corl_kernels.policy_loss import linear_policy_loss_reference

# T tokens, H hidden, V vocabulary


def update(inputs: Inputs, name: str) -> Found:
    """Log-probs and gradients of `name` over all rows, against fp64."""
    batch = inputs.batch
    batch.clear()
    logprobs: Tensor | None
    if name == "linear_cross_entropy":
        truth = cross_entropy_truth(batch)
        with poisoned():
            logprobs = None
            inputs_of = (batch.hidden, batch.weight, batch.targets, batch.token_weights)
            corl_kernels.linear_cross_entropy(*inputs_of).backward()
    else:
        objective = PolicyObjective("grpo", entropy_coef=0.01)
        truth = policy_truth(batch, objective)
        settings: dict = {"objective": objective, "old_logprobs": batch.old_logprobs}
        main_grad = torch.zeros_like(batch.weight, dtype=torch.float32)
        if name.endswith("grad_weight_out"):
            settings |= {"grad_weight_out": main_grad, "grad_loss_is_one": True}
        inputs_of = (batch.hidden, batch.weight, batch.targets, batch.advantages, batch.token_weights)
        with poisoned():
            result = corl_kernels.linear_policy_loss(*inputs_of, **settings)
            result.loss.backward()
        logprobs = result.logprobs
        if name.endswith("grad_weight_out"):
            batch.weight.grad = main_grad.to(batch.weight.dtype)
    found: Found = {}
    for what, error in errors(batch, truth, logprobs).items():
        if what != "logprobs_mean":
            found[what] = error, at_most(LOGPROB) if what == "logprobs_max" else gradient_goal(inputs)
    batch.clear()
    return found


def sequences(inputs: Inputs) -> Found:
    """gspo over sequences that lie across two chunks of rows, on a slice that fits full logits in fp64."""
    batch = inputs.batch
    count = min(len(batch.targets), 1100)
    part = batch.take(count)
    bounds = torch.tensor([0, count // 3, count // 3 + 1, count])
    settings = {"objective": PolicyObjective("gspo"), "old_logprobs": part.old_logprobs, "cu_seqlens": bounds}
    wide_hidden, wide_weight = (x.detach().double().requires_grad_() for x in (part.hidden, part.weight))
    numbers = (part.targets, part.advantages, part.token_weights)
    linear_policy_loss_reference(wide_hidden, wide_weight, *numbers, **settings)[0].backward()
    part.clear()
    with poisoned():
        corl_kernels.linear_policy_loss(part.hidden, part.weight, *numbers, **settings).loss.backward()
    goal, found = gradient_goal(inputs), {}
    for name, leaf, wanted in (("grad_hidden", part.hidden, wide_hidden), ("grad_weight", part.weight, wide_weight)):
        assert leaf.grad is not None and wanted.grad is not None
        found[name] = relative(leaf.grad, wanted.grad), goal
    part.clear()
    return found


def logprobs(inputs: Inputs) -> Found:
    batch = inputs.batch
    heat = torch.linspace(0.5, 2.0, len(batch.targets), device=batch.hidden.device)
    with poisoned(), torch.no_grad():
        settings = {"temperature": heat, "return_entropy": True}
        found = corl_kernels.linear_logprobs(batch.hidden, batch.weight, batch.targets, **settings)
    gaps = [0.0, 0.0]
    weight = batch.weight.detach().double()
    for rows in torch.arange(len(heat), device=heat.device).split(512):
        hidden = batch.hidden.detach()[rows].double()
        wanted = linear_logprobs_reference(
            hidden, weight, batch.targets[rows], temperature=heat[rows].double(), return_entropy=True
        )
        assert found.entropy is not None and wanted.entropy is not None
        pairs = ((found.logprobs[rows], wanted.logprobs), (found.entropy[rows], wanted.entropy))
        gaps = [max(gap, largest(*pair)) for gap, pair in zip(gaps, pairs, strict=True)]
    return {"logprobs_max": (gaps[0], at_most(LOGPROB)), "entropy_max": (gaps[1], at_most(LOGPROB))}


def kl(inputs: Inputs) -> Found:
    part = inputs.batch.take(min(len(inputs.batch.targets), 700))
    reference = (part.hidden.detach() * 0.9, part.weight.detach())
    wide = [x.detach().double() for x in (part.hidden, part.weight, *reference)]
    wide[0].requires_grad_()
    wanted = linear_kl_reference(*wide)
    wanted.mean().backward()
    part.clear()
    with poisoned():
        found = corl_kernels.linear_kl(part.hidden, part.weight, *reference)
        found.mean().backward()
    assert part.hidden.grad is not None and wide[0].grad is not None
    result: Found = {"": (largest(found.detach(), wanted.detach()), at_most(LOGPROB))}
    result |= {"grad_hidden": (relative(part.hidden.grad, wide[0].grad), gradient_goal(inputs))}
    part.clear()
    return result


def kl_estimate(inputs: Inputs) -> Found:
    policy, reference = (torch.randn(inputs.tokens, device=inputs.batch.hidden.device) for _ in range(2))
    return {
        kind: (
            relative(
                corl_kernels.kl_estimate(policy, reference, kind),
                corl_kernels.kl_estimate(policy.double(), reference.double(), kind),
            ),
            at_most(1e-5),
        )
        for kind in ("k1", "k2", "k3")
    }


CASES = {
    "linear_policy_loss": lambda inputs: update(inputs, "linear_policy_loss"),
    "linear_policy_loss, grad_weight_out": lambda inputs: update(inputs, "grad_weight_out"),
    "linear_policy_loss, sequences": sequences,
    "linear_cross_entropy": lambda inputs: update(inputs, "linear_cross_entropy"),
    "linear_logprobs": logprobs,
    "linear_kl": kl,
    "kl_estimate": kl_estimate,
}
