"""The shim over FSDP2 on one rank in this process; on two ranks in processes that run this file as a script."""

import pytest
import torch
import torch.distributed as dist

from corl.config import Optim
from corl.fsdp2 import (
    compute_dtype,
    gather_in_place,
    head_gradient,
    is_sharded,
    keep_gathered,
    sharded_parameters,
)
from corl.model.attention import packed_attention
from corl.model.config import ModelConfig
from corl.model.decoder import Decoder
from corl.model.rope import RopeConfig
from corl.parallel import copy_full, fsdp_modules, init_world, shard_decoder
from corl.training.batch import TrainSequence, micro_batch, pack
from corl.training.sft import likelihood_head
from corl.training.trainer import Trainer

SEQUENCES = [TrainSequence(f"s{k}", [(11 * k + j) % 61 for j in range(5 + k)], 2, 0.01, k - 2.5) for k in range(7)]


def test_the_private_attributes_are_still_there(make_sharded):
    """What corl/fsdp2.py reads, one by one, so that a torch which renames one of them is told by name."""
    decoder, _ = make_sharded(dtype=torch.bfloat16)
    for module in fsdp_modules(decoder):
        module.unshard()
        state = module._get_fsdp_state()
        assert hasattr(state, "_fsdp_param_groups") or hasattr(state, "_fsdp_param_group"), torch.__version__
        (group,) = getattr(state, "_fsdp_param_groups", None) or [state._fsdp_param_group]
        wanted = [
            (group, "fsdp_params is_unsharded lazy_init"),
            (group.fsdp_params[0], "sharded_param _sharded_param_data all_gather_outputs _unsharded_param mp_policy"),
            (group.fsdp_params[0], "unsharded_param unsharded_accumulated_grad reduce_dtype _module_info"),
            (group.fsdp_params[0]._module_info, "module param_name"),
        ]
        for owner, names in wanted:
            for name in names.split():
                assert hasattr(owner, name), f"torch {torch.__version__}: {type(owner).__name__} has no {name} any more"
        for parameter in group.fsdp_params:
            storage = parameter._unsharded_param.untyped_storage().data_ptr()
            assert [x.untyped_storage().data_ptr() for x in parameter.all_gather_outputs] == [storage]
            assert parameter._sharded_param_data.dim() == 1
            local = parameter.sharded_param.to_local()
            assert parameter._sharded_param_data.untyped_storage().data_ptr() == local.untyped_storage().data_ptr()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_shards_have_the_names_shapes_and_bits_of_the_parameters(make_sharded, make_decoder, tied, dtype):
    decoder, parameters = make_sharded(seed=3, tied=tied, dtype=dtype)
    whole = dict(make_decoder(3, tied).named_parameters())
    assert is_sharded(decoder) and not is_sharded(make_decoder(3, tied))
    assert compute_dtype(decoder) == dtype and compute_dtype(make_decoder(3, tied)) == torch.float32
    for _ in range(2):  # sharded, then gathered
        found = sharded_parameters(decoder)
        assert {p.name: p.shape for p in found} == {name: p.shape for name, p in whole.items()}
        for parameter in found:
            assert parameter.dtype == dtype and parameter.shard.dtype == torch.float32
            assert torch.equal(parameter.shard, whole[parameter.name].flatten())
            assert parameter.shard.data_ptr() == parameters[parameter.name].to_local().data_ptr()
        gather_in_place(decoder)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_gathered_parameters_follow_the_shards_where_they_are(make_sharded, make_decoder, dtype):
    decoder, parameters = make_sharded(seed=1, dtype=dtype)
    keep_gathered(decoder)
    addresses = {}
    for seed in (1, 2, 3):
        for name, full in make_decoder(seed).named_parameters():
            copy_full(parameters[name], full)
        gathered = gather_in_place(decoder)
        assert set(gathered) == set(parameters)
        for name, full in make_decoder(seed).named_parameters():
            assert torch.equal(gathered[name], full.to(dtype)), name
            assert decoder.get_parameter(name) is gathered[name]
            assert gathered[name].requires_grad
        addresses = addresses or {name: tensor.data_ptr() for name, tensor in gathered.items()}
        assert addresses == {name: tensor.data_ptr() for name, tensor in gathered.items()}


