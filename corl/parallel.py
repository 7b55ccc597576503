"""Ranks, the FSDP2 wrapping of a decoder, and what is computed over its shards.

One mesh dimension of data-parallel ranks: 1 to N processes under torchrun, gloo on CPU and NCCL on GPU. A single
process without torchrun is a world of one rank and takes the same path.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from corl.model.decoder import Decoder

BITS_AT_ONCE = 2**22  # elements whose 64-bit products exist at a time
Parameters = dict[str, DTensor]  # the sharded parameters of a decoder, by name


@dataclass(frozen=True, slots=True)
class World:
    rank: int
    size: int
    device: torch.device
    mesh: DeviceMesh

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def gather(self, value: Any) -> list[Any]:
        """`value` of every rank, in rank order, on every rank (pickled; for small Python values and numpy arrays)."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def sum(self, values: Iterable[float]) -> list[float]:
        """Elementwise sum over the ranks, in fp64."""
        total = torch.tensor(list(values), dtype=torch.float64, device=self.device)
        if self.size > 1:
            dist.all_reduce(total)
        return total.tolist()

    def barrier(self) -> None:
        if self.size > 1:
            dist.barrier()


def check_devices() -> None:
    """Raise ValueError where this machine has GPUs, but fewer than torchrun started ranks here."""
    ranks, devices = int(os.environ.get("LOCAL_WORLD_SIZE", 1)), torch.cuda.device_count()
    if 0 < devices < ranks:
        raise ValueError(f"{ranks} ranks on {devices} GPU(s); start fewer, or set CUDA_VISIBLE_DEVICES= to use the CPU")


def init_world(timeout_s: int) -> World:
    """Join the process group that torchrun describes in the environment, or make a group of one."""
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(device)
        # Read by NCCL when the first communicator is made. The groups whose collectives are captured never have others
        # under way (0 spares every replay an exchange of events with the host), and what captured collectives read
        # must not be registered: it may be freed, and mapped again, before the replay.
        os.environ.setdefault("NCCL_GRAPH_MIXING_SUPPORT", "0")
        os.environ.setdefault("NCCL_GRAPH_REGISTER", "0")
        # Split sums rounded to bf16 would differ with the number of rows: between a decode step and the trainer's pack.
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    timeout = timedelta(seconds=timeout_s)
    if "RANK" in os.environ:
        dist.init_process_group(backend, timeout=timeout)
    else:
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1, timeout=timeout)
    mesh = init_device_mesh(device.type, (dist.get_world_size(),), mesh_dim_names=("data",))
    return World(dist.get_rank(), dist.get_world_size(), device, mesh)


def shard_decoder(
    decoder: Decoder, world: World, *, compute_dtype: torch.dtype, reshard_after_forward: bool
) -> Parameters:
    """Wrap every layer and the root with FSDP2, in place, and allocate the shards; returns them by parameter name.

    decoder  on the meta device, so that no rank ever holds the whole of it; fp32, the master weights. Embedding, final
             norm and head belong to the root's group
    returns  DTensors, sharded over the ranks along dimension 0, their values not yet set. Keep these for the optimiser,
             clipping and checkpoints: while weights are gathered, decoder.parameters() yields the gathered ones, which
             hold no gradient

    Gradients are summed over the ranks, not averaged: the loss carries its global normaliser itself.
    """
    policy = MixedPrecisionPolicy(cast_forward_inputs=False)
    if compute_dtype != torch.float32:
        policy = MixedPrecisionPolicy(compute_dtype, torch.float32, cast_forward_inputs=False)
    for layer in decoder.layers:
        fully_shard(layer, mesh=world.mesh, mp_policy=policy, reshard_after_forward=reshard_after_forward)
    fully_shard(decoder, mesh=world.mesh, mp_policy=policy, reshard_after_forward=False)
    for module in fsdp_modules(decoder):
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)
    decoder.to_empty(device=world.device)
    return cast(Parameters, dict(decoder.named_parameters()))


def fsdp_modules(model: nn.Module) -> Iterator[FSDPModule]:
    return (module for module in model.modules() if isinstance(module, FSDPModule))


def start_all_gather(out: Tensor, x: Tensor, group: dist.ProcessGroup) -> dist.Work:
    """Fill contiguous `out` with the contiguous x of every rank, one behind the other; wait() before it is read."""
    # torch 2.13 gave it another name, by which 2.11 does not have it
    gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
    return gather(out, x, group=group, async_op=True)


def local_rows(parameter: DTensor) -> tuple[int, int]:
    """First row and number of rows of the full tensor that this rank holds."""
    rank, size = parameter.device_mesh.get_local_rank(), parameter.device_mesh.size()
    chunk = -(-parameter.shape[0] // size)
    first = min(rank * chunk, parameter.shape[0])
    return first, min(chunk, parameter.shape[0] - first)


@torch.no_grad()
def copy_full(parameter: DTensor, full: Tensor) -> None:
    """Overwrite this rank's shard of `parameter` with its rows of `full` (same shape, any dtype)."""
    first, rows = local_rows(parameter)
    if rows:
        parameter.to_local().copy_(full[first : first + rows])


def iter_full(parameters: Parameters, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    """Every parameter gathered in full on the CPU, one at a time; a collective, so every rank must run through it."""
    for name, parameter in parameters.items():
        yield name, cast(DTensor, parameter.detach().to(dtype)).full_tensor().cpu()


@torch.no_grad()
def fingerprint(parameters: Parameters, world: World) -> str:
    """16 hex digits over names, shapes and every bit of the fp32 weights; the same for any number of ranks.

    Each shard sums bits * (2 * index + 1) modulo 2^64, index the element's place in the full tensor; the sums over the
    ranks are hashed. An equal hash is evidence, not proof (a checksum, no cryptography over the weights).
    """
    sums = [bit_sum(matrix(p.to_local().float()), row=local_rows(p)[0]) for p in parameters.values()]
    totals = torch.stack(sums)
    if world.size > 1:
        dist.all_reduce(totals)
    text = "\n".join(
        f"{name} {tuple(parameter.shape)} {total}"
        for (name, parameter), total in zip(parameters.items(), totals.tolist(), strict=True)
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def matrix(parameter: Tensor) -> Tensor:
    """A view of a parameter as rows and columns; a vector has one column."""
    return parameter.flatten(1) if parameter.ndim > 1 else parameter[:, None]


@torch.no_grad()
def bit_sum(block: Tensor, *, row: int = 0, column: int = 0, width: int | None = None) -> Tensor:
    """Sum of bits * (2 * index + 1) modulo 2^64, index the element's place in the full matrix; 0-d i64.

    block  [R, C] of 2 or 4 bytes an element, which begins at (row, column) of a matrix of `width` columns (None: C).
           The sums of blocks that tile a matrix add up to that of the matrix.
    """
    width = block.shape[1] if width is None else width
    columns = column + torch.arange(block.shape[1], device=block.device)
    total = torch.zeros((), dtype=torch.int64, device=block.device)
    for part in block.split(max(1, BITS_AT_ONCE // max(1, block.shape[1]))):
        rows = row + torch.arange(len(part), device=block.device)
        bits = part.contiguous().view(torch.int32 if block.element_size() == 4 else torch.int16).long()
        total += (bits * (2 * (rows[:, None] * width + columns) + 1)).sum()
        row += len(part)
    return total
