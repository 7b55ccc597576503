"""Policy-gradient loss on the language-model head in three GEMMs, without the [T, V] logits."""

from bisect import bisect_left, bisect_right
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from corl_kernels.checks import IGNORE, check_head, check_targets, check_tensor, row_temperature
from corl_kernels.chunks import Head, row_functions, scale_gradient
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


# T tokens, H hidden, V vocabulary, S sequences
class PolicyLoss(NamedTuple):
    """`loss` 0-d, which alone carries gradient; `logprobs` and `entropy` [T]; `metrics`; all fp32."""

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
    rows, chunks = row_functions(head.hidden), head.chunks()
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
            rows.statistics(head.forward(*chunks[scored], buffer=scored % buffers), tokens, *chunks[scored])
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
        head.backward(start, stop, rows.gradient(logits, tokens, start, stop, slope, bonus, head.gemm_dtype))


class _LinearPolicyLoss(torch.autograd.Function):
    """Forms the gradients in the forward, while a chunk's probabilities are at hand; the backward only scales them."""

    @staticmethod
    def forward(ctx, hidden, weight, targets, temperature, inputs, objective, offsets, grad_weight_out):
        head, rows = Head(hidden, weight, targets), row_functions(hidden)
        tokens = make_tokens(targets, temperature, head.dtype)
        want_hidden, want_weight = ctx.needs_input_grad[0], ctx.needs_input_grad[1]
        want_weight = want_weight or (want_hidden and grad_weight_out is not None)
        head.want_gradients(want_hidden, want_weight)
        on_device = None if offsets is None else offsets.to(hidden.device, non_blocking=True)
        if not (want_hidden or want_weight):
            for chunk in head.chunks():
                rows.statistics(head.forward(*chunk), tokens, *chunk)
        elif offsets is not None and on_device is not None:
            _gradients_through_sequences(head, tokens, inputs, objective, offsets, on_device)
        else:
            for chunk in head.chunks():
                dlogits = rows.policy(head.forward(*chunk), tokens, *chunk, inputs, objective, head.gemm_dtype)
                head.backward(*chunk, dlogits)
        ctx.save_for_backward(*head.gradients())
        ctx.dtype, ctx.grad_weight_out = hidden.dtype, grad_weight_out
        logprobs, entropy = tokens.logprobs, tokens.entropy
        loss = token_terms(objective, logprobs, entropy, inputs, on_device)[0].sum()
        metrics = policy_metrics(objective, logprobs, entropy, inputs, on_device)
        ctx.mark_non_differentiable(logprobs, entropy, *metrics)
        return loss, logprobs, entropy, *metrics

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_loss, *_):
        grad_hidden, grad_weight = ctx.saved_tensors
        if grad_hidden is not None:
            grad_hidden = scale_gradient(grad_hidden, grad_loss, ctx.dtype)
        if ctx.grad_weight_out is not None and grad_weight is not None:
            ctx.grad_weight_out.addcmul_(grad_weight, grad_loss)
            grad_weight = None
        elif grad_weight is not None:
            grad_weight = scale_gradient(grad_weight, grad_loss, ctx.dtype)
        return grad_hidden, grad_weight, None, None, None, None, None, None


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
    grad_weight_out: Tensor | None = None,
) -> PolicyLoss:
    """sum_t token_weights[t] * term_t of a policy objective (see PolicyObjective), with its gradients.

    hidden            [T, H] bf16 or fp32 (fp64 is computed in fp64)      weight  [V, H], same dtype
    targets           [T] int64, the token hidden[t] predicts; -100 gives logprob 0, entropy 0, no gradient, weight 0
    advantages        [T] float      token_weights  [T] float; the caller decides the normaliser
    old_logprobs      [T], the policy at rollout by linear_logprobs; None: this call's own, ratio 1 with its gradient
    ref_logprobs      [T], for kl_coef      rollout_logprobs  [T], the engine's, for rollout_correction
    cu_seqlens        [S + 1] int32 or int64, bounds of the packed sequences, for sequence-level objectives. On the CPU
                      (also beside CUDA inputs) only sequences longer than a chunk cost a fourth GEMM, and those that
                      lie across two chunks a second buffer of logits; on a device, where reading it would mean
                      waiting, all tokens cost that GEMM (none without old_logprobs and correction)
    temperature       above 0, a number or [T]
    grad_weight_out   fp32 [V, H]: the backward adds the weight's gradient here and autograd receives None
    returns           PolicyLoss; logprobs and entropy also where the weight is 0
    The gradients are formed in the forward and scaled in the backward, which may run once: three GEMMs, one without
    gradients, no dW for a frozen weight. dW is summed in fp32 and rounded once. Arguments an objective does not use are
    ignored.
    Raises ValueError for shapes, dtypes, devices, a DTensor weight, missing arguments, and on CPU for targets outside
    the vocabulary; on CUDA those make their logprob and the loss NaN.
    """
    check_head(hidden, weight)
    check_targets(targets, hidden, len(weight))
    if not isinstance(objective, PolicyObjective):
        raise ValueError(f"objective={objective!r} must be a PolicyObjective")
    tokens, dtype = len(hidden), torch.promote_types(hidden.dtype, torch.float32)
    optional = {"old_logprobs": old_logprobs, "ref_logprobs": ref_logprobs, "rollout_logprobs": rollout_logprobs}
    given = {name: value for name, value in optional.items() if value is not None} | {"advantages": advantages}
    for name, value in {"token_weights": token_weights, **given}.items():
        check_tensor(name, value, (tokens,), hidden)
    if objective.kl_coef and ref_logprobs is None:
        raise ValueError(f"kl_coef={objective.kl_coef} needs ref_logprobs; pass them or set kl_coef to 0")
    if objective.rollout_correction and rollout_logprobs is None:
        raise ValueError(f"rollout_correction={objective.rollout_correction!r} needs rollout_logprobs; pass them")
    offsets = _check_offsets(cu_seqlens, objective, hidden) if objective.sequence_level else None
    if grad_weight_out is not None:
        check_tensor("grad_weight_out", grad_weight_out, tuple(weight.shape), hidden, (dtype,))
    scale = row_temperature(temperature, hidden)
    given = {name: value.detach().to(dtype).contiguous() for name, value in given.items()}
    outside = (targets < 0) | (targets >= len(weight))
    weights = token_weights.detach().to(dtype).masked_fill(outside, float("nan")).masked_fill(targets == IGNORE, 0)
    inputs = TokenInputs(given["advantages"], weights.contiguous(), *(given.get(name) for name in optional))
    if not torch.is_grad_enabled():
        hidden, weight = hidden.detach(), weight.detach()
    loss, logprobs, entropy, *metrics = _LinearPolicyLoss.apply(
        hidden, weight, targets, scale, inputs, objective, offsets, grad_weight_out
    )
    return PolicyLoss(loss, logprobs, entropy, PolicyMetrics(*metrics))


def _check_offsets(cu_seqlens: Tensor | None, objective: PolicyObjective, hidden: Tensor) -> Tensor:
    if cu_seqlens is None:
        raise ValueError(f"kind={objective.kind!r}, importance={objective.importance!r} needs cu_seqlens; pass [S + 1]")
    beside = hidden if isinstance(cu_seqlens, Tensor) and cu_seqlens.is_cuda else hidden.new_empty(0, device="cpu")
    check_tensor("cu_seqlens", cu_seqlens, (None,), beside, (torch.int32, torch.int64))
    if not cu_seqlens.is_cuda:
        bounds = cu_seqlens.tolist()
        if bounds[:1] != [0] or bounds[-1] != len(hidden) or bounds != sorted(bounds):
            raise ValueError(f"cu_seqlens={bounds[:8]}.. must rise from 0 to the {len(hidden)} tokens of hidden")
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
) -> tuple[Tensor, Tensor, Tensor]:
    """(loss, logprobs, entropy) through full [T, V] logits and autograd, the contract written out line by line."""
    logprobs, entropy = linear_logprobs_reference(hidden, weight, targets, temperature=temperature, return_entropy=True)
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
