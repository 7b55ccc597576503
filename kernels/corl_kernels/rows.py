"""What happens to a chunk of logits between its GEMMs, in plain torch: the CPU's side of jit/policy_rows.py.

A few rows at a time, so that they stay in the cache from the first pass over them to the last.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from corl_kernels.checks import ELSEWHERE, IGNORE
from corl_kernels.objective import PolicyObjective, TokenInputs, token_terms

# T tokens, V vocabulary, C rows of a chunk, n = stop - start <= C tokens in it
# Of a block of rows: elements (1 MiB of fp32, an L2 cache), and rows at most. Powers of two.
_CACHED, _BLOCK = 1 << 18, 128
_LOWEST = -1e30


@dataclass(frozen=True, slots=True)
class Tokens:
    """What the rows of all T tokens need and give, [T] each but bias and softcap; the last four are results.

    With y = softcap tanh((logits + bias) / softcap) or logits + bias, z = y / temperature.
    targets      int64, IGNORE where nothing is predicted, ELSEWHERE where another rank holds the target's column
    temperature  or None for 1
    bias         [V] or None      softcap  or None for none
    logprobs     of the targets; 0 where ignored
    entropy      nats; 0 where ignored
    shift, logsum   of z: max z and log sum exp(z - max z), so log p = (z - shift) - logsum
    All but targets in the dtype of the statistics: fp32, or fp64 for fp64 inputs.
    """

    targets: Tensor
    temperature: Tensor | None
    bias: Tensor | None
    softcap: float | None
    logprobs: Tensor
    entropy: Tensor
    shift: Tensor
    logsum: Tensor


def make_tokens(
    targets: Tensor, temperature: Tensor | None, bias: Tensor | None, softcap: float | None, dtype: torch.dtype
) -> Tokens:
    results = (torch.zeros(len(targets), dtype=dtype, device=targets.device) for _ in range(4))
    bias = None if bias is None else bias.detach().to(dtype).contiguous()
    return Tokens(targets.contiguous(), temperature, bias, softcap, *results)


def block_rows(vocab_size: int) -> int:
    """Rows of a block for `blocks`: a power of two."""
    return min(_BLOCK, 1 << max(0, (_CACHED // vocab_size).bit_length() - 1))


def blocks(logits: Tensor, start: int, stop: int) -> Iterator[tuple[Tensor, slice]]:
    """The first n rows of `logits`, a cacheful at a time, and the tokens they belong to.

    Every block has the same number of rows, the last one some that belong to no token (C, a multiple of it, leaves
    room): torch sums a row that stands alone in another order when it has several threads.
    """
    step = block_rows(logits.shape[1])
    for first in range(start, stop, step):
        yield logits[first - start : first - start + step], slice(first, min(first + step, stop))


def scaled(rows: Tensor, temperature: Tensor | None, part: slice) -> Tensor:
    """z of a block; the rows of no token as they are."""
    if temperature is None:
        return rows
    z = rows.clone()
    z[: part.stop - part.start].div_(temperature[part, None])
    return z


def _bounded(rows: Tensor, tokens: Tokens) -> Tensor:
    """y of a block: the logits themselves without a bias and a soft cap.

    A bias of -inf, which leaves a token out, counts as _LOWEST: 0 times it is 0 and no NaN, also at temperatures far
    from 1, and a slice of nothing but such tokens has a finite maximum.
    """
    y = rows if tokens.bias is None else (rows + tokens.bias).clamp_(min=_LOWEST)
    return y if tokens.softcap is None else (y / tokens.softcap).tanh_().mul_(tokens.softcap)


def statistics(logits: Tensor, tokens: Tokens, start: int, stop: int) -> None:
    """Fill the results of the tokens start..stop from their logits [C, V], which are left as they are."""
    for rows, part in blocks(logits, start, stop):
        n = part.stop - part.start
        z, live = scaled(_bounded(rows, tokens), tokens.temperature, part), tokens.targets[part] != IGNORE
        shift = z.amax(-1)
        z = z - shift[:, None]
        picked = z[:n].gather(1, tokens.targets[part].clamp(min=0)[:, None])[:, 0]
        exponentials = z.exp()
        total = exponentials.sum(-1)
        logsum = total.log()
        # entropy = logsum - E[z - shift]: no difference of large numbers, whatever the logits
        entropy = logsum - exponentials.mul_(z).sum(-1) / total
        tokens.shift[part], tokens.logsum[part] = shift[:n], logsum[:n]
        tokens.logprobs[part] = torch.where(live, picked - logsum[:n], 0)
        tokens.entropy[part] = torch.where(live, entropy[:n], 0)


def gradient(
    logits: Tensor,
    tokens: Tokens,
    start: int,
    stop: int,
    slope: Tensor,
    entropy_slope: Tensor | None,
    dtype: torch.dtype,
) -> Tensor:
    """dL/dlogits [C, V] in `dtype`, over the logits' own storage; zeros in the rows from n on.

    slope, entropy_slope  [n]: dL/dlogprob and dL/dentropy of the tokens start..stop
    dlogit = (slope (1[v = target] - p) - entropy_slope p (log p + entropy)) / temperature, as dentropy/dz is
    -p (log p + entropy).
    """
    for block, part in blocks(logits, start, stop):
        rows = block[: part.stop - part.start]
        here = slice(part.start - start, part.stop - start)
        targets = tokens.targets[part]
        live = targets != IGNORE
        by_logprob = torch.where(live, slope[here], 0)
        by_entropy = None if entropy_slope is None else torch.where(live, entropy_slope[here], 0)
        if tokens.temperature is not None:
            by_logprob = by_logprob / tokens.temperature[part]
            by_entropy = None if by_entropy is None else by_entropy / tokens.temperature[part]
        y = _bounded(rows, tokens)
        z = scaled(y, tokens.temperature, part) - tokens.shift[part, None]
        z.sub_(tokens.logsum[part, None])
        if by_entropy is None:
            torch.mul(z.exp_(), -by_logprob[:, None], out=rows)
        else:
            torch.exp(z, out=rows)
            constant = by_logprob + by_entropy * tokens.entropy[part]
            rows.mul_(z.mul_(-by_entropy[:, None]).sub_(constant[:, None]))
        by_target = torch.where(targets == ELSEWHERE, 0, by_logprob)
        rows.scatter_add_(1, targets.clamp(min=0)[:, None], by_target[:, None])
        if tokens.softcap is not None:
            rows.mul_(1 - (y / tokens.softcap).square_())
    logits[stop - start :].zero_()
    return logits.to(dtype)


def policy_gradient(
    logits: Tensor,
    tokens: Tokens,
    start: int,
    stop: int,
    inputs: TokenInputs,
    objective: PolicyObjective,
    dtype: torch.dtype,
) -> Tensor:
    """`gradient` with the slopes of a token-level objective; inputs are those of all T tokens."""
    part = slice(start, stop)
    run = inputs.slice(start, stop)
    slope = token_terms(objective, tokens.logprobs[part], tokens.entropy[part], run, None)[1]
    bonus = -objective.entropy_coef * run.weights if objective.entropy_coef else None
    return gradient(logits, tokens, start, stop, slope, bonus, dtype)
