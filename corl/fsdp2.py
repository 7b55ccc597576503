"""The one file that touches FSDP2's private attributes: what a rank's shards are, where the gathered parameters
lie, and how they are made current without moving.

Written against the sources of torch 2.13; the attributes used are also those of 2.11, where a module has one parameter
group instead of a list of them. tests/corl/test_fsdp2.py names the attribute that a later torch has changed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from corl.model.decoder import Decoder
from corl.parallel import fsdp_modules, start_all_gather


@dataclass(frozen=True, slots=True)
class ShardedParameter:
    """One parameter of an FSDP2 model. Every rank of `group` has the same list of them.

    shard  1-D, this rank's rows in the dtype of the master weights, with zeros up to the length that all ranks have
    dtype  of the gathered parameter
    """

    name: str
    shape: torch.Size
    shard: Tensor
    dtype: torch.dtype
    group: dist.ProcessGroup


def is_sharded(model: nn.Module) -> bool:
    """Whether FSDP2 holds the parameters, gathered at the moment or not."""
    return next(fsdp_modules(model), None) is not None


def compute_dtype(model: Decoder) -> torch.dtype:
    """The dtype that forward passes see: under FSDP2 that of the gathered parameters, not of the master weights."""
    for module in fsdp_modules(model):
        return _compute_dtype(_groups(module)[0].fsdp_params[0])
    return model.head_weight.dtype


def sharded_parameters(model: nn.Module) -> list[ShardedParameter]:
    """The parameters of an FSDP2 model, whatever its modules hold at the moment; the shards are the optimiser's own."""
    found = []
    for name, parameter in _named_fsdp_parameters(model):
        mesh = parameter.sharded_param.device_mesh
        shape, dtype = parameter.sharded_param.shape, _compute_dtype(parameter)
        group = mesh.get_group(mesh.ndim - 1)  # with a second dimension, the first one holds the replicas
        found.append(ShardedParameter(name, shape, parameter._sharded_param_data, dtype, group))
    return found


def keep_gathered(model: nn.Module) -> None:
    """Let FSDP2 never free a gathered parameter again: what refreshes it from now on is gather_in_place alone."""
    for module in fsdp_modules(model):
        module.set_reshard_after_forward(False, recurse=False)
        module.set_reshard_after_backward(False, recurse=False)


@torch.no_grad()
def gather_in_place(model: nn.Module) -> dict[str, Tensor]:
    """Make the gathered parameters equal to the shards, in the storage they have; returns them by name. A collective.

    FSDP2's own unshard() does nothing while a module is gathered, and after a reshard() it allocates anew: graphs that
    were captured over the parameters would read freed memory. Here the storage is filled again by one all-gather per
    parameter. Where a module is not gathered, it is, by unshard(). Not for inference mode: autograd reads the same
    tensors. A backward pass whose forward came before raises torch's error about a tensor changed in place.
    """
    assert not torch.is_inference_mode_enabled(), "autograd could never use parameters gathered in inference mode"
    pending: list[dist.Work] = []
    for module in fsdp_modules(model):
        if not all(group.is_unsharded for group in _groups(module)):
            module.unshard()
            continue
        works = []
        for group in _groups(module):
            for parameter in group.fsdp_params:
                (gathered,), mesh = parameter.all_gather_outputs, parameter.sharded_param.device_mesh
                shard = parameter._sharded_param_data.to(gathered.dtype)
                works.append(start_all_gather(gathered, shard, mesh.get_group(mesh.ndim - 1)))
        for work in pending:  # so the casts of two modules exist at a time, not those of the whole model
            work.wait()
        pending = works
    for work in pending:
        work.wait()
    return {name: parameter._unsharded_param for name, parameter in _named_fsdp_parameters(model)}


def head_gradient(decoder: Decoder) -> Tensor | None:
    """The fp32 [V, D] in which FSDP2 adds up the output layer's gradient over micro-batches; None in fp32 training.

    What is added to it is reduced over the ranks with the rest, and spared the rounding to the compute dtype that
    autograd's own gradient takes at every micro-batch. Call it while the weights are gathered.
    """
    weight = decoder.head_weight
    (group,) = _groups(cast(FSDPModule, decoder))
    (parameter,) = (p for p in group.fsdp_params if p.unsharded_param is weight)
    if parameter.reduce_dtype is None:
        return None
    if parameter.unsharded_accumulated_grad is None:
        parameter.unsharded_accumulated_grad = torch.zeros_like(weight, dtype=parameter.reduce_dtype)
    return parameter.unsharded_accumulated_grad


def _groups(module: FSDPModule) -> list[Any]:
    state = module._get_fsdp_state()
    if hasattr(state, "_fsdp_param_groups"):
        return state._fsdp_param_groups
    return [state._fsdp_param_group]


def _named_fsdp_parameters(model: nn.Module) -> Iterator[tuple[str, Any]]:
    prefixes = {module: f"{name}." if name else "" for name, module in model.named_modules()}
    for module in fsdp_modules(model):
        for group in _groups(module):
            group.lazy_init()  # to_empty() has replaced the shards since the group was made; does nothing once done
            for parameter in group.fsdp_params:
                info = parameter._module_info
                yield prefixes[info.module] + info.param_name, parameter


def _compute_dtype(parameter: Any) -> torch.dtype:
    return parameter.mp_policy.param_dtype or parameter.sharded_param.dtype
