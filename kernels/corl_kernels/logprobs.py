"""Log-probability of each target token without the [T, V] logits."""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from corl_kernels.checks import (
    IGNORE,
    check_bias,
    check_chunk_rows,
    check_head,
    check_softcap,
    check_targets,
    flat_targets,
    row_temperature,
    shaped,
)
from corl_kernels.chunks import Head, operand_dtype
from corl_kernels.differentiable import DifferentiableOp, RegisteredOp, from_units, in_units
from corl_kernels.rows import make_tokens
from corl_kernels.vocabulary import VocabularySlice, own_targets


# T tokens, H hidden, V vocabulary
class LogProbs(NamedTuple):
    """`logprobs` [..] and `entropy` [..] or None, fp32, in nats."""

    logprobs: Tensor
    entropy: Tensor | None


def _head(hidden, weight, targets, settings) -> Head:
    operand, fixed_rows, *where = settings
    vocabulary = VocabularySlice(*where) if where[0] else None
    return Head(hidden, weight, targets, operand=operand, fixed_rows=fixed_rows, vocabulary=vocabulary)


def _forward(hidden, weight, bias, targets, temperature, softcap, *settings):
    """Log-probs, entropy, and the rest of the statistics: max z and log sum exp(z - max z)."""
    head = _head(hidden, weight, targets, settings)
    own = own_targets(targets, len(weight), head.vocabulary)
    tokens = make_tokens(own, temperature, bias, softcap, head.dtype)
    for chunk in head.chunks():
        head.score(tokens, *chunk)
    return tokens.logprobs, tokens.entropy, tokens.shift, tokens.logsum


def _gradients(
    hidden, weight, bias, targets, temperature, entropy, shift, logsum, grad_logprobs, grad_entropy,
    want_hidden, want_weight, want_bias, softcap, *settings,
):  # fmt: skip
    """The gradients of hidden, weight and bias in their dtypes, empty where not wanted."""
    head = _head(hidden, weight, targets, settings)
    head.want_gradients(want_hidden, want_weight, want_bias)
    own = own_targets(targets, len(weight), head.vocabulary)
    blank = make_tokens(own, temperature, bias, softcap, head.dtype)
    tokens = replace(blank, entropy=entropy, shift=shift, logsum=logsum)
    unit, scaled = in_units(grad_logprobs, head.gemm_dtype, grad_entropy)
    slope, entropy_slope = scaled(grad_logprobs), None if grad_entropy is None else scaled(grad_entropy)
    for start, stop in head.chunks():
        part = slope[start:stop], None if entropy_slope is None else entropy_slope[start:stop]
        logits = head.forward(start, stop)
        head.backward(start, stop, head.row_ops.gradient(logits, tokens, start, stop, *part, head.gemm_dtype))
    leaves = zip((hidden, weight, weight if bias is None else bias), head.gradients(), strict=True)
    return tuple(from_units(gradient, unit, leaf) for leaf, gradient in leaves)


def _setup_context(ctx, inputs, output):
    hidden, weight, bias, targets, temperature, ctx.softcap, *ctx.settings = inputs
    ctx.mark_non_differentiable(*output[2:])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(hidden, weight, bias, targets, temperature, *output[1:])


def _backward(gradients, ctx, grad_logprobs, grad_entropy, *_):
    wants, absent = ctx.needs_input_grad[:3], (None,) * (3 + len(ctx.settings))
    if grad_logprobs is None:
        if grad_entropy is None:
            return None, None, None, *absent
        grad_logprobs = torch.zeros_like(grad_entropy)
    found = gradients(*ctx.saved_tensors, grad_logprobs, grad_entropy, *wants, ctx.softcap, *ctx.settings)
    return *(gradient if want else None for gradient, want in zip(found, wants, strict=True)), *absent


def _fake(hidden, weight, bias, targets, temperature, softcap, operand, *_):
    dtype = torch.promote_types(operand, torch.float32)
    return tuple(hidden.new_empty(hidden.shape[0], dtype=dtype) for _ in range(4))


def _fake_gradients(hidden, weight, bias, *rest):
    want_hidden, want_weight, want_bias = rest[7:10]
    wanted = (hidden, want_hidden), (weight, want_weight), (weight[:, 0] if bias is None else bias, want_bias)
    return tuple(leaf.new_empty(leaf.shape if want else 0) for leaf, want in wanted)


