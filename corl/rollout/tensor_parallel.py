"""Tensor parallelism for rollout (Shoeybi et al. 2019, arXiv:1909.08053): which slice of every parameter a rank holds,
and the sums and gathers that make the slices one model.

A rank has whole heads, columns of the MLP and whole blocks of the vocabulary; o_proj, down_proj and the embedding add
up over the ranks. The CUDA paths have never been run on a GPU: they were written against the operator schemas of torch
2.13.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import _symmetric_memory as symmetric_memory

from corl.model.config import ModelConfig
from corl.model.decoder import Decoder, DecoderLayer, Linear
from corl.parallel import World, start_all_gather
from corl_kernels import vocabulary_slice

# T tokens, B samples, D hidden, V vocab, R rows and C columns of a parameter (a vector has one column)
BUFFER_BYTES = 2**23  # of symmetric memory: 512 rows of 8192 bf16 channels, a large decode step
ONE_SHOT_BYTES = 2**19  # above it every rank reads more by reading all of everything than by two steps
Span = tuple[slice, slice]


@dataclass(frozen=True, slots=True)
class TensorParallel:
    """The ranks that hold one copy of the model together. `buffer`: symmetric memory of the group, on CUDA."""

    group: dist.ProcessGroup
    rank: int
    size: int
    buffer: Tensor | None = None

    def all_reduce(self, x: Tensor) -> Tensor:
        """The sum of x over the ranks, the same bits on all of them; x may be overwritten.

        On a CPU the ranks' terms are added in rank order, so that the bits of a row do not depend on its company. On
        CUDA what fits the buffer is summed by torch's symmetric-memory kernels, which a graph can capture without NCCL.
        """
        x = x.contiguous()
        if not x.is_cuda:
            terms = self._gather(x)
            total = terms[0]
            for term in terms[1:]:
                total = total + term
            return total
        if self.buffer is None or x.nbytes > self.buffer.nbytes:
            dist.all_reduce(x, group=self.group)
            return x
        shared = self.buffer.narrow(0, 0, x.nbytes).view(x.dtype).view(x.shape)
        if x.nbytes <= ONE_SHOT_BYTES:
            return torch.ops.symm_mem.one_shot_all_reduce_copy(shared, x, "sum", self.group.group_name)
        shared.copy_(x)
        return torch.ops.symm_mem.two_shot_all_reduce_(shared, "sum", self.group.group_name).clone()

    def smallest(self, value: int) -> int:
        """The least of the ranks' values; a collective. What a rank measures, all must do with."""
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value, self.group)
        return min(found)

    def assert_equal(self, value: Any) -> None:
        """AssertionError on every rank unless all ranks have the same `value` (compared by its repr); a collective."""
        digest = hashlib.blake2b(repr(value).encode(), digest_size=16).hexdigest()
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, digest, self.group)
        assert len(set(found)) == 1, f"the ranks of a tensor-parallel group disagree: {found}"

    def _gather(self, x: Tensor) -> Tensor:
        parts = x.new_empty(self.size, *x.shape)
        start_all_gather(parts.view(-1), x.view(-1), self.group).wait()
        return parts


