"""The Triton kernels and their launchers; imported only when a CUDA tensor arrives."""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def on_its_device(launcher: Callable[Concatenate[Tensor, P], R]) -> Callable[Concatenate[Tensor, P], R]:
    """Launch on the device of the first tensor: triton takes the current one, whatever the pointers."""

    @wraps(launcher)
    def launch(first: Tensor, *args: P.args, **kwargs: P.kwargs) -> R:
        if not first.is_cuda:
            return launcher(first, *args, **kwargs)
        with torch.cuda.device(first.device):
            return launcher(first, *args, **kwargs)

    return launch
