"""Policy-gradient loss on the language-model head in three GEMMs, without the [T, V] logits."""

from bisect import bisect_left, bisect_right
from dataclasses import fields, replace
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
    check_tensor,
    flat_targets,
    row_temperature,
    shaped,
    values_are_known,
)
from corl_kernels.chunks import Head, gemm_dtype, operand_dtype
from corl_kernels.differentiable import (
    DifferentiableOp,
    RegisteredOp,
    in_units,
    is_placeholder,
    placeholder,
    scale_gradient,
    wants_gradient,
)
from corl_kernels.kl_estimators import kl_estimate
from corl_kernels.logprobs import linear_logprobs_reference
from corl_kernels.objective import (
    REINFORCE,
    PolicyMetrics,
    PolicyObjective,
    TokenInputs,
    policy_metrics,
    token_terms,
)
from corl_kernels.rows import Tokens, make_tokens
from corl_kernels.vocabulary import VocabularySlice, own_targets

_FIELDS = tuple(field.name for field in fields(PolicyObjective))
_NUM_INPUTS = 20 + len(_FIELDS)  # of the registered op


# T tokens, H hidden, V vocabulary, S sequences
class PolicyLoss(NamedTuple):
    """`loss` 0-d, which alone carries gradient; `logprobs` and `entropy`, shaped as targets; `metrics`; all fp32."""

    loss: Tensor
    logprobs: Tensor
    entropy: Tensor
    metrics: PolicyMetrics


def _gradients_through_sequences(
    head: Head, tokens: Tokens, inputs: TokenInputs, objective: PolicyObjective, offsets: Tensor, on_device: Tensor
) -> None:
    """Gradients of an objective whose slopes need the log-probs of the token's whole sequence.

    A chunk waits for the statistics of the chunks its last sequence reaches into. Where that is the next one, its own
    logits stay in a second buffer meanwhile; where it is further, they are made again: the fourth GEMM of sequences
    longer than a chunk. Where the offsets lie on a device and reading them would mean waiting, all chunks are scored
    before the first gradient.
    """
    chunks = head.chunks()
    bounds = None if offsets.is_cuda else offsets.tolist()
    # Log-probs that meet nothing but themselves: every ratio is 1, whatever the rest of the sequence holds.
    own = inputs.old_logprobs is None and objective.rollout_correction is None
    straddling = bounds is not None and not own and not {stop for _, stop in chunks} <= set(bounds)
    buffers, scored, held = 2 if straddling else 1, 0, [-1, -1]
    for i, (start, stop) in enumerate(chunks):
        first, last = 0, len(offsets) - 1
        begin, end = 0, len(head.hidden)
        if bounds is not None:
            first, last = bisect_right(bounds, start) - 1, bisect_left(bounds, stop)
            begin, end = bounds[first], bounds[last]
        reach = stop if own else end
        while scored < len(chunks) and chunks[scored][0] < reach:
            head.score(tokens, *chunks[scored], buffer=scored % buffers)
            held[scored % buffers] = scored
            scored += 1
        if held[i % buffers] != i:
            head.forward(start, stop, buffer=i % buffers)
            held[i % buffers] = i
        window = slice(begin, end)
        numbers = tokens.logprobs[window], tokens.entropy[window], inputs.slice(begin, end)
        slope = token_terms(objective, *numbers, on_device[first : last + 1] - begin)[1][start - begin : stop - begin]
        bonus = -objective.entropy_coef * inputs.weights[start:stop] if objective.entropy_coef else None
        logits = head.logits(i % buffers)
        head.backward(start, stop, head.row_ops.gradient(logits, tokens, start, stop, slope, bonus, head.gemm_dtype))


