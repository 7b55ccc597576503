"""Sequences to train on, packed into micro-batches of a token budget, the same number of them on every rank.

T packed tokens, S sequences of a micro-batch, R tokens that carry a target (the completions).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

IGNORE = -100  # the target of a token that is not learnt from


@dataclass(frozen=True, slots=True)
class TrainSequence:
    """One prompt and its completion. `token_weight` is the share of every completion token in the step's loss."""

    name: str  # of the item (and sample): what a message about this sequence says
    ids: list[int]
    prompt_len: int
    token_weight: float
    advantage: float = 0.0
    rollout_logprobs: list[float] | None = None  # the engine's, one per completion token

    def __post_init__(self) -> None:
        assert 0 < self.prompt_len < len(self.ids), self.name

    @property
    def num_targets(self) -> int:
        return len(self.ids) - self.prompt_len


@dataclass(frozen=True, slots=True)
class MicroBatch:
    sequences: list[TrainSequence]
    input_ids: Tensor  # [T] int64, every id of a sequence but its last
    position_ids: Tensor  # [T] int64
    cu_seqlens: Tensor  # [S + 1] int32
    max_seqlen: int
    rows: Tensor  # [R] int64, the places in T whose next token is a target: only they enter the head
    targets: Tensor  # [R] int64
    target_cu_seqlens: Tensor  # [S + 1] int32 on the CPU, sequence boundaries within R
    advantages: Tensor  # [R] fp32
    token_weights: Tensor  # [R] fp32
    rollout_logprobs: Tensor | None  # [R] fp32, the engine's
    old_logprobs: Tensor | None = None  # [R] fp32, of the weights before the first update of a rollout
    ref_logprobs: Tensor | None = None  # [R] fp32, of the reference policy


def pack(sequences: Sequence[TrainSequence], budget: int, ranks: int) -> list[list[list[TrainSequence]]]:
    """Split into micro-batches of at most `budget` input tokens; returns them as [rank][micro-batch][sequence].

    Longest first into the emptiest bin: a pure function of the arguments, balanced over the ranks. Every rank gets the
    same number of bins, because each forward and backward is a collective; a bin may be empty.
    Raises ValueError for a sequence longer than the budget.
    """
    lengths = [len(s.ids) - 1 for s in sequences]
    for sequence, length in zip(sequences, lengths, strict=True):
        if length > budget:
            raise ValueError(
                f"{sequence.name}: {length} tokens exceed parallel.tokens_per_micro_batch {budget}; raise it or shorten"
            )
    order = sorted(range(len(sequences)), key=lambda i: (-lengths[i], i))
    num_bins = max(1, -(-sum(lengths) // (budget * ranks))) * ranks
    while (bins := _fill(order, lengths, num_bins, budget)) is None:
        num_bins += ranks
    return [[[sequences[i] for i in sorted(b)] for b in bins[rank::ranks]] for rank in range(ranks)]


def _fill(order: list[int], lengths: list[int], num_bins: int, budget: int) -> list[list[int]] | None:
    bins: list[list[int]] = [[] for _ in range(num_bins)]
    loads = [0] * num_bins
    for i in order:
        k = loads.index(min(loads))
        loads[k] += lengths[i]
        if loads[k] > budget:
            return None
        bins[k].append(i)
    return bins


def micro_batch(sequences: list[TrainSequence], device: torch.device) -> MicroBatch:
    """Tensors of one bin. An empty bin becomes one token without a target: it keeps the ranks' collectives in step."""
    ids: list[int] = []
    positions: list[int] = []
    bounds, target_bounds = [0], [0]
    rows: list[int] = []
    targets: list[int] = []
    advantages: list[float] = []
    weights: list[float] = []
    rollout_logprobs: list[float] = []
    for s in sequences:
        start = len(ids)
        ids += s.ids[:-1]
        positions += range(len(s.ids) - 1)
        bounds.append(len(ids))
        rows += range(start + s.prompt_len - 1, len(ids))
        targets += s.ids[s.prompt_len :]
        target_bounds.append(len(targets))
        advantages += [s.advantage] * s.num_targets
        weights += [s.token_weight] * s.num_targets
        if s.rollout_logprobs is not None:
            assert len(s.rollout_logprobs) == s.num_targets, s.name
            rollout_logprobs += s.rollout_logprobs
    if not sequences:
        ids, positions, bounds, rows, targets, target_bounds = [0], [0], [0, 1], [0], [IGNORE], [0, 1]
        advantages, weights, rollout_logprobs = [0.0], [0.0], [0.0]

    def tensor(values: list, dtype: torch.dtype) -> Tensor:
        return torch.tensor(values, dtype=dtype).to(device, non_blocking=True)

    return MicroBatch(
        sequences=sequences,
        input_ids=tensor(ids, torch.int64),
        position_ids=tensor(positions, torch.int64),
        cu_seqlens=tensor(bounds, torch.int32),
        max_seqlen=max(b - a for a, b in zip(bounds, bounds[1:], strict=False)),
        rows=tensor(rows, torch.int64),
        targets=tensor(targets, torch.int64),
        target_cu_seqlens=torch.tensor(target_bounds, dtype=torch.int32),
        advantages=tensor(advantages, torch.float32),
        token_weights=tensor(weights, torch.float32),
        rollout_logprobs=tensor(rollout_logprobs, torch.float32) if len(rollout_logprobs) == len(targets) else None,
    )
