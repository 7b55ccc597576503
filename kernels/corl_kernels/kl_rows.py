"""Two chunks of logits and the KL divergence between their rows, in plain torch: the CPU's side of jit/kl_rows.py."""

from dataclasses import dataclass

import torch
from torch import Tensor

from corl_kernels.rows import blocks, scaled


# T tokens, V vocabulary, C rows of a chunk, n = stop - start <= C tokens in it
@dataclass(frozen=True, slots=True)
class Divergence:
    """[T] each, in the dtype of the statistics; only temperature (None for 1) is filled beforehand.

    kl                     sum_v p (log p - log q), p the policy and q the reference
    shift, logsum          of z = logits / temperature: max z and log sum exp(z - max z)
    ref_shift, ref_logsum  the same of the reference
    """

    temperature: Tensor | None
    kl: Tensor
    shift: Tensor
    logsum: Tensor
    ref_shift: Tensor
    ref_logsum: Tensor


def make_divergence(temperature: Tensor | None, tokens: int, like: Tensor) -> Divergence:
    return Divergence(temperature, *(like.new_zeros(tokens) for _ in range(5)))


def _logprobs(z: Tensor, shift: Tensor, logsum: Tensor) -> Tensor:
    return (z - shift[:, None]).sub_(logsum[:, None])


def divergence(logits: Tensor, ref_logits: Tensor, tokens: Divergence, start: int, stop: int) -> None:
    """Fill the results of the tokens start..stop from both policies' logits [C, V], which are left as they are."""
    for rows, part in blocks(logits, start, stop):
        n, first = part.stop - part.start, part.start - start
        z = scaled(rows, tokens.temperature, part)
        ref_z = scaled(ref_logits[first : first + len(rows)], tokens.temperature, part)
        shift, ref_shift = z.amax(-1), ref_z.amax(-1)
        logsum = (z - shift[:, None]).exp_().sum(-1).log_()
        ref_logsum = (ref_z - ref_shift[:, None]).exp_().sum(-1).log_()
        logp = _logprobs(z, shift, logsum)
        gap = logp - _logprobs(ref_z, ref_shift, ref_logsum)
        tokens.kl[part] = gap.mul_(logp.exp_()).sum(-1)[:n]
        tokens.shift[part], tokens.logsum[part] = shift[:n], logsum[:n]
        tokens.ref_shift[part], tokens.ref_logsum[part] = ref_shift[:n], ref_logsum[:n]


def gradient(
    logits: Tensor,
    ref_logits: Tensor,
    tokens: Divergence,
    start: int,
    stop: int,
    slope: Tensor,
    dtype: torch.dtype,
) -> Tensor:
    """slope * dKL/dlogits [C, V] in `dtype`, over the storage of `logits`; zeros in the rows from n on.

    dKL/dlogit = p (log p - log q - KL) / temperature
    """
    for block, part in blocks(logits, start, stop):
        rows = block[: part.stop - part.start]
        here = slice(part.start - start, part.stop - start)
        by_kl = slope[here] if tokens.temperature is None else slope[here] / tokens.temperature[part]
        z, ref_z = scaled(rows, tokens.temperature, part), scaled(ref_logits[here], tokens.temperature, part)
        logp = _logprobs(z, tokens.shift[part], tokens.logsum[part])
        gap = logp - _logprobs(ref_z, tokens.ref_shift[part], tokens.ref_logsum[part])
        torch.mul(gap.sub_(tokens.kl[part, None]), logp.exp_().mul_(by_kl[:, None]), out=rows)
    logits[stop - start :].zero_()
    return logits.to(dtype)