def _forward(
    hidden, weight, bias, targets, temperature, advantages, weights, old_logprobs, ref_logprobs, rollout_logprobs,
    offsets, want_hidden, want_weight, want_bias, softcap, operand, fixed_rows, group, vocab_start, vocab_size,
    *rest,
):  # fmt: skip
    """Loss, log-probs, entropy, the metrics as one tensor, the gradients of hidden, weight and bias (empty where not
    wanted) and the unit they are in."""
    objective = PolicyObjective(*rest[: len(_FIELDS)])
    grad_weight_out, at_once = rest[len(_FIELDS) :] or (None, False)
    vocabulary = VocabularySlice(group, vocab_start, vocab_size) if group else None
    head = Head(hidden, weight, targets, operand=operand, fixed_rows=fixed_rows, vocabulary=vocabulary)
    tokens = make_tokens(own_targets(targets, len(weight), vocabulary), temperature, bias, softcap, head.dtype)
    inputs = TokenInputs(advantages, weights, old_logprobs, ref_logprobs, rollout_logprobs)
    on_device = None if offsets is None else offsets.to(hidden.device, non_blocking=True)
    unit, in_unit = in_units(weights, head.gemm_dtype)
    scaled = replace(inputs, weights=in_unit(weights))
    into = grad_weight_out if at_once and unit is None else None
    head.want_gradients(want_hidden, want_weight, want_bias, weight_into=into)
    if not (want_hidden or want_weight or want_bias):
        for chunk in head.chunks():
            head.score(tokens, *chunk)
    elif offsets is not None and on_device is not None:
        _gradients_through_sequences(head, tokens, scaled, objective, offsets, on_device)
    else:
        for chunk in head.chunks():
            logits = head.score(tokens, *chunk)
            dlogits = head.row_ops.policy_gradient(logits, tokens, *chunk, scaled, objective, head.gemm_dtype)
            head.backward(*chunk, dlogits)
    grad_hidden, grad_weight, grad_bias = head.gradients()
    if at_once and grad_weight_out is not None and grad_weight is not None:
        if into is None:
            grad_weight_out.addcmul_(grad_weight, unit)
        grad_weight = None
    loss = token_terms(objective, tokens.logprobs, tokens.entropy, inputs, on_device)[0].sum()
    metrics = policy_metrics(objective, tokens.logprobs, tokens.entropy, inputs, on_device)
    gradients = (placeholder(x, tokens.logprobs) for x in (grad_hidden, grad_weight, grad_bias, unit))
    return loss, tokens.logprobs, tokens.entropy, torch.stack(metrics), *gradients


def _setup_context(ctx, inputs, output):
    hidden, weight, bias = inputs[:3]
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)  # or zeros as large as the gradients would be made for them
    ctx.save_for_backward(*output[4:])
    ctx.dtypes = hidden.dtype, weight.dtype, None if bias is None else bias.dtype
    ctx.grad_weight_out, ctx.at_once = inputs[_NUM_INPUTS:] or (None, False)
    ctx.absent = (None,) * (len(inputs) - 3)


def _backward(_, ctx, grad_loss, *__):
    *gradients, unit = ctx.saved_tensors
    if ctx.at_once and not grad_loss.is_cuda and grad_loss.tolist() != 1:
        raise ValueError(
            f"grad_loss_is_one=True, but the loss's gradient is {grad_loss.tolist()}; call loss.backward()"
        )
    factor = grad_loss if is_placeholder(unit) else grad_loss * unit
    found: list[Tensor | None] = []
    for name, gradient, dtype in zip(("hidden", "weight", "bias"), gradients, ctx.dtypes, strict=True):
        if is_placeholder(gradient):
            found.append(None)
        elif name == "weight" and ctx.grad_weight_out is not None:
            ctx.grad_weight_out.addcmul_(gradient, factor)
            found.append(None)
        elif ctx.at_once and is_placeholder(unit):
            found.append(gradient.to(dtype))
        else:
            found.append(scale_gradient(gradient, factor, dtype))
    return *found, *ctx.absent