_SETTINGS = "float? softcap, ScalarType operand, int? fixed_rows, str? group, int vocab_start, int vocab_size"
_OP = RegisteredOp(
    f"linear_logprobs(Tensor hidden, Tensor weight, Tensor? bias, Tensor targets, Tensor? temperature, {_SETTINGS}) "
    "-> (Tensor, Tensor, Tensor, Tensor)",
    _forward,
    fake=_fake,
    flops=lambda hidden, weight, *_: 2 * hidden[0] * hidden[1] * weight[0],
)
_GRADIENTS = RegisteredOp(
    "linear_logprobs_backward(Tensor hidden, Tensor weight, Tensor? bias, Tensor targets, Tensor? temperature, "
    "Tensor entropy, Tensor shift, Tensor logsum, Tensor grad_logprobs, Tensor? grad_entropy, bool want_hidden, "
    f"bool want_weight, bool want_bias, {_SETTINGS}) -> (Tensor, Tensor, Tensor)",
    _gradients,
    fake=_fake_gradients,
    flops=lambda hidden, weight, *rest: 2 * hidden[0] * hidden[1] * weight[0] * (1 + rest[8] + rest[9]),
)
_logprobs = DifferentiableOp(_OP, _setup_context, _backward, _GRADIENTS)


def linear_logprobs(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    temperature: float | Tensor = 1.0,
    bias: Tensor | None = None,
    softcap: float | None = None,
    vocabulary: VocabularySlice | None = None,
    chunk_rows: int | None = None,
    return_entropy: bool = False,
) -> LogProbs:
    """Log-probability of each target under softmax(hidden @ weight.T / temperature), differentiable.

    hidden       [.., H] bf16, fp16 or fp32 (fp64 is computed in fp64)      weight  [V, H], same dtype
    targets      [..] int64 or int32, the token that hidden[t] predicts; -100 gives logprob 0, entropy 0, no gradient
    temperature  above 0, a number or [..]; it receives no gradient
    bias, softcap, vocabulary, chunk_rows, autocast, torch.compile: as in linear_policy_loss
    returns      LogProbs: logprobs [..] and, with return_entropy, entropy [..]; fp32, nats
    One GEMM; the backward makes the logits again chunk by chunk and needs three. linear_policy_loss gives the same
    bits for the same rows of a call with as many tokens, and with the same chunk_rows wherever they are in whatever
    pack.
    Raises ValueError for shapes, dtypes, devices, a DTensor weight, and on CPU for targets outside the vocabulary; on
    CUDA those give NaN.
    """
    check_head(hidden, weight)
    check_targets(targets, hidden, len(weight) if vocabulary is None else vocabulary.size)
    check_bias(bias, weight)
    check_softcap(softcap)
    check_chunk_rows(chunk_rows)
    scale, shape = row_temperature(temperature, hidden), hidden.shape[:-1]
    where = (None, 0, 0) if vocabulary is None else (vocabulary.name, vocabulary.start, vocabulary.size)
    logprobs, entropy, *_ = _logprobs(
        hidden.reshape(-1, hidden.shape[-1]), weight, bias, flat_targets(targets), scale,
        softcap, operand_dtype(hidden), chunk_rows, *where,
    )  # fmt: skip
    return LogProbs(shaped(logprobs, shape), shaped(entropy, shape) if return_entropy else None)


def linear_logprobs_reference(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    temperature: float | Tensor = 1.0,
    bias: Tensor | None = None,
    softcap: float | None = None,
    return_entropy: bool = False,
) -> LogProbs:
    """The same of [T, H] through full [T, V] logits and autograd, in fp32 or, for fp64 inputs, fp64."""
    dtype = torch.promote_types(hidden.dtype, torch.float32)
    scale = temperature[:, None] if isinstance(temperature, Tensor) else temperature
    logits = hidden.to(dtype) @ weight.to(dtype).T
    if bias is not None:
        logits = logits + bias.to(dtype)
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    rows = torch.log_softmax(logits / scale, dim=-1)
    live = targets != IGNORE
    logprobs = rows.gather(1, torch.where(live, targets, 0)[:, None])[:, 0] * live
    return LogProbs(logprobs, -(rows.exp() * rows).sum(-1) * live if return_entropy else None)
