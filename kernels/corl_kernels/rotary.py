"""RMSNorm of the heads of q and k (Qwen3) and their rotary position embedding, in one pass over them."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from corl_kernels.checks import check_tensor
from corl_kernels.norm import torch_rms_norm

# T tokens, Hq query heads, Hkv key heads, D head dim


class _QKNormRope(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, cos, sin, q_weight, k_weight, eps):
        from corl_kernels.jit.rotary import launch_qk_norm_rope

        ctx.eps = eps
        # The way back through the rotation alone needs the tables, nothing else.
        kept = (None, None) if q_weight is None else (q, k)
        ctx.save_for_backward(*kept, cos, sin, q_weight, k_weight)
        return launch_qk_norm_rope(q, k, cos, sin, q_weight, k_weight, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx, q_grad, k_grad):
        from corl_kernels.jit.rotary import launch_qk_norm_rope_backward

        want_q, want_k, _, _, want_q_weight, want_k_weight, _ = ctx.needs_input_grad
        q, k, cos, sin, q_weight, k_weight = ctx.saved_tensors
        q_grad, k_grad = (grad if grad.stride(-1) == 1 else grad.contiguous() for grad in (q_grad, k_grad))
        q_grad, k_grad, sums = launch_qk_norm_rope_backward(
            q_grad, k_grad, q, k, cos, sin, q_weight, k_weight, ctx.eps, weight_grads=want_q_weight or want_k_weight
        )
        weight_grads = (None, None) if sums is None else sums.to(q_grad.dtype)
        return (
            q_grad if want_q else None,
            k_grad if want_k else None,
            None,
            None,
            weight_grads[0] if want_q_weight else None,
            weight_grads[1] if want_k_weight else None,
            None,
        )


def qk_norm_rope(
    q: Tensor,
    k: Tensor,
    cos: Tensor,
    sin: Tensor,
    q_weight: Tensor | None = None,
    k_weight: Tensor | None = None,
    *,
    eps: float = 1e-6,
) -> tuple[Tensor, Tensor]:
    """Normalise every head of q and k if there are weights, then rotate them; differentiable in q, k and the weights.

    q         [T, Hq, D] bf16 or fp32 (on CPU fp64 too), k [T, Hkv, D]; D even. Views of one projection's output are
              read where they lie
    cos, sin  [T, D], dtype of q or fp32; channel i is paired with channel i + D / 2, Hugging Face's order
    q_weight  [D] and k_weight [D], both or neither: RMSNorm over D before the rotation (Qwen3)
    returns   (q, k), shapes and dtype of the inputs
    On CUDA everything is fp32 inside and rounded once; on CPU it is rounded where transformers does.
    Raises ValueError for shapes, dtypes, devices and tensors that are strided in the last dimension.
    RoPE: Su et al. 2021, arXiv:2104.09864. RMSNorm: Zhang and Sennrich 2019, arXiv:1910.07467.
    """
    _check(q, k, cos, sin, q_weight, k_weight, eps)
    if q.is_cuda:
        return _QKNormRope.apply(q, k, cos, sin, q_weight, k_weight, eps)
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    if q_weight is not None and k_weight is not None:
        q, k = torch_rms_norm(q, q_weight, eps), torch_rms_norm(k, k_weight, eps)
    return _rotate(q, cos, sin), _rotate(k, cos, sin)


def qk_norm_rope_reference(
    q: Tensor,
    k: Tensor,
    cos: Tensor,
    sin: Tensor,
    q_weight: Tensor | None = None,
    k_weight: Tensor | None = None,
    *,
    eps: float = 1e-6,
) -> tuple[Tensor, Tensor]:
    """The same in fp32 or, for fp64 inputs, fp64, rounded once."""
    dtype = torch.promote_types(q.dtype, torch.float32)
    (cos_0, cos_1), (sin_0, sin_1) = (table.to(dtype)[:, None].chunk(2, dim=-1) for table in (cos, sin))
    turned = []
    for x, weight in ((q, q_weight), (k, k_weight)):
        wide = x.to(dtype)
        if weight is not None:
            wide = F.rms_norm(wide, wide.shape[-1:], weight.to(dtype), eps)
        x_0, x_1 = wide.chunk(2, dim=-1)
        turned.append(torch.cat((x_0 * cos_0 - x_1 * sin_0, x_1 * cos_1 + x_0 * sin_1), dim=-1).to(x.dtype))
    return turned[0], turned[1]


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    turned = (x * cos).add_(torch.cat((-second, first), dim=-1) * sin)
    return turned if turned.dtype == x.dtype else turned.to(x.dtype)


def _check(
    q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, q_weight: Tensor | None, k_weight: Tensor | None, eps: float
) -> None:
    dtypes = (torch.bfloat16, torch.float32) if q.is_cuda else (torch.bfloat16, torch.float32, torch.float64)
    check_tensor("q", q, (None, None, None), q, dtypes)
    tokens, _, head_dim = q.shape
    if head_dim % 2:
        raise ValueError(f"q has head dim {head_dim}; it must be even, as channels are rotated in pairs")
    check_tensor("k", k, (tokens, None, head_dim), q, (q.dtype,))
    check_tensor("cos", cos, (tokens, head_dim), q, (q.dtype, torch.float32))
    check_tensor("sin", sin, (tokens, head_dim), q, (q.dtype, torch.float32))
    dense = [("q", q), ("k", k), ("cos", cos), ("sin", sin)]
    if q_weight is not None and k_weight is not None:
        check_tensor("q_weight", q_weight, (head_dim,), q, (q.dtype,))
        check_tensor("k_weight", k_weight, (head_dim,), q, (q.dtype,))
        dense += [("q_weight", q_weight), ("k_weight", k_weight)]
        if not eps > 0:
            raise ValueError(f"eps={eps} must be above 0")
    elif q_weight is not None or k_weight is not None:
        raise ValueError("q_weight and k_weight: one is None; pass both, or neither for the rotation alone")
    for name, tensor in dense:
        if tensor.stride(-1) != 1:
            raise ValueError(f"{name} has stride {tensor.stride(-1)} in its last dimension; pass {name}.contiguous()")
