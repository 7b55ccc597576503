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
)
from corl_kernels.chunks import Head, operand_dtype
from corl_kernels.differentiable import DifferentiableOp
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


def _setup_context(ctx, inputs, output):
    hidden, weight, bias, targets, temperature, ctx.softcap, *ctx.settings = inputs
    ctx.mark_non_differentiable(*output[2:])
    ctx.save_for_backward(hidden, weight, bias, targets, temperature, *output[1:])
    ctx.absent = (None,) * (len(inputs) - 3)


def _backward(ctx, grad_logprobs, grad_entropy, *_):
    hidden, weight, bias, targets, temperature, *results = ctx.saved_tensors
    leaves = hidden, weight, bias
    head = _head(hidden, weight, targets, ctx.settings)
    head.want_gradients(*ctx.needs_input_grad[:3])
    entropy, shift, logsum = results
    own = own_targets(targets, len(weight), head.vocabulary)
    blank = make_tokens(own, temperature, bias, ctx.softcap, head.dtype)
    tokens = replace(blank, entropy=entropy, shift=shift, logsum=logsum)
    slopes, unit = [grad_logprobs, grad_entropy], None
    if head.gemm_dtype == torch.float16 and len(hidden):  # see linear_policy_loss
        unit = torch.stack([x.abs().amax() for x in slopes if x is not None]).amax()
        unit = torch.where(unit == 0, 1, unit)
        slopes = [None if x is None else x / unit for x in slopes]
    for start, stop in head.chunks():
        part = (None if x is None else x[start:stop] for x in slopes)
        logits = head.forward(start, stop)
        head.backward(start, stop, head.row_ops.gradient(logits, tokens, start, stop, *part, head.gemm_dtype))
    found = []
    for leaf, gradient in zip(leaves, head.gradients(), strict=True):
        scaled = gradient if gradient is None or unit is None else gradient * unit.view(1)
        found.append(None if scaled is None else scaled.to(leaf.dtype))
    return *found, *ctx.absent


def _fake(hidden, weight, bias, targets, temperature, softcap, operand, *_):
    dtype = torch.promote_types(operand, torch.float32)
    return tuple(hidden.new_empty(len(hidden), dtype=dtype) for _ in range(4))


_logprobs = DifferentiableOp(
    "linear_logprobs(Tensor hidden, Tensor weight, Tensor? bias, Tensor targets, Tensor? temperature, float? softcap, "
    "ScalarType operand, int? fixed_rows, str? group, int vocab_start, int vocab_size) "
    "-> (Tensor, Tensor, Tensor, Tensor)",
    _forward,
    _setup_context,
    _backward,
    fake=_fake,
    flops=lambda hidden, weight, *_: 2 * hidden[0] * hidden[1] * weight[0],
)


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
    return LogProbs(logprobs.view(shape), entropy.view(shape) if return_entropy else None)


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
