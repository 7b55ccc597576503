"""Causal flash attention over a pack: flash-attn's kernels where they are installed, torch's own everywhere else."""

import inspect
import logging
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn

# T packed tokens, S sequences, H query heads, K kv heads, E head dim
Varlen = Callable[[Tensor, Tensor, Tensor, Tensor, int], Tensor]
logger = logging.getLogger(__name__)


def causal_varlen(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, max_seqlen: int) -> Tensor:
    """Attention of every token to its own sequence up to itself, scale 1 / sqrt(E), with gradients.

    q           [T, H, E] bf16 or fp16 on CUDA; k, v [T, K, E], H a multiple of K; last dimension contiguous
    cu_seqlens  [S + 1] i32 on the same device: 0, then the running sum of the lengths, ending in T
    max_seqlen  at least the longest length
    returns     [T, H, E], dtype of q

    Has never run on a GPU: written against the signatures of torch 2.11 to 2.13 and of flash-attn 2.8 and 3, the calls
    tested with stand-ins.
    """
    return implementation(q.device)(q, k, v, cu_seqlens, max_seqlen)


@cache
def implementation(device: torch.device) -> Varlen:
    """The kernels for tensors on this device, named in the log when they are first asked for."""
    # flash-attn 3 is written for Hopper: what comes after cannot run it, and for what came before 2 is the tested one
    hopper = device.type == "cuda" and torch.cuda.get_device_capability(device)[0] == 9
    if hopper and _installed("flash_attn_interface"):
        from flash_attn_interface import flash_attn_varlen_func as flash_attn_3

        logger.info("attention over packs on %s: flash-attn 3", device)
        return _flash_attn(flash_attn_3)
    if _installed("flash_attn"):
        from flash_attn import flash_attn_varlen_func as flash_attn_2

        logger.info("attention over packs on %s: flash-attn 2", device)
        return _flash_attn(flash_attn_2)
    logger.info("attention over packs on %s: torch; `pip install -e '.[flash]'` adds flash-attn's", device)
    return _torch_varlen


def _installed(package: str) -> bool:
    """Whether it has a file to import: flash-attn 4 alone leaves a folder flash_attn with none of this in it."""
    spec = find_spec(package)
    return spec is not None and spec.origin is not None


def _flash_attn(function: Callable[..., Any]) -> Varlen:
    """flash_attn_varlen_func of either major version: the first seven arguments and these two keywords are common."""

    def attend(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, max_seqlen: int) -> Tensor:
        out = function(
            q, k, v, cu_seqlens, cu_seqlens, max_seqlen, max_seqlen,
            causal=True, deterministic=torch.are_deterministic_algorithms_enabled(),
        )  # fmt: skip
        return out[0] if isinstance(out, tuple) else out  # early builds of flash-attn 3 return (out, log-sum-exp)

    return attend


def _torch_varlen(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, max_seqlen: int) -> Tensor:
    # torch 2.11 groups heads unasked and has no flag for it; 2.12 and later insist on the flag
    options: dict[str, Any] = {"window_size": (-1, 0)}
    if "enable_gqa" in inspect.signature(varlen_attn).parameters:
        options["enable_gqa"] = True
    out = varlen_attn(q, k, v, cu_seqlens, cu_seqlens, max_seqlen, max_seqlen, **options)
    assert isinstance(out, Tensor)
    return out
