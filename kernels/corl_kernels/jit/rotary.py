"""RMSNorm of the heads of q and k and their rotation, forward and backward: a program takes all heads of a token."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from corl_kernels.jit import on_its_device

# T tokens, Hq query heads, Hkv key heads, D head dim, HALF = D / 2: channel i turns with channel i + HALF
# P programs of a backward; a pair of tensors is one for either half of the channels

_HEADS = 16  # at a time: at D = 128 in bf16 each thread of four warps loads 16 bytes of either half
# The backward holds more values a thread: at 64 + 8 heads of 128 in bf16 168 registers with four warps, 101 with eight.
_FWD_WARPS, _BWD_WARPS = 4, 8
# Where the weights have gradients: two for each of the 132 multiprocessors of an H100, which run at once. A constant,
# so that the order of the sums depends on T alone.
_PROGRAMS = 264


@triton.jit
def _pair(ptr, offsets, mask, HALF: tl.constexpr):
    first = tl.load(ptr + offsets, mask=mask, other=0.0).to(tl.float32)
    second = tl.load(ptr + HALF + offsets, mask=mask, other=0.0).to(tl.float32)
    return first, second


@triton.jit
def _row(ptr, HALF: tl.constexpr, BLOCK: tl.constexpr):
    """A row of a table or a weight, as a pair of [1, BLOCK]."""
    channels = tl.arange(0, BLOCK)[None, :]
    return _pair(ptr, channels, channels < HALF, HALF)


@triton.jit
def _normalise(x, eps, HALF: tl.constexpr):
    """x / rms(x) of every head, and 1 / rms(x) [heads, 1]."""
    squares = tl.sum(x[0] * x[0], axis=1) + tl.sum(x[1] * x[1], axis=1)
    rstd = tl.rsqrt(squares / (2 * HALF) + eps)[:, None]
    return (x[0] * rstd, x[1] * rstd), rstd


@triton.jit
def _turn(
    x_ptr, weight_ptr, out_ptr, token, stride_x, stride_x_head, eps, cos, sin,
    HEADS: tl.constexpr, BLOCK_HEADS: tl.constexpr, HALF: tl.constexpr, BLOCK: tl.constexpr, NORM: tl.constexpr,
):  # fmt: skip
    channels = tl.arange(0, BLOCK)[None, :]
    for start in tl.static_range(0, HEADS, BLOCK_HEADS):
        heads = start + tl.arange(0, BLOCK_HEADS).to(tl.int64)[:, None]
        mask = (heads < HEADS) & (channels < HALF)
        x = _pair(x_ptr + token * stride_x, heads * stride_x_head + channels, mask, HALF)
        if NORM:
            x, _ = _normalise(x, eps, HALF)
            weight = _row(weight_ptr, HALF, BLOCK)
            x = x[0] * weight[0], x[1] * weight[1]
        out = out_ptr + (token * HEADS + heads) * (2 * HALF) + channels
        tl.store(out, x[0] * cos[0] - x[1] * sin[0], mask=mask)
        tl.store(out + HALF, x[1] * cos[1] + x[0] * sin[1], mask=mask)


@triton.jit
def _turn_back(
    grad_ptr, x_ptr, weight_ptr, out_ptr, token, stride_grad, stride_grad_head, stride_x, stride_x_head,
    eps, cos, sin, sums,
    HEADS: tl.constexpr, BLOCK_HEADS: tl.constexpr, HALF: tl.constexpr, BLOCK: tl.constexpr, NORM: tl.constexpr,
):  # fmt: skip
    """Store the gradient of x; returns `sums`, the weight's gradient head by head, with this token's share.

    With n = x / rms(x) and g the gradient before the rotation: dweight = g n and, for h = g weight,
    dx = (h - n mean(h n)) / rms(x).
    """
    channels = tl.arange(0, BLOCK)[None, :]
    for start in tl.static_range(0, HEADS, BLOCK_HEADS):
        heads = start + tl.arange(0, BLOCK_HEADS).to(tl.int64)[:, None]
        mask = (heads < HEADS) & (channels < HALF)
        turned = _pair(grad_ptr + token * stride_grad, heads * stride_grad_head + channels, mask, HALF)
        grad = turned[0] * cos[0] + turned[1] * sin[1], turned[1] * cos[1] - turned[0] * sin[0]
        if NORM:
            x = _pair(x_ptr + token * stride_x, heads * stride_x_head + channels, mask, HALF)
            x, rstd = _normalise(x, eps, HALF)
            sums = sums[0] + grad[0] * x[0], sums[1] + grad[1] * x[1]
            weight = _row(weight_ptr, HALF, BLOCK)
            grad = grad[0] * weight[0], grad[1] * weight[1]
            mean = (tl.sum(grad[0] * x[0], axis=1) + tl.sum(grad[1] * x[1], axis=1))[:, None] / (2 * HALF)
            grad = (grad[0] - x[0] * mean) * rstd, (grad[1] - x[1] * mean) * rstd
        out = out_ptr + (token * HEADS + heads) * (2 * HALF) + channels
        tl.store(out, grad[0], mask=mask)
        tl.store(out + HALF, grad[1], mask=mask)
    return sums


@triton.jit
def _store_sums(ptr, sums, HALF: tl.constexpr, BLOCK: tl.constexpr):
    channels = tl.arange(0, BLOCK)
    tl.store(ptr + channels, tl.sum(sums[0], axis=0), mask=channels < HALF)
    tl.store(ptr + HALF + channels, tl.sum(sums[1], axis=0), mask=channels < HALF)


@triton.jit
def _qk_norm_rope_fwd_kernel(
    q_ptr, k_ptr, cos_ptr, sin_ptr, q_weight_ptr, k_weight_ptr, q_out_ptr, k_out_ptr,
    stride_q, stride_q_head, stride_k, stride_k_head, stride_cos, stride_sin,
    eps,
    Q_HEADS: tl.constexpr, K_HEADS: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr,
    HALF: tl.constexpr, BLOCK: tl.constexpr, NORM: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    cos = _row(cos_ptr + token * stride_cos, HALF, BLOCK)
    sin = _row(sin_ptr + token * stride_sin, HALF, BLOCK)
    _turn(
        q_ptr, q_weight_ptr, q_out_ptr, token, stride_q, stride_q_head, eps, cos, sin,
        Q_HEADS, BLOCK_Q, HALF, BLOCK, NORM,
    )  # fmt: skip
    _turn(
        k_ptr, k_weight_ptr, k_out_ptr, token, stride_k, stride_k_head, eps, cos, sin,
        K_HEADS, BLOCK_K, HALF, BLOCK, NORM,
    )  # fmt: skip


@triton.jit(do_not_specialize=["tokens"])
def _qk_norm_rope_bwd_kernel(
    q_grad_ptr, k_grad_ptr, q_ptr, k_ptr, cos_ptr, sin_ptr, q_weight_ptr, k_weight_ptr, q_out_ptr, k_out_ptr, sums_ptr,
    tokens,
    stride_q_grad, stride_q_grad_head, stride_k_grad, stride_k_grad_head,
    stride_q, stride_q_head, stride_k, stride_k_head, stride_cos, stride_sin,
    eps,
    Q_HEADS: tl.constexpr, K_HEADS: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr,
    HALF: tl.constexpr, BLOCK: tl.constexpr, NORM: tl.constexpr, WEIGHT_GRADS: tl.constexpr,
):  # fmt: skip
    """Program p takes the tokens p, p + P, ... and stores what they add to the weights' gradients in sums [P, 2, D]."""
    program = tl.program_id(0).to(tl.int64)
    q_zeros, k_zeros = tl.zeros((BLOCK_Q, BLOCK), tl.float32), tl.zeros((BLOCK_K, BLOCK), tl.float32)
    q_sums, k_sums = (q_zeros, q_zeros), (k_zeros, k_zeros)
    for token in range(program, tokens, tl.num_programs(0)):
        cos = _row(cos_ptr + token * stride_cos, HALF, BLOCK)
        sin = _row(sin_ptr + token * stride_sin, HALF, BLOCK)
        q_sums = _turn_back(
            q_grad_ptr, q_ptr, q_weight_ptr, q_out_ptr,
            token, stride_q_grad, stride_q_grad_head, stride_q, stride_q_head, eps, cos, sin, q_sums,
            Q_HEADS, BLOCK_Q, HALF, BLOCK, NORM,
        )  # fmt: skip
        k_sums = _turn_back(
            k_grad_ptr, k_ptr, k_weight_ptr, k_out_ptr,
            token, stride_k_grad, stride_k_grad_head, stride_k, stride_k_head, eps, cos, sin, k_sums,
            K_HEADS, BLOCK_K, HALF, BLOCK, NORM,
        )  # fmt: skip
    if WEIGHT_GRADS:
        sums = sums_ptr + program * (4 * HALF)
        _store_sums(sums, q_sums, HALF, BLOCK)
        _store_sums(sums + 2 * HALF, k_sums, HALF, BLOCK)


