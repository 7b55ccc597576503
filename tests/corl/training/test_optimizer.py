import pytest
import torch
from torch import nn

from corl.config import Optim
from corl.training.optimizer import build_optimizer, learning_rate, optimizer_tensors


@pytest.mark.parametrize(("schedule", "expected"), [
    ("constant", {0: 0.25, 1: 0.5, 3: 1.0, 4: 1.0, 8: 1.0, 11: 1.0, 99: 1.0}),
    ("linear", {0: 0.25, 3: 1.0, 4: 1.0, 8: 0.6, 11: 0.3, 12: 0.2, 99: 0.2}),
    ("cosine", {3: 1.0, 4: 1.0, 8: 0.6, 10: 0.2 + 0.8 * (1 - 0.5**0.5) / 2, 12: 0.2, 99: 0.2}),
])  # fmt: skip
def test_warm_up_then_the_schedule(schedule, expected):
    optim = Optim(lr=2e-3, warmup_steps=4, schedule=schedule, min_lr_ratio=0.2)
    for step, share in expected.items():
        assert learning_rate(optim, step, 12) == pytest.approx(2e-3 * share), step


def test_without_warm_up_the_first_step_has_the_full_rate():
    assert learning_rate(Optim(lr=0.5, schedule="cosine"), 0, 10) == 0.5
    assert learning_rate(Optim(lr=0.5, schedule="linear", warmup_steps=20), 9, 10) == 0.25


def test_only_matrices_decay(make_decoder):
    parameters = dict(make_decoder(tied=False).named_parameters())
    optimizer = build_optimizer(parameters, Optim(lr=0.1, weight_decay=0.5, betas=(0.8, 0.9), eps=1e-5))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert len(decay) == len(parameters)
    for name, parameter in parameters.items():
        matrix = not (name.endswith(".bias") or "norm" in name)
        assert decay[id(parameter)] == (0.5 if matrix else 0.0), name
    assert optimizer.defaults["betas"] == (0.8, 0.9)
    assert optimizer.defaults["eps"] == 1e-5

    before = {name: p.detach().clone() for name, p in parameters.items()}
    for parameter in parameters.values():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in parameters.items():
        factor = 0.95 if parameter.dim() == 2 else 1.0
        torch.testing.assert_close(parameter.detach(), before[name] * factor)


def test_the_state_is_there_before_the_first_update_and_is_the_optimizer_s_own():
    parameters = {"w": nn.Parameter(torch.ones(2, 3)), "b": nn.Parameter(torch.ones(3))}
    optimizer = build_optimizer(parameters, Optim(lr=0.1))
    fresh = optimizer_tensors(parameters, optimizer)
    assert sorted(fresh) == [f"{p}.{k}" for p in "bw" for k in ("exp_avg", "exp_avg_sq", "step")]
    assert not any(t.any() for t in fresh.values())
    for parameter in parameters.values():
        parameter.grad = torch.full_like(parameter, 2.0)
    optimizer.step()
    after = optimizer_tensors(parameters, optimizer)
    assert after["w.step"] == 1
    torch.testing.assert_close(after["w.exp_avg"], torch.full((2, 3), 0.2))
    # A first step from zeros is that of an optimiser that made its own state.
    torch.testing.assert_close(parameters["b"].detach(), torch.full((3,), 0.9))