def _fake(
    hidden, weight, bias, targets, temperature, advantages, weights, old_logprobs, ref_logprobs, rollout_logprobs,
    offsets, want_hidden, want_weight, want_bias, softcap, operand, fixed_rows, group, *_,
):  # fmt: skip
    dtype, of_gemm = torch.promote_types(operand, torch.float32), gemm_dtype(operand, hidden.is_cuda)
    per_token = (hidden.new_empty(hidden.shape[0], dtype=dtype) for _ in range(2))
    wanted = (
        (hidden, want_hidden, dtype if group else of_gemm),
        (weight, want_weight, dtype),
        (weight[:, 0], want_bias, dtype),
    )
    gradients = [x.new_empty(x.shape if want else 0, dtype=kind) for x, want, kind in wanted]
    unit = hidden.new_empty(() if of_gemm == torch.float16 else 0, dtype=dtype)
    metrics = hidden.new_empty(len(fields(PolicyMetrics)), dtype=torch.float32)
    return hidden.new_empty((), dtype=dtype), *per_token, metrics, *gradients, unit


def _flops(hidden, weight, *rest):
    """Of the GEMMs; sequences longer than a chunk add a fourth, which shapes do not tell."""
    want_hidden, want_weight = rest[9:11]
    return 2 * hidden[0] * hidden[1] * weight[0] * (1 + want_hidden + want_weight)


_OP = RegisteredOp(
    "linear_policy_loss(Tensor hidden, Tensor weight, Tensor? bias, Tensor targets, Tensor? temperature, "
    "Tensor advantages, Tensor weights, Tensor? old_logprobs, Tensor? ref_logprobs, Tensor? rollout_logprobs, "
    "Tensor? offsets, bool want_hidden, bool want_weight, bool want_bias, float? softcap, ScalarType operand, "
    "int? fixed_rows, str? group, int vocab_start, int vocab_size, str kind, float clip_low, float clip_high, "
    "float? dual_clip, float kl_coef, str kl_estimator, float entropy_coef, str importance, str? rollout_correction, "
    "float rollout_cap) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    _forward,
    fake=_fake,
    flops=_flops,
)
_policy_loss = DifferentiableOp(_OP, _setup_context, _backward)


