"""How the engine gets the trainer's newest weights: by reference, never by copy."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule


@dataclass(frozen=True, slots=True)
class SwapReport:
    """What a weight swap moved: `bytes` of parameters made current, in `seconds` of wall time."""

    bytes: int
    seconds: float


@torch.no_grad()
def refresh_unsharded(model: nn.Module) -> int:
    """Gather the current value of every parameter and leave it in place; returns the bytes of all parameters.

    Under FSDP2 unshard() does nothing while a module is unsharded, hence the reshard() before it: a stale copy would
    stay. A model without FSDP2 modules is current already. no_grad and not inference_mode, since autograd will read
    the same tensors.
    """
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
            module.unshard()
    return sum(parameter.nbytes for parameter in model.parameters())
