"""Are the engine's weights the trainer's? Checksums over every bit, compared rank by rank."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from corl.fsdp2 import is_sharded, sharded_parameters
from corl.model.decoder import Decoder
from corl.parallel import bit_sum, matrix
from corl.rollout.tensor_parallel import Cut, TensorParallel, cut_of


class Rows(NamedTuple):
    """Rows [R, C] of the trainer's parameter `name`, the first of them row `first` of the `total` it has."""

    name: str
    rows: Tensor
    first: int
    total: int


@torch.no_grad()
def check_weights(decoder: Decoder, model: Decoder, parallel: TensorParallel | None) -> None:
    """RuntimeError naming the first parameter of `decoder` whose bits are not those of `model` in its dtype, and where.

    decoder   what the engine runs, on this rank: the whole model or, with `parallel`, this rank's slices of it
    model     the trainer's: its shards count, not what FSDP2 has gathered of them. A collective over its ranks, else
              over those of `parallel`; every rank raises alike

    Every rank adds up, of the rows it trains, what each rank of a tensor-parallel group should hold; summed over the
    ranks this is what the engine's own copies must add up to (see bit_sum). Equal sums are evidence, not proof.
    """
    rank, size = (0, 1) if parallel is None else (parallel.rank, parallel.size)
    group: Any = None if parallel is None else parallel.group
    trained = list(_trained_rows(model))
    wanted, found = [], []
    for name, rows, first, total in trained:
        own = matrix(decoder.get_parameter(name))
        cuts = [cut_of(name, len(own), model.config, r, size) for r in range(size)]
        wanted.append(torch.stack([_sum_of_rows(rows.to(own.dtype), first, cut) for cut in cuts]))
        found.append(_sum_of_slices(own, cuts[rank], total, rows.shape[1]))
    sums = torch.stack(wanted)  # [parameters, ranks of a tensor-parallel group]
    if is_sharded(model):
        group = sharded_parameters(model)[0].group
        dist.all_reduce(sums, group=group)
    differs = (torch.stack(found) != sums[:, rank]).tolist()
    by_rank: list[Any] = [[rows.name for rows, wrong in zip(trained, differs, strict=True) if wrong]]
    if group is not None:
        mine = by_rank[0]
        by_rank = [None] * dist.get_world_size(group)
        dist.all_gather_object(by_rank, mine, group)
    if any(by_rank):
        names = [name for name in (rows.name for rows in trained) if any(name in wrong for wrong in by_rank)]
        where = [str(r) for r, wrong in enumerate(by_rank) if names[0] in wrong]
        raise RuntimeError(
            f"the engine's {names[0]} is not the trainer's on rank {', '.join(where)} ({len(names)} differ): "
            "swap_weights must follow every change"
        )


def _trained_rows(model: Decoder) -> Iterator[Rows]:
    if not is_sharded(model):
        for name, parameter in model.named_parameters():
            yield Rows(name, matrix(parameter), 0, len(parameter))
        return
    for sharded in sharded_parameters(model):
        rows = sharded.shard.view(-1, sharded.shape[1:].numel())
        first, total = dist.get_rank(sharded.group) * len(rows), sharded.shape[0]
        yield Rows(sharded.name, rows[: max(0, total - first)], first, total)


def _sum_of_rows(rows: Tensor, first: int, cut: Cut) -> Tensor:
    """Of what `cut` takes out of rows of the full parameter, at its places there."""
    total = torch.zeros((), dtype=torch.int64, device=rows.device)
    for (part, columns), _ in cut.overlaps(first, len(rows)):
        total += bit_sum(rows[part, columns], row=first + part.start, column=columns.start or 0, width=rows.shape[1])
    return total


def _sum_of_slices(own: Tensor, cut: Cut, total_rows: int, width: int) -> Tensor:
    """Of a rank's own matrix, at the places its elements have in the full parameter."""
    total = torch.zeros((), dtype=torch.int64, device=own.device)
    for (part, columns), place in cut.overlaps(0, total_rows):
        total += bit_sum(own[place], row=part.start, column=columns.start or 0, width=width)
    return total
