"""RMSNorm and SwiGLU: liger-kernel's kernels on a GPU where it is installed, torch ops everywhere else."""

import logging
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from corl_kernels.rotary import rms_norm as torch_rms_norm

# T tokens, D hidden, I intermediate
logger = logging.getLogger(__name__)


class Ops(NamedTuple):
    rms_norm: Callable[[Tensor, Tensor, float], Tensor]
    swiglu: Callable[[Tensor], Tensor]


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / rms(x) * weight of x [T, D] and weight [D], same dtype. Zhang and Sennrich 2019, arXiv:1910.07467.

    fp32 inside, rounded to the dtype of x before the weight is applied: the order transformers has.
    """
    return ops(x.is_cuda).rms_norm(x, weight, eps)


def swiglu(gate_up: Tensor) -> Tensor:
    """silu(gate) * up [T, I] of gate | up [T, 2 I]. Shazeer 2020, arXiv:2002.05202."""
    return ops(gate_up.is_cuda).swiglu(gate_up)


@cache
def ops(on_cuda: bool) -> Ops:
    """The implementation for tensors on such a device, named in the log when it is first asked for."""
    if on_cuda and find_spec("liger_kernel") is not None:
        logger.info("RMSNorm and SwiGLU on CUDA: liger-kernel")
        return _liger_ops()
    where, hint = ("CUDA", "; `pip install -e '.[cuda]'` adds liger-kernel's") if on_cuda else ("CPU", "")
    logger.info("RMSNorm and SwiGLU on %s: torch ops%s", where, hint)
    return Ops(torch_rms_norm, _torch_swiglu)


def _torch_swiglu(gate_up: Tensor) -> Tensor:
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up


def _liger_ops() -> Ops:
    from liger_kernel.ops.rms_norm import LigerRMSNormFunction
    from liger_kernel.ops.swiglu import LigerFusedGateUpSiLUMulFunction

    # In place, the norm's backward would write over the gradient it is given, which the sum of a residual connection or
    # a loss that keeps its gradients may still hold, and SwiGLU's over gate_up, which a second backward reads again.
    in_place = False

    def liger_rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
        return LigerRMSNormFunction.apply(x, weight, eps, 0.0, "llama", in_place)

    def liger_swiglu(gate_up: Tensor) -> Tensor:
        # Not LigerSiLUMulFunction: it copies the strided halves and has their gradients concatenated.
        return LigerFusedGateUpSiLUMulFunction.apply(gate_up, in_place)

    return Ops(liger_rms_norm, liger_swiglu)
