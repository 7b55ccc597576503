"""The norms and gates of a layer, forward and backward: ours, torch's and liger-kernel's."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.contest import Contender, missing
from bench.inputs import ModelShape
from corl_kernels import add_rms_norm, swiglu
from corl_kernels.norm import torch_rms_norm

# T tokens


def residual_norms(shape: ModelShape, tokens: int, *, device: torch.device, dtype: torch.dtype) -> list[Contender]:
    """x + residual and its RMSNorm, as every layer needs it twice; forward, and forward with backward."""
    x, residual = (torch.randn(tokens, shape.hidden, device=device).to(dtype).requires_grad_() for _ in range(2))
    weight = torch.rand(shape.hidden, device=device).to(dtype).requires_grad_()

    def eager(x: Tensor, residual: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        total = x + residual
        return F.rms_norm(total, total.shape[-1:], weight, 1e-6), total

    def written_out(x: Tensor, residual: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        total = x + residual
        return torch_rms_norm(total, weight, 1e-6), total

    def liger(x: Tensor, residual: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        from liger_kernel.ops.fused_add_rms_norm import LigerFusedAddRMSNormFunction

        return LigerFusedAddRMSNormFunction.apply(x, residual, weight, 1e-6, 0.0, "llama", False)

    # backward: the two gradients and the sum are read, one gradient is written
    rivals = {
        "corl add_rms_norm": lambda *args: add_rms_norm(*args, eps=1e-6),
        "torch rms_norm": eager,
        "torch ops, as transformers": written_out,
        "liger FusedAddRMSNorm": liger,
    }
    if device.type == "cuda":
        rivals["torch.compile of rms_norm"] = torch.compile(eager, dynamic=False)
    return _with_backward("add_rms_norm", rivals, [x, residual, weight], 4.0 * x.nbytes, 4.0 * x.nbytes)


def gates(shape: ModelShape, tokens: int, *, device: torch.device, dtype: torch.dtype) -> list[Contender]:
    """silu(gate) * up of one projection's output; forward, and forward with backward."""
    both = torch.randn(tokens, 2 * shape.intermediate, device=device).to(dtype).requires_grad_()

    def eager(both: Tensor) -> Tensor:
        gate, up = both.chunk(2, dim=-1)
        return F.silu(gate) * up

    def liger(both: Tensor) -> Tensor:
        from liger_kernel.ops.swiglu import LigerSiLUMulFunction

        return LigerSiLUMulFunction.apply(*both.chunk(2, dim=-1))

    rivals = {"corl swiglu": swiglu, "torch ops": eager, "liger SiLUMul": liger}
    if device.type == "cuda":
        rivals["torch.compile of the ops"] = torch.compile(eager, dynamic=False)
    return _with_backward("swiglu", rivals, [both], 1.5 * both.nbytes, 2.5 * both.nbytes)


def _with_backward(
    op: str, rivals: dict[str, Callable[..., Any]], leaves: list[Tensor], forward: float, backward: float
) -> list[Contender]:
    """Each rival without gradients and with those of all leaves; `forward` and `backward`: bytes that must move."""
    on_gpu = leaves[0].is_cuda
    entries = []
    for name, function in rivals.items():
        ours = name.startswith("corl")
        skipped = None
        if name.startswith("liger"):
            skipped = missing("liger_kernel") or (None if on_gpu else "its Triton kernels need a GPU")

        def scored(function: Callable[..., Any] = function) -> object:
            with torch.no_grad():
                return function(*leaves)

        def trained(function: Callable[..., Any] = function) -> object:
            results = function(*leaves)
            results = [results] if isinstance(results, Tensor) else list(results)
            return torch.autograd.grad(results, leaves, [x.detach() for x in results])

        rival = {"peer": not ours, "skipped": skipped}
        entries += [
            Contender(op, name, scored, traffic=forward, graph=True, **rival),
            Contender(f"{op} and backward", f"{name}, backward", trained, traffic=forward + backward, **rival),
        ]
    return sorted(entries, key=lambda entry: entry.op)