def test_a_graph_over_weights_that_have_changed_is_refused(make_sharded):
    """Not silently a gradient of two different weights."""
    decoder, _ = make_sharded()
    keep_gathered(decoder)
    gather_in_place(decoder)
    ids = torch.arange(9)
    loss = decoder(ids, ids, packed_attention(torch.tensor([0, 9]), 9)).sum()
    gather_in_place(decoder)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_parameters_are_not_gathered_in_inference_mode(make_sharded):
    decoder, _ = make_sharded()
    with torch.inference_mode(), pytest.raises(AssertionError, match="inference mode"):
        gather_in_place(decoder)


def test_the_head_s_gradient_is_kept_in_fp32_under_bf16_alone(make_sharded):
    for dtype, kept in ((torch.bfloat16, True), (torch.float32, False)):
        decoder, _ = make_sharded(dtype=dtype)
        gather_in_place(decoder)
        gradient = head_gradient(decoder)
        assert (gradient is not None) is kept
        if gradient is not None:
            assert (gradient.dtype, gradient.shape) == (torch.float32, decoder.head_weight.shape)
            assert head_gradient(decoder) is gradient


@pytest.mark.slow
def test_two_ranks_train_bit_for_bit_alike_when_nothing_is_freed(run_ranks):
    run_ranks(__file__, 2)


def _sharded(world, tied, dtype, reshard):
    config = ModelConfig(
        model_type="qwen2", vocab_size=61, hidden_size=32, intermediate_size=48, num_layers=2, num_heads=4,
        num_kv_heads=2, head_dim=8, max_positions=128, rms_norm_eps=1e-6, rope=RopeConfig(1000.0),
        qkv_bias=True, qk_norm=False, tie_word_embeddings=tied, dtype=torch.float32,
    )  # fmt: skip
    whole = Decoder(config)
    whole.init_weights(torch.Generator().manual_seed(0), std=0.2)
    with torch.device("meta"):
        decoder = Decoder(config)
    parameters = shard_decoder(decoder, world, compute_dtype=dtype, reshard_after_forward=reshard)
    for name, full in whole.named_parameters():
        copy_full(parameters[name], full)
    return decoder, parameters


def _train(world, tied, dtype, keep, shard_gradients=False):
    """Three updates of several micro-batches, scoring in between; returns what was seen, and the weights."""
    decoder, parameters = _sharded(world, tied, dtype, reshard=not keep)
    how = {"keep_gathered": keep, "shard_gradients": shard_gradients}
    trainer = Trainer(decoder, parameters, world, Optim(lr=0.05, eps=1e-3), 10, **how)
    shares = pack(SEQUENCES, 24, world.size)
    batches = [micro_batch(share, world.device) for share in shares[world.rank]]
    assert len(batches) > 1
    seen, addresses = [], {}
    for step in range(3):
        update = trainer.update(batches, likelihood_head, step)
        seen.append((update.loss, update.grad_norm, [trainer.score(batch, 1.0).tolist() for batch in batches]))
        assert update.applied
        if keep:
            # without a gather: what the update has left behind
            gathered = dict(decoder.named_parameters())
            assert not any(isinstance(p, torch.distributed.tensor.DTensor) for p in gathered.values())
            addresses = addresses or {name: p.data_ptr() for name, p in gathered.items()}
            assert addresses == {name: p.data_ptr() for name, p in gathered.items()}
            for name, parameter in parameters.items():
                assert torch.equal(gathered[name], parameter.full_tensor().to(dtype)), (step, name)
                assert parameter.grad is None and gathered[name].grad is None
    return seen, {name: p.full_tensor() for name, p in parameters.items()}


def _worker() -> None:
    world = init_world(60)
    for dtype in (torch.float32, torch.bfloat16):
        for tied in (True, False):
            (freed, freed_weights), (kept, kept_weights) = (_train(world, tied, dtype, keep) for keep in (False, True))
            assert freed == kept, (dtype, tied, freed, kept)
            assert all(torch.equal(kept_weights[name], weight) for name, weight in freed_weights.items())
            losses = [loss for loss, _, _ in kept]
            assert len(set(losses)) == 3, losses
            summed, _ = _train(world, tied, dtype, keep=False, shard_gradients=True)
            assert summed[0][0] == kept[0][0]
            assert summed[0][1] == pytest.approx(kept[0][1], rel=1e-5 if dtype == torch.float32 else 1e-2)

    decoder, _ = _sharded(world, False, torch.bfloat16, reshard=True)
    for parameter in sharded_parameters(decoder):
        rows = -(-parameter.shape[0] // 2)  # 61 rows are 31 and 30, filled up
        assert parameter.shard.numel() == rows * parameter.shape[1:].numel()
        assert parameter.shard.storage_offset() == 0 and dist.get_world_size(parameter.group) == 2
    world.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    _worker()