@on_its_device
def launch_qk_norm_rope(
    q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, q_weight: Tensor | None, k_weight: Tensor | None, eps: float
) -> tuple[Tensor, Tensor]:
    """qk_norm_rope; every tensor is dense in its last dimension, both results are contiguous."""
    q_out, k_out = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k))
    if len(q):
        _qk_norm_rope_fwd_kernel[(len(q),)](
            q, k, cos, sin, q_weight, k_weight, q_out, k_out,
            *q.stride()[:2], *k.stride()[:2], cos.stride(0), sin.stride(0),
            eps,
            **_sizes(q, k), NORM=q_weight is not None, num_warps=_FWD_WARPS,
        )  # fmt: skip
    return q_out, k_out


@on_its_device
def launch_qk_norm_rope_backward(
    q_grad: Tensor, k_grad: Tensor, q: Tensor | None, k: Tensor | None, cos: Tensor, sin: Tensor,
    q_weight: Tensor | None, k_weight: Tensor | None, eps: float, *, weight_grads: bool,
) -> tuple[Tensor, Tensor, Tensor | None]:  # fmt: skip
    """The gradients of q, of k and, if wanted, of the two weights, [2, D] in fp32.

    q_grad and k_grad are dense in the last dimension; q and k may be None where there are no weights.
    """
    tokens, _, head_dim = q_grad.shape
    q_out, k_out = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q_grad, k_grad))
    programs = min(tokens, _PROGRAMS) if weight_grads else tokens
    sums = q_grad.new_empty(programs, 2, head_dim, dtype=torch.float32) if weight_grads else None
    if tokens:
        _qk_norm_rope_bwd_kernel[(programs,)](
            q_grad, k_grad, q, k, cos, sin, q_weight, k_weight, q_out, k_out, sums,
            tokens,
            *q_grad.stride()[:2], *k_grad.stride()[:2],
            *((0, 0) if q is None else q.stride()[:2]), *((0, 0) if k is None else k.stride()[:2]),
            cos.stride(0), sin.stride(0),
            eps,
            **_sizes(q_grad, k_grad), NORM=q_weight is not None, WEIGHT_GRADS=weight_grads, num_warps=_BWD_WARPS,
        )  # fmt: skip
    return q_out, k_out, None if sums is None else sums.sum(0)


def _sizes(q: Tensor, k: Tensor) -> dict[str, Any]:
    half = q.shape[2] // 2
    blocks = {name: min(_HEADS, triton.next_power_of_2(x.shape[1])) for name, x in (("BLOCK_Q", q), ("BLOCK_K", k))}
    return {"Q_HEADS": q.shape[1], "K_HEADS": k.shape[1], **blocks, "HALF": half, "BLOCK": triton.next_power_of_2(half)}