def linear_policy_loss(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    advantages: Tensor,
    token_weights: Tensor,
    *,
    objective: PolicyObjective = REINFORCE,
    old_logprobs: Tensor | None = None,
    ref_logprobs: Tensor | None = None,
    rollout_logprobs: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    temperature: float | Tensor = 1.0,
    bias: Tensor | None = None,
    softcap: float | None = None,
    vocabulary: VocabularySlice | None = None,
    chunk_rows: int | None = None,
    grad_weight_out: Tensor | None = None,
    grad_loss_is_one: bool = False,
) -> PolicyLoss:
    """sum_t token_weights[t] * term_t of a policy objective (see PolicyObjective), with its gradients.

    hidden            [.., H] bf16, fp16 or fp32 (fp64 is computed in fp64); T tokens in all. Under autocast it and the
                      weight, of whatever dtype, are rounded to autocast's, their gradients are in their own
    weight            [V, H], same dtype
    targets           [..] int64 or int32, the token hidden[t] predicts; -100 gives logprob 0, entropy 0, no gradient,
                      weight 0
    advantages        [..] float      token_weights  [..] float; the caller decides the normalizer
    old_logprobs      [..], the policy at rollout by linear_logprobs; None: this call's own, ratio 1 with its gradient
    ref_logprobs      [..], for kl_coef      rollout_logprobs  [..], the engine's, for rollout_correction
    cu_seqlens        [S + 1] int32 or int64, bounds of the packed sequences among the T tokens, for sequence-level
                      objectives. On the CPU (also beside CUDA inputs) only sequences longer than a chunk cost a fourth
                      GEMM, and those that lie across two chunks a second buffer of logits; on a device, where reading
                      it would mean waiting, all tokens cost that GEMM (none without old_logprobs and correction)
    temperature       above 0, a number or [..]
    bias              [V], added to the logits; it receives a gradient
    softcap           above 0: the logits become softcap tanh(logits / softcap), after the bias and before temperature
    vocabulary        where weight and bias are a rank's rows of a larger vocabulary
    chunk_rows        rows of every GEMM, of any call: a token's bits then do not depend on the rest of the pack. None:
                      even chunks of at most 4,096 rows (256 on a CPU), so that calls with equally many tokens, as score
                      and update of one micro-batch, give equal rows equal bits
    grad_weight_out   fp32 [V, H]: the backward adds the weight's gradient here and autograd receives None
    grad_loss_is_one  the promise that backward is called on this loss itself, not on a multiple: nothing is scaled, and
                      grad_weight_out is added to in the forward, by the GEMM, without a second [V, H]. A CPU checks it
    returns           PolicyLoss; logprobs and entropy also where the weight is 0, shaped as targets
    The gradients are formed in the forward and scaled in the backward: three GEMMs, one without gradients, no dW for a
    frozen weight. dW is summed in fp32 and rounded once. Arguments an objective does not use are ignored.
    Raises ValueError for shapes, dtypes, devices, a DTensor weight, missing arguments, and on CPU for targets outside
    the vocabulary; on CUDA those make their logprob and the loss NaN. Inside torch.compile values are not checked, and
    grad_weight_out needs grad_loss_is_one.
    """
    check_head(hidden, weight)
    shape, operand = hidden.shape[:-1], operand_dtype(hidden)
    check_targets(targets, hidden, len(weight) if vocabulary is None else vocabulary.size)
    check_bias(bias, weight)
    check_softcap(softcap)
    check_chunk_rows(chunk_rows)
    if not isinstance(objective, PolicyObjective):
        raise ValueError(f"objective={objective!r} must be a PolicyObjective")
    dtype = torch.promote_types(operand, torch.float32)
    optional = {"old_logprobs": old_logprobs, "ref_logprobs": ref_logprobs, "rollout_logprobs": rollout_logprobs}
    given = {name: value for name, value in optional.items() if value is not None} | {"advantages": advantages}
    for name, value in {"token_weights": token_weights, **given}.items():
        check_tensor(name, value, tuple(shape), hidden)
    if objective.kl_coef and ref_logprobs is None:
        raise ValueError(f"kl_coef={objective.kl_coef} needs ref_logprobs; pass them or set kl_coef to 0")
    if objective.rollout_correction and rollout_logprobs is None:
        raise ValueError(f"rollout_correction={objective.rollout_correction!r} needs rollout_logprobs; pass them")
    offsets = _check_offsets(cu_seqlens, objective, hidden) if objective.sequence_level else None
    if grad_weight_out is not None:
        check_tensor("grad_weight_out", grad_weight_out, tuple(weight.shape), hidden, (dtype,))
    scale = row_temperature(temperature, hidden)
    given = {name: value.detach().to(dtype).reshape(-1).contiguous() for name, value in given.items()}
    targets = flat_targets(targets)
    outside = (targets < 0) | (targets >= (len(weight) if vocabulary is None else vocabulary.size))
    weights = token_weights.detach().to(dtype).reshape(-1).masked_fill(outside, float("nan"))
    weights = weights.masked_fill(targets == IGNORE, 0).contiguous()

    wants = wants_gradient(hidden, weight, bias)
    if grad_weight_out is not None:
        wants = wants[0], wants[0] or wants[1], wants[2]
    compiling = torch.compiler.is_compiling()
    if compiling and grad_weight_out is not None:
        if not grad_loss_is_one:
            raise ValueError("grad_weight_out inside torch.compile needs grad_loss_is_one=True")
        weight = weight.detach()
    if not torch.is_grad_enabled():
        hidden, weight, bias = hidden.detach(), weight.detach(), None if bias is None else bias.detach()
    where = (None, 0, 0) if vocabulary is None else (vocabulary.name, vocabulary.start, vocabulary.size)
    loss, logprobs, entropy, metrics, _, grad_weight, *_ = _policy_loss(
        hidden.reshape(-1, hidden.shape[-1]), weight, bias, targets, scale, given["advantages"], weights,
        *(given.get(name) for name in optional), offsets, *wants, softcap, operand, chunk_rows, *where,
        *(getattr(objective, name) for name in _FIELDS),
        grad_weight_out=grad_weight_out, at_once=grad_loss_is_one,
    )  # fmt: skip
    if compiling and grad_weight_out is not None:
        grad_weight_out.add_(grad_weight)
    return PolicyLoss(loss, shaped(logprobs, shape), shaped(entropy, shape), PolicyMetrics(*metrics.unbind()))


