"""Draw one token per row with a random number that depends on nothing but the row's seed and position."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from corl_kernels import blocks, cuts
from corl_kernels.blocks import BLOCK
from corl_kernels.checks import check_tensor
from corl_kernels.philox import uniform_reference
from corl_kernels.vocabulary import VocabularySlice, gather_over_slices

# B rows, V vocabulary, C columns of it held here
_LOGIT_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
_FEW_BITS = 8  # of a round of the search for a cut, where bins travel between ranks or are set to 0 by a CPU


class Sampled(NamedTuple):
    """`tokens` [B] int64 and `logprobs` [B] fp32, in nats."""

    tokens: Tensor
    logprobs: Tensor


def vocabulary_slice(vocab_size: int, rank: int, size: int) -> tuple[int, int]:
    """Return the first column of a rank's slice and how many it has: whole blocks, of which the last may be shorter.

    All ranks have equally many blocks, but for the last ones, which may have fewer or no column.
    """
    width = -(-vocab_size // (BLOCK * size)) * BLOCK
    first = min(rank * width, vocab_size)
    return first, min(width, vocab_size - first)


class Ranks(NamedTuple):
    """The ranks that hold slices of one vocabulary, and this one among them.

    gather  a collective: the tensors of one shape that the ranks give, stacked in their order, [size, ...]
    """

    vocab_size: int
    rank: int
    size: int
    gather: Callable[[Tensor], Tensor]


def _ranks_of(vocabulary: VocabularySlice) -> Ranks:
    group = vocabulary.process_group
    rank, size = dist.get_rank(group), dist.get_world_size(group)
    first, _ = vocabulary_slice(vocabulary.size, rank, size)
    if vocabulary.start != first:
        raise ValueError(
            f"vocabulary.start={vocabulary.start} is not {first}, where the blocks of rank {rank} of {size} begin; "
            "cut the head with vocabulary_slice(vocab_size, rank, ranks)"
        )
    return Ranks(vocabulary.size, rank, size, lambda x: gather_over_slices(x, vocabulary))


def _per_row(name: str, value: float | Tensor, logits: Tensor, dtype: torch.dtype, rule: str, valid) -> Tensor:
    """`value` as [B]; on the CPU, and for a number, every entry must satisfy `valid`."""
    if not isinstance(value, int | float | Tensor):
        raise ValueError(f"{name} is a {type(value).__name__}; pass a number or a tensor [B]")
    fractional = value.is_floating_point() if isinstance(value, Tensor) else isinstance(value, float)
    if fractional and not dtype.is_floating_point:
        raise ValueError(f"{name} must hold integers, not {value.dtype if isinstance(value, Tensor) else value}")
    if isinstance(value, Tensor):
        if value.dim() == 0:
            value = value.expand(len(logits))
        check_tensor(name, value, (len(logits),), logits, (value.dtype,))
        if not value.is_cuda and not bool(valid(value).all()):
            raise ValueError(f"{name}={value[~valid(value)][0].item()} must be {rule}")
        return value.to(dtype)
    if not valid(torch.tensor(value)):
        raise ValueError(f"{name}={value} must be {rule}")
    return torch.full(logits.shape[:1], value, dtype=dtype, device=logits.device)


def _known(value: float | Tensor, constant: float) -> bool:
    """Whether every entry is known, without waiting for a device, to be `constant`."""
    if isinstance(value, Tensor):
        return not value.is_cuda and bool((value == constant).all())
    return value == constant


def sample_tokens(
    logits: Tensor,
    *,
    temperature: float | Tensor,
    seeds: Tensor,
    positions: Tensor,
    top_k: int | Tensor = 0,
    top_p: float | Tensor = 1.0,
    vocabulary: VocabularySlice | None = None,
) -> Sampled:
    """Draw from softmax(logits / temperature), cut to top_k and top_p, by inverting its distribution function.

    logits       [B, V] floating, below 2^22 columns; everything is computed from their fp32 values
    temperature  0 or more; 0 is argmax of the logits, the lowest id winning a tie
    seeds        [B] int64      positions  [B] int32 or int64, below 2^32
    top_k        keep the k largest logits, lowest id first among equals; 0 keeps all
    top_p        in (0, 1]: of what top_k keeps, renormalized, the fewest most likely tokens, lowest id first among
                 equals, that reach top_p (but for 2^-21 of it, which rounding may take); 1 keeps all
    vocabulary   where ranks hold slices of the logits: logits are then this rank's [B, C], the columns of
                 vocabulary_slice, and every rank gets the tokens and logprobs that the whole logits would give. All
                 ranks call at once, with the same arguments otherwise; they exchange a few numbers a block, no logits.
                 In a CUDA graph the group's all_gather must be one that a graph can hold.
    temperature, top_k and top_p are numbers or [B].
    returns      Sampled: tokens [B], and their logprobs [B] under the full softmax(logits / temperature), whatever
                 top_k and top_p are; at temperature 0, under softmax(logits)
    A row's token is the first, by id, whose cumulative probability exceeds a uniform number of 53 bits in [0, 1), which
    is philox.uniforms(seed, position). The sums are made in fp32 in blocks of 128 columns and in fp64 over the blocks
    (see blocks.py), so that a row's draw depends on no other row, nor on the number of ranks; on another kind of device
    it differs where the uniform number lies within rounding of a border. A token of probability 0 is never drawn.
    A row that holds NaN or inf, or nothing but -inf, gives its argmax (NaN before all) and a NaN.
    Raise ValueError for shapes, dtypes, devices and values out of range (tensor values: on CPU only).
    """
    ranks = None if vocabulary is None else _ranks_of(vocabulary)
    columns = None if ranks is None else vocabulary_slice(*ranks[:3])[1]
    check_tensor("logits", logits, (None, columns), logits, _LOGIT_DTYPES)
    vocab_size = logits.shape[1] if ranks is None else ranks.vocab_size
    if vocab_size == 0:
        raise ValueError("logits have no columns; a vocabulary holds at least one token")
    if vocab_size >= 1 << (62 - cuts.UNIT):
        raise ValueError(f"logits have {vocab_size} columns; at most {(1 << (62 - cuts.UNIT)) - 1} can be drawn from")
    check_tensor("seeds", seeds, (len(logits),), logits, (torch.int64,))
    check_tensor("positions", positions, (len(logits),), logits, (torch.int32, torch.int64))
    row_temperature = _per_row("temperature", temperature, logits, torch.float32, "0 or more", lambda x: x >= 0)
    keep_k = _per_row("top_k", top_k, logits, torch.int64, "0 (all) or more", lambda x: x >= 0)
    keep_p = _per_row("top_p", top_p, logits, torch.float32, "above 0 and at most 1", lambda x: (x > 0) & (x <= 1))
    limits = None if _known(top_k, 0) else keep_k, None if _known(top_p, 1) else keep_p
    if logits.is_cuda:
        from corl_kernels.jit import cuts as cut_ops
        from corl_kernels.jit import sampling as ops

        return draw_tokens(ops, cut_ops, logits, row_temperature, seeds, positions, *limits, ranks)
    return draw_tokens(blocks, cuts, logits, row_temperature, seeds, positions, *limits, ranks)


def draw_tokens(
    ops: Any,
    cut_ops: Any,
    logits: Tensor,
    temperature: Tensor,
    seeds: Tensor,
    positions: Tensor,
    top_k: Tensor | None = None,
    top_p: Tensor | None = None,
    ranks: Ranks | None = None,
) -> Sampled:
    """sample_tokens after its checks, computed by the functions of `ops` and `cut_ops`.

    ops, cut_ops  the modules blocks and cuts, or their namesakes of corl_kernels.jit: sampling and cuts
    temperature   [B] fp32      top_k  [B] int64 or None: no row is cut      top_p  [B] fp32 or None
    """
    vocab_size = logits.shape[1] if ranks is None else ranks.vocab_size
    num_blocks = -(-vocab_size // BLOCK)  # that a rank holds
    first, bits = 0, _FEW_BITS if cut_ops is cuts else cuts.BITS
    if ranks is not None:
        num_blocks = -(-num_blocks // ranks.size)
        first, bits = ranks.rank * num_blocks, _FEW_BITS

    def joined(statistics: Tensor) -> Tensor:
        """[B, 2, N] of all blocks from this rank's [B, 2, M]."""
        return statistics if ranks is None else ranks.gather(statistics).movedim(0, 2).flatten(2)

    own = ops.block_statistics(logits, temperature, num_blocks)
    statistics, kept, cut = joined(own), None, None
    if top_k is not None or top_p is not None:
        if cut_ops is cuts and ranks is None and vocab_size <= cuts.SORTED:
            cut = cuts.cut_by_sorting(logits, temperature, statistics, top_k, top_p)
        else:
            combine = None if ranks is None else lambda bins: cuts.join_bins(ranks.gather(bins))
            cut = cuts.find_cut(
                cut_ops, logits, temperature, statistics, first, num_blocks, top_k, top_p, vocab_size, combine, bits
            )
        kept = joined(ops.kept_statistics(logits, temperature, own[:, 0], cut))
    tokens, logprobs = ops.draw(logits, temperature, statistics, kept, cut, seeds, positions, first)
    if ranks is not None:
        both = torch.stack((tokens.double(), logprobs.double()))  # 0 on all ranks but one
        tokens, logprobs = ranks.gather(both).sum(0)
    return Sampled(tokens.long(), logprobs.float())


def sample_tokens_reference(
    logits: Tensor,
    *,
    temperature: list[float],
    seeds: list[int],
    positions: list[int],
    top_k: list[int],
    top_p: list[float],
) -> Sampled:
    """The same row by row, with Python integers and fp64, from a sort; finite logits only."""
    tokens, logprobs = [], []
    for row, t, seed, position, k, p in zip(logits.double(), temperature, seeds, positions, top_k, top_p, strict=True):
        order = sorted(range(len(row)), key=row.tolist().__getitem__, reverse=True)[: (k or len(row)) if t else 1]
        scaled, total = row / (t or 1.0), 0.0
        kept: dict[int, float] = {}
        for token, prob in zip(order, scaled[order].softmax(-1).tolist(), strict=True):
            if kept and total >= p * cuts.NEARLY and p < 1:
                break
            kept[token] = prob
            total += prob
        wanted, until = uniform_reference(seed, position) * total, 0.0
        for token in sorted(kept):
            until += kept[token]
            if until > wanted:
                break
        tokens.append(token)
        logprobs.append(float(scaled.log_softmax(-1)[token]))
    return Sampled(torch.tensor(tokens), torch.tensor(logprobs))
