"""Copies of the trainer's parameters in one buffer of fixed address: all of them, or this rank's slices."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod

import torch
import torch.distributed as dist
from torch import Tensor, nn

from corl.fsdp2 import ShardedParameter, is_sharded, sharded_parameters
from corl.model.config import ModelConfig
from corl.model.decoder import Decoder
from corl.parallel import fsdp_modules, matrix, start_all_gather
from corl.rollout.head import head_logits
from corl.rollout.memory import FixedMemory, allocate
from corl.rollout.tensor_parallel import TensorParallel, cut_of, local_decoder
from corl.rollout.weight_check import check_weights
from corl_kernels import vocabulary_slice
from corl_kernels.vocabulary import VocabularySlice

# B samples, D hidden, V vocab, R rows and C columns of a parameter (a vector has one column)
STAGE_BYTES = 2**30  # of each of the two staging buffers, at most
ALIGNMENT = 256  # bytes, of every parameter in the arena: what the CUDA allocator gives, and GEMM kernels count on


class ArenaWeights:
    """Copies of the parameters, or of this rank's slices of them, in one buffer whose addresses never change.

    decoder     the Decoder of these copies, in `dtype`; under tensor parallelism that of this rank's share
    current     False until the first refresh and after a release, when there is nothing to read
    vocabulary  the columns that logits have, for sample_tokens; None where they have all
    """

    vocabulary: VocabularySlice | None

    def __init__(
        self,
        config: ModelConfig,
        *,
        dtype: torch.dtype,
        device: torch.device,
        tensor_parallel: TensorParallel | None = None,
    ) -> None:
        self.config = replace(config, dtype=dtype)
        self.parallel = tensor_parallel
        self.current = False
        with torch.inference_mode(False):  # the copies are written in and outside of that mode
            self.decoder = local_decoder(self.config, tensor_parallel)
            self._memory = _move_into_arena(self.decoder, device)
        self._parameters = dict(self.decoder.named_parameters())
        self._addresses = self._data_ptrs()
        rank, size = (0, 1) if tensor_parallel is None else (tensor_parallel.rank, tensor_parallel.size)
        self._num_columns, self.vocabulary = config.vocab_size, None
        if tensor_parallel is not None:
            first, self._num_columns = vocabulary_slice(config.vocab_size, rank, size)
            self.vocabulary = VocabularySlice(tensor_parallel.group, first, config.vocab_size)
        self._cuts = {name: cut_of(name, len(p), self.config, rank, size) for name, p in self._parameters.items()}

    def logits(self, hidden: Tensor) -> Tensor:
        """fp32 [B, V] of hidden [B, D]; under tensor parallelism the columns of `vocabulary`, [B, C]."""
        assert self.current, "the weights were released; refresh them before they are read"
        return head_logits(hidden, self.decoder.head_weight[: self._num_columns])

    @torch.no_grad()
    def refresh(self, model: Decoder) -> int:
        """Copy the parameters of `model`, any model of this config, as they are now; returns the bytes of the copies.

        Under FSDP2 a collective over its ranks: parameter by parameter, in blocks of at most STAGE_BYTES, the shards
        are cast, gathered into one of two staging buffers and copied out of it while the next block is on its way.
        What a released arena held is mapped again first.
        """
        self._memory.restore()
        if self.decoder.exact != model.exact:
            self.decoder.set_exact(model.exact)
        if is_sharded(model):
            for module in fsdp_modules(model):
                module.reshard()  # nothing reads the gathered parameters before the next update
            self._gather(sharded_parameters(model))
        else:
            for name, parameter in model.named_parameters():
                self._copy(name, matrix(parameter), 0)
        assert self._data_ptrs() == self._addresses, "a parameter has moved: captured graphs would read freed memory"
        self.current = True
        return sum(parameter.nbytes for parameter in self.decoder.parameters())

    def verify(self, model: Decoder) -> None:
        """RuntimeError, on every rank alike, naming the tensors whose bits are not the trainer's; a collective."""
        assert self.current, "the weights were released; refresh them before they are read"
        check_weights(self.decoder, model, self.parallel)

    def release(self) -> None:
        """Give the memory back and keep the addresses; refresh before the weights are read again."""
        self.current = False
        self._memory.release()

    def restore(self) -> None:
        """Have memory at the addresses again; its content is undefined until the next refresh."""
        self._memory.restore()

    def _gather(self, parameters: list[ShardedParameter]) -> None:
        """Block i + 1 is on its way while block i is copied out of its staging buffer."""
        stages = [torch.empty(0, dtype=self.config.dtype, device=self.decoder.head_weight.device)] * 2
        pending: tuple[_Block, Tensor, dist.Work] | None = None
        for index, block in enumerate(self._blocks(parameters)):
            source, gathered = block.shard.to(self.config.dtype), block.target
            if gathered is None:
                size = dist.get_world_size(block.group) * source.numel()
                if stages[index % 2].numel() < size:
                    stages[index % 2] = source.new_empty(size)
                gathered = stages[index % 2][:size]
            work = start_all_gather(gathered, source, block.group)
            if pending is not None:
                self._finish(*pending)
            pending = block, gathered, work
        if pending is not None:
            self._finish(*pending)

    def _finish(self, block: "_Block", gathered: Tensor, work: dist.Work) -> None:
        work.wait()
        if block.target is None:
            rows = gathered.view(-1, block.columns)
            for first_row, count, at in block.places:
                self._copy(block.name, rows[at : at + count], first_row)

    def _blocks(self, parameters: list[ShardedParameter]) -> Iterator["_Block"]:
        """What is gathered at a time, alike on every rank: a parameter, or the same few rows of every rank's shard."""
        for parameter in parameters:
            name, group = parameter.name, parameter.group
            ranks, rows, columns = dist.get_world_size(group), parameter.shape[0], prod(parameter.shape[1:])
            chunk, target = len(parameter.shard) // columns, self._parameters[name]
            if target.shape == parameter.shape and ranks * chunk == rows:
                # the ranks' rows, one behind the other, are the parameter: it needs no staging
                yield _Block(name, group, parameter.shard, columns, target.view(-1), [])
                continue
            step = max(1, STAGE_BYTES // (ranks * columns * target.element_size()))
            for start in range(0, chunk, step):
                count = min(step, chunk - start)
                firsts = [(rank * chunk + start, rank * count) for rank in range(ranks)]
                places = [(first, min(count, rows - first), at) for first, at in firsts if first < rows]
                shard = parameter.shard[start * columns : (start + count) * columns]
                yield _Block(name, group, shard, columns, None, [(0, rows, 0)] if count == chunk else places)

    def _copy(self, name: str, source: Tensor, first_row: int) -> None:
        """Take what this rank holds of rows [R, C] of the full parameter, the first of which is row first_row there."""
        own = matrix(self._parameters[name])
        for place, own_place in self._cuts[name].overlaps(first_row, len(source)):
            own[own_place].copy_(source[place])

    def _data_ptrs(self) -> list[int]:
        return [parameter.data_ptr() for parameter in self.decoder.parameters()]


@dataclass(frozen=True, slots=True)
class _Block:
    """One all-gather. target: where it goes as it is; None for a staging buffer, whose rows then lie at `places`:
    (row in the full parameter, number of rows, row in the buffer)."""

    name: str
    group: dist.ProcessGroup
    shard: Tensor
    columns: int
    target: Tensor | None
    places: list[tuple[int, int, int]]


def _move_into_arena(decoder: Decoder, device: torch.device) -> FixedMemory:
    """Give every parameter of a decoder on the meta device its place in one buffer; the caller keeps the buffer."""
    named = list(decoder.named_parameters())
    sizes = [-(-parameter.nbytes // ALIGNMENT) * ALIGNMENT for _, parameter in named]
    memory = allocate(sum(sizes), device)
    for (name, parameter), place in zip(named, memory.tensor().split(sizes), strict=True):
        view = place[: parameter.nbytes].view(parameter.dtype).view(parameter.shape)
        module, _, leaf = name.rpartition(".")
        setattr(decoder.get_submodule(module), leaf, nn.Parameter(view, requires_grad=False))
    return memory
