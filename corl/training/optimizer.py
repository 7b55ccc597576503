"""AdamW over the sharded fp32 parameters, and the learning rate of a step."""

import math

import torch
from torch import Tensor

from corl.config import Optim
from corl.parallel import Parameters


def build_optimizer(parameters: Parameters, optim: Optim) -> torch.optim.AdamW:
    """Decoupled weight decay (Loshchilov and Hutter, arXiv:1711.05101) on matrices, none on norms and biases."""
    groups = [
        {"params": [p for p in parameters.values() if p.dim() >= 2], "weight_decay": optim.weight_decay},
        {"params": [p for p in parameters.values() if p.dim() < 2], "weight_decay": 0.0},
    ]
    on_gpu = next(iter(parameters.values())).is_cuda
    return torch.optim.AdamW(groups, lr=optim.lr, betas=optim.betas, eps=optim.eps, fused=on_gpu, foreach=not on_gpu)


def learning_rate(optim: Optim, step: int, total_steps: int) -> float:
    """Rate of update `step` (0-based, within its stage): linear warm-up, then the schedule over what is left."""
    if step < optim.warmup_steps:
        return optim.lr * (step + 1) / optim.warmup_steps
    if optim.schedule == "constant":
        return optim.lr
    progress = min(1.0, (step - optim.warmup_steps) / max(1, total_steps - optim.warmup_steps))
    left = 1.0 - progress if optim.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))
    return optim.lr * (optim.min_lr_ratio + (1.0 - optim.min_lr_ratio) * left)


def optimizer_tensors(parameters: Parameters, optimizer: torch.optim.AdamW) -> dict[str, Tensor]:
    """The optimiser's state by parameter name, created as zeros where no update has made it yet (for checkpoints)."""
    tensors: dict[str, Tensor] = {}
    for name, parameter in parameters.items():
        state = optimizer.state[parameter]
        if not state:
            counter_device = parameter.device if optimizer.defaults["fused"] else "cpu"
            state["step"] = torch.zeros((), dtype=torch.float32, device=counter_device)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        tensors |= {f"{name}.{key}": value for key, value in state.items()}
    return tensors
