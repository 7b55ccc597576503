"""One rank in this process; four ranks in processes that run this file as a script."""

from dataclasses import replace

import pytest
import torch
import torch.distributed as dist

import corl.rollout.arena
from corl.model.config import ModelConfig
from corl.model.decoder import Decoder
from corl.model.rope import RopeConfig
from corl.parallel import copy_full, init_world, shard_decoder
from corl.rollout.arena import ALIGNMENT, ArenaWeights
from corl.rollout.tensor_parallel import tensor_parallel_group
from corl_kernels import vocabulary_slice

CPU = torch.device("cpu")
# Over four ranks FSDP2 cuts 300 rows into 75 each, 30 into 8, 8, 8 and 6, and 6 into 2, 2, 2 and none; a vocabulary of
# 300 is 128, 128, 44 and none where it is sliced for rollout, and one of 61 is all on the first rank.
QWEN2 = ModelConfig(
    model_type="qwen2", vocab_size=61, hidden_size=30, intermediate_size=44, num_layers=2, num_heads=4,
    num_kv_heads=2, head_dim=6, max_positions=128, rms_norm_eps=1e-6, rope=RopeConfig(1000.0),
    qkv_bias=True, qk_norm=False, tie_word_embeddings=True, dtype=torch.float32,
)  # fmt: skip
QWEN3 = replace(QWEN2, model_type="qwen3", qkv_bias=False, qk_norm=True, tie_word_embeddings=False)


def whole(config, seed):
    decoder = Decoder(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.normal_(generator=generator)
    return decoder


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("config", [QWEN2, QWEN3], ids=["qwen2", "qwen3"])
def test_copies_stay_where_they_are_and_outlive_the_model(config, dtype):
    weights = ArenaWeights(config, dtype=dtype, device=CPU)
    assert not weights.current
    addresses = [parameter.data_ptr() for parameter in weights.decoder.parameters()]
    assert all((address - addresses[0]) % ALIGNMENT == 0 for address in addresses)
    assert len({parameter.untyped_storage().data_ptr() for parameter in weights.decoder.parameters()}) == 1
    for seed in (0, 1):
        model = whole(config, seed)
        moved = weights.refresh(model)
        assert weights.current
        assert moved == sum(p.numel() * dtype.itemsize for p in model.parameters())
        assert weights.decoder.config.dtype == dtype
        for parameter in model.parameters():
            parameter.data = parameter.data.clone()
        for name, copy in weights.decoder.named_parameters():
            assert copy.dtype == dtype and not copy.requires_grad
            assert torch.equal(copy, model.get_parameter(name).to(dtype)), name
        assert addresses == [parameter.data_ptr() for parameter in weights.decoder.parameters()]


def test_an_arena_made_in_inference_mode_is_refreshed_outside_of_it():
    with torch.inference_mode():
        weights = ArenaWeights(QWEN2, dtype=torch.float32, device=CPU)
    model = whole(QWEN2, 0)
    weights.refresh(model)
    weights.verify(model)


def test_released_copies_come_back_with_the_next_refresh_alone():
    model = whole(QWEN2, 0)
    weights = ArenaWeights(QWEN2, dtype=torch.float32, device=CPU)
    weights.refresh(model)
    hidden = torch.randn(3, QWEN2.hidden_size)
    logits = weights.logits(hidden)
    assert torch.equal(logits, hidden @ model.head_weight.T)
    for restore in (False, True):
        weights.release()
        weights.release()
        if restore:
            weights.restore()
        assert not weights.current
        with pytest.raises(AssertionError, match="released"):
            weights.logits(hidden)
        with pytest.raises(AssertionError, match="released"):
            weights.verify(model)
        weights.refresh(model)
        assert torch.equal(weights.logits(hidden), logits)
        weights.verify(model)


@pytest.mark.slow
def test_every_rank_has_its_slices_of_the_shards(run_ranks):
    run_ranks(__file__, 4)


def slice_of(name, full, rank, size):
    """The part of a full parameter that the rank must have, head by head and column by column."""
    heads, kv_heads, width = QWEN2.num_heads, QWEN2.num_kv_heads, QWEN2.head_dim
    if "qkv_proj" in name:
        by_head = full.unflatten(0, (heads + 2 * kv_heads, width))
        own = [h for h in range(heads) if h * size // heads == rank]
        keys = sorted({h * kv_heads // heads for h in own})
        return by_head[own + [heads + k for k in keys] + [heads + kv_heads + k for k in keys]].flatten(0, 1)
    if "gate_up_proj" in name:
        return torch.cat([half.chunk(size)[rank] for half in full.chunk(2)])
    if "o_proj" in name or "down_proj" in name:
        return full.chunk(size, dim=1)[rank]
    if "embed_tokens" in name or "lm_head" in name:
        first, count = vocabulary_slice(len(full), rank, size)
        return full[first : first + count]
    return full


def check_slices(weights, full, rank, size):
    seen = {name: p for name, p in weights.decoder.named_parameters()}
    assert set(seen) == set(full)
    for name, parameter in seen.items():
        wanted = slice_of(name, full[name].to(parameter.dtype), rank, size)
        assert torch.equal(parameter[: len(wanted)], wanted), (name, rank, size)
        assert len(parameter) == len(wanted) or "embed" in name or "lm_head" in name  # rows of no token


def check_alarm(weights, model, world):
    """One element that is wrong on one rank is named on all of them, along with that rank."""
    for culprit in (0, world.size - 1):
        for name in ("layers.1.self_attn.qkv_proj.weight", "layers.0.mlp.down_proj.weight", "norm.weight"):
            victim = weights.decoder.get_parameter(name)
            value = victim.flatten()[-1].clone()
            if world.rank == culprit:
                victim.view(-1)[-1] += 1
            with pytest.raises(RuntimeError, match=rf"the engine's {name} is not the trainer's on rank {culprit} "):
                weights.verify(model)
            victim.view(-1)[-1] = value
    weights.refresh(model)
    weights.verify(model)


def check_refreshes(model, parameters, weights, rank, size):
    # all of a parameter at a time, then a few rows of every shard at a time
    for seed, stage in ((1, 2**30), (2, 700)):
        corl.rollout.arena.STAGE_BYTES = stage
        full = dict(whole(model.config, seed).named_parameters())
        for name, parameter in full.items():
            copy_full(parameters[name], parameter)
        model.unshard()  # what a forward without a backward leaves behind, of other weights by now
        weights.refresh(model)
        check_slices(weights, full, rank, size)
        weights.release()
        weights.refresh(model)
        check_slices(weights, full, rank, size)
        weights.verify(model)
    plain = whole(model.config, 3)
    weights.refresh(plain)
    check_slices(weights, dict(plain.named_parameters()), rank, size)
    weights.refresh(model)


def worker() -> None:
    world = init_world(60)
    for config, dtype in ((replace(QWEN2, vocab_size=300), torch.bfloat16), (QWEN3, torch.float32)):
        with torch.device("meta"):
            model = Decoder(config)
        parameters = shard_decoder(model, world, compute_dtype=dtype, reshard_after_forward=True)
        for size in (1, 2, 4):
            parallel = tensor_parallel_group(world, size)
            rank = 0 if parallel is None else parallel.rank
            assert rank == world.rank % size
            weights = ArenaWeights(config, dtype=dtype, device=CPU, tensor_parallel=parallel)
            check_refreshes(model, parameters, weights, rank, size)
            check_alarm(weights, model, world)
    dist.destroy_process_group()


if __name__ == "__main__":
    worker()
