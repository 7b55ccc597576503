"""A head whose vocabulary is sliced over ranks: what they tell each other about every row, and nothing of size V."""

from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor

from corl_kernels.checks import ELSEWHERE, IGNORE
from corl_kernels.rows import Tokens

# T tokens, V vocabulary, R ranks of the group


@dataclass(frozen=True, slots=True)
class VocabularySlice:
    """The rows of the head's weight that this rank holds, out of a vocabulary that the ranks of `group` hold together.

    group  a torch.distributed process group, or its name
    start  id of the first row of this rank's weight; its other rows follow
    size   of the whole vocabulary
    Every rank passes the same hidden states, targets and token inputs, its own weight [rows, H], at least one row, and
    its own bias [rows]. Results and the gradient of hidden are those of the whole vocabulary, the same bits on every
    rank; the gradients of weight and bias are those of the rank's rows.
    """

    group: dist.ProcessGroup | str
    start: int
    size: int

    @property
    def name(self) -> str:
        return self.group if isinstance(self.group, str) else self.group.group_name

    @property
    def process_group(self) -> dist.ProcessGroup:
        if not isinstance(self.group, str):
            return self.group
        return dist.distributed_c10d._resolve_process_group(cast(Any, self.group))


def own_targets(targets: Tensor, rows: int, vocabulary: VocabularySlice | None) -> Tensor:
    """Targets as columns of this rank's slice: ELSEWHERE where another rank has it, `rows` where no rank has."""
    if vocabulary is None:
        return targets
    own = targets - vocabulary.start
    own = torch.where((own >= 0) & (own < rows), own, ELSEWHERE)
    own = torch.where((targets < 0) | (targets >= vocabulary.size), rows, own)
    return torch.where(targets == IGNORE, IGNORE, own)


def combine_statistics(tokens: Tokens, start: int, stop: int, vocabulary: VocabularySlice) -> None:
    """Turn the statistics of this rank's columns into those of the whole vocabulary, for the tokens start..stop.

    One gather of four numbers a row, added up in the order of the ranks, so that every rank gets the same bits. A
    target that no rank holds gives NaN.
    """
    part = slice(start, stop)
    targets, shift, logsum = tokens.targets[part], tokens.shift[part], tokens.logsum[part]
    # E[z - shift] of the rank's own distribution is logsum - entropy
    picked = torch.where(targets >= 0, tokens.logprobs[part] + logsum + shift, float("-inf"))
    mine = torch.stack((shift, logsum, logsum - tokens.entropy[part], picked))  # [4, n]
    shifts, logsums, means, targeted = gather_over_slices(mine, vocabulary).unbind(1)  # [R, n] each
    highest = shifts.amax(0)
    fall = shifts - highest
    weights = (logsums + fall).exp()
    total = weights.sum(0)
    tokens.shift[part], tokens.logsum[part] = highest, total.log()
    mean = torch.where(weights == 0, 0, weights * (means + fall)).sum(0) / total  # E[z - shift]
    live = targets != IGNORE
    tokens.logprobs[part] = torch.where(live, (targeted.amax(0) - highest) - tokens.logsum[part], 0)
    tokens.entropy[part] = torch.where(live, tokens.logsum[part] - mean, 0)


def gather_over_slices(values: Tensor, vocabulary: VocabularySlice) -> Tensor:
    """The values of every rank, of one shape, stacked in the order of the ranks: [R, ...]."""
    group = vocabulary.process_group
    everyone = values.new_empty(dist.get_world_size(group), *values.shape)
    dist.all_gather(list(everyone.unbind(0)), values.contiguous(), group)
    return everyone


def sum_over_slices(values: Tensor, vocabulary: VocabularySlice) -> None:
    """Add up over the ranks, in place."""
    dist.all_reduce(values, group=vocabulary.process_group)