def _check_offsets(cu_seqlens: Tensor | None, objective: PolicyObjective, hidden: Tensor) -> Tensor:
    if cu_seqlens is None:
        raise ValueError(f"kind={objective.kind!r}, importance={objective.importance!r} needs cu_seqlens; pass [S + 1]")
    beside = hidden if isinstance(cu_seqlens, Tensor) and cu_seqlens.is_cuda else hidden.new_empty(0, device="cpu")
    check_tensor("cu_seqlens", cu_seqlens, (None,), beside, (torch.int32, torch.int64))
    if values_are_known(cu_seqlens):
        bounds, tokens = cu_seqlens.tolist(), hidden.shape[:-1].numel()
        if bounds[:1] != [0] or bounds[-1] != tokens or bounds != sorted(bounds):
            raise ValueError(f"cu_seqlens={bounds[:8]}.. must rise from 0 to the {tokens} tokens of hidden")
    return cu_seqlens.to(torch.int64)


def linear_policy_loss_reference(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    advantages: Tensor,
    token_weights: Tensor,
    *,
    objective: PolicyObjective,
    old_logprobs: Tensor | None = None,
    ref_logprobs: Tensor | None = None,
    rollout_logprobs: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    temperature: float | Tensor = 1.0,
    bias: Tensor | None = None,
    softcap: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """(loss, logprobs, entropy) through full [T, V] logits and autograd, the contract written out line by line."""
    logprobs, entropy = linear_logprobs_reference(
        hidden, weight, targets, temperature=temperature, bias=bias, softcap=softcap, return_entropy=True
    )
    assert entropy is not None
    old = logprobs.detach() if old_logprobs is None else old_logprobs
    weights = torch.where(targets == IGNORE, 0, token_weights)
    log_ratio = logprobs - old
    if objective.sequence_level:
        assert cu_seqlens is not None
        means = torch.zeros_like(log_ratio)
        for start, stop in zip(cu_seqlens[:-1].tolist(), cu_seqlens[1:].tolist(), strict=True):
            live = weights[start:stop] != 0
            if live.any():
                means[start:stop] = log_ratio[start:stop][live].mean()
        log_ratio = means
    ratio = log_ratio.exp()
    if objective.kind == "reinforce":
        terms = -advantages * logprobs
    elif objective.kind == "cispo":
        terms = -advantages * ratio.clamp(max=1 + objective.clip_high).detach() * logprobs
    else:
        clipped = ratio.clamp(1 - objective.clip_low, 1 + objective.clip_high)
        terms = -torch.minimum(ratio * advantages, clipped * advantages)
        if objective.dual_clip is not None:
            terms = torch.where(advantages < 0, terms.minimum(-objective.dual_clip * advantages), terms)
    if objective.rollout_correction is not None:
        assert rollout_logprobs is not None
        factor = (old - rollout_logprobs).exp().detach()
        above = factor > objective.rollout_cap
        beyond = objective.rollout_cap if objective.rollout_correction == "truncate" else 0
        terms = terms * factor.masked_fill(above, beyond)
    if objective.kl_coef:
        assert ref_logprobs is not None
        terms = terms + objective.kl_coef * kl_estimate(logprobs, ref_logprobs, objective.kl_estimator)
    terms = terms - objective.entropy_coef * entropy
    return (weights * terms).sum(), logprobs.detach(), entropy.detach()