def tensor_parallel_group(world: World, size: int) -> TensorParallel | None:
    """This rank's group, `size` consecutive ranks of the world; None for size 1. A collective.

    Raises ValueError, on every rank alike, when the groups do not come out even or one would cross machines.
    """
    _check_ranks(world.size, size)
    if size == 1:
        return None
    first = world.rank // size * size
    groups = [dist.new_group(list(range(start, start + size))) for start in range(0, world.size, size)]
    group = cast(dist.ProcessGroup, groups[world.rank // size])
    buffer = None
    if world.device.type == "cuda":
        buffer = symmetric_memory.empty(BUFFER_BYTES, dtype=torch.uint8, device=world.device)
        symmetric_memory.rendezvous(buffer, group)
    return TensorParallel(group, world.rank - first, size, buffer)


def check_tensor_parallel(size: int, config: ModelConfig) -> None:
    """ValueError where the ranks that torchrun has started or a model of this config do not split into `size` parts.

    Needs no process group, so every rank fails alike before any of them waits for another.
    """
    _check_ranks(int(os.environ.get("WORLD_SIZE", 1)), size)
    local_config(config, size)


def _check_ranks(ranks: int, size: int) -> None:
    ranks_per_machine = int(os.environ.get("LOCAL_WORLD_SIZE", ranks))
    if ranks % size:
        raise ValueError(
            f"rollout.tensor_parallel: {size} does not divide the {ranks} rank(s); start a multiple of it, or lower it"
        )
    if ranks_per_machine % size:
        raise ValueError(
            f"rollout.tensor_parallel: {size} does not divide the {ranks_per_machine} ranks of a machine, so a group "
            "would cross machines; lower it"
        )


@dataclass(frozen=True, slots=True)
class Cut:
    """The part of a parameter that a rank holds: spans (first, count) of its rows (dim 0) or columns (dim 1), one
    behind the other. Parameters are matrices [R, C] here."""

    dim: int
    spans: tuple[tuple[int, int], ...]

    def overlaps(self, first_row: int, rows: int) -> Iterator[tuple[Span, Span]]:
        """What the rank holds of `rows` rows of the full parameter, the first of which is row first_row there.

        Pairs of places (rows, columns) in those rows and in the rank's own matrix, each of equal shape.
        """
        at = 0
        for first, count in self.spans:
            if self.dim == 1:
                own = slice(first_row, first_row + rows), slice(at, at + count)
                yield (slice(0, rows), slice(first, first + count)), own
            else:
                low, high = max(first, first_row), min(first + count, first_row + rows)
                if low < high:
                    everything = slice(None)
                    own = slice(at + low - first, at + high - first), everything
                    yield (slice(low - first_row, high - first_row), everything), own
            at += count


def cut_of(name: str, own_rows: int, config: ModelConfig, rank: int, size: int) -> Cut:
    """What rank `rank` of `size` holds of the parameter of this name in a model of this (whole) config.

    own_rows  rows of the rank's own matrix, which are all there are of a parameter that is not sliced
    """
    module = name.split(".")[-2]
    if module == "qkv_proj":
        q, kv = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        own_q, own_kv = q // size, max(kv // size, config.head_dim)
        first_kv = rank * config.num_kv_heads // size * config.head_dim  # with fewer heads than ranks some share one
        return Cut(0, ((rank * own_q, own_q), (q + first_kv, own_kv), (q + kv + first_kv, own_kv)))
    if module == "gate_up_proj":
        own = config.intermediate_size // size
        return Cut(0, ((rank * own, own), (config.intermediate_size + rank * own, own)))
    if module in ("o_proj", "down_proj"):
        columns = config.num_heads * config.head_dim if module == "o_proj" else config.intermediate_size
        return Cut(1, ((rank * (columns // size), columns // size),))
    if module in ("embed_tokens", "lm_head"):
        return Cut(0, (vocabulary_slice(config.vocab_size, rank, size),))
    return Cut(0, ((0, own_rows),))


def local_config(config: ModelConfig, size: int) -> ModelConfig:
    """The config of one rank's share of the model; ValueError naming the number that does not divide."""
    for key, value in (("num_attention_heads", config.num_heads), ("intermediate_size", config.intermediate_size)):
        if value % size:
            raise ValueError(f"rollout.tensor_parallel: {size} does not divide the model's {key}={value}; lower it")
    if config.num_kv_heads % size and size % config.num_kv_heads:
        raise ValueError(
            f"rollout.tensor_parallel: {size} neither divides the model's num_key_value_heads={config.num_kv_heads} "
            "nor is a multiple of it; choose another"
        )
    return replace(
        config,
        num_heads=config.num_heads // size,
        num_kv_heads=max(1, config.num_kv_heads // size),
        intermediate_size=config.intermediate_size // size,
        vocab_size=vocabulary_slice(config.vocab_size, 0, size)[1],  # rank 0's; the last ranks have rows to spare
    )


def local_decoder(config: ModelConfig, parallel: TensorParallel | None) -> Decoder:
    """The Decoder of this rank's share, on the meta device: its hidden states are those of the whole model."""
    with torch.device("meta"):
        if parallel is None:
            return Decoder(config)
        decoder = Decoder(local_config(config, parallel.size))
        decoder.embed_tokens = _VocabularyParallel(decoder.embed_tokens, parallel)
        for layer in cast(list[DecoderLayer], decoder.layers):
            layer.self_attn.o_proj = _SummedLinear(layer.self_attn.o_proj, parallel)
            layer.mlp.down_proj = _SummedLinear(layer.mlp.down_proj, parallel)
    return decoder


class _SummedLinear(Linear):
    """A linear layer over this rank's inputs, summed over the ranks."""

    def __init__(self, local: Linear, parallel: TensorParallel) -> None:
        super().__init__(local.in_features, local.out_features, bias=False, dtype=local.weight.dtype)
        self.parallel = parallel

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002, the name of nn.Linear
        return self.parallel.all_reduce(super().forward(input))


class _VocabularyParallel(nn.Embedding):
    """The embedding of this rank's rows of the vocabulary, zeros for every other token, summed over the ranks."""

    def __init__(self, local: nn.Embedding, parallel: TensorParallel) -> None:
        super().__init__(local.num_embeddings, local.embedding_dim, dtype=local.weight.dtype)
        self.parallel = parallel

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002, the name of nn.Embedding
        own = input - self.parallel.rank * self.num_embeddings
        elsewhere = (own < 0) | (own >= self.num_embeddings)
        rows = super().forward(own.masked_fill(elsewhere, 0))
        return self.parallel.all_reduce(rows.masked_fill(elsewhere[:, None], 0.0))
