"""One rank in this process; two ranks in processes that run this file as a script."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from corl.checkpoint import load_tensors, save_checkpoint
from corl.config import Optim
from corl.model.config import ModelConfig
from corl.model.decoder import Decoder
from corl.model.rope import RopeConfig
from corl.parallel import World, check_devices, copy_full, fingerprint, init_world, iter_full, local_rows, shard_decoder
from corl.training.batch import TrainSequence, micro_batch, pack
from corl.training.sft import likelihood_head
from corl.training.trainer import Trainer

CONFIG = ModelConfig(
    model_type="qwen2", vocab_size=61, hidden_size=32, intermediate_size=48, num_layers=2, num_heads=4,
    num_kv_heads=2, head_dim=8, max_positions=128, rms_norm_eps=1e-6, rope=RopeConfig(1000.0),
    qkv_bias=True, qk_norm=False, tie_word_embeddings=True, dtype=torch.float32,
)  # fmt: skip
SEQUENCES = [TrainSequence(f"s{k}", [(11 * k + j) % 61 for j in range(5 + k)], 2, 0.01, k - 2.5) for k in range(7)]
# An eps of 1 makes the first AdamW step a smooth function of the gradient: a mean over ranks would show.
OPTIM = Optim(lr=0.5, eps=1.0, max_grad_norm=1e9)


def sharded(world: World, *, reshard_after_forward: bool = True):
    whole = Decoder(CONFIG)
    whole.init_weights(torch.Generator().manual_seed(0), std=0.2)
    with torch.device("meta"):
        decoder = Decoder(CONFIG)
    parameters = shard_decoder(decoder, world, compute_dtype=torch.float32, reshard_after_forward=reshard_after_forward)
    for name, full in whole.named_parameters():
        copy_full(parameters[name], full)
    return decoder, parameters


def one_update(world: World, **keywords):
    decoder, parameters = sharded(world, **keywords)
    shares = pack(SEQUENCES, 24, world.size)
    batches = [micro_batch(share, world.device) for share in shares[world.rank]]
    return Trainer(decoder, parameters, world, OPTIM, 1).update(batches, likelihood_head, 0), parameters


@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("rows", [1, 2, 7, 8, 61, 64])
def test_local_rows_are_the_shards_of_a_split_along_dimension_0(rows, size):
    pieces = torch.arange(rows).chunk(size)
    for rank in range(size):
        mesh = SimpleNamespace(get_local_rank=lambda rank=rank: rank, size=lambda: size)
        first, count = local_rows(SimpleNamespace(device_mesh=mesh, shape=(rows, 3)))
        assert list(range(first, first + count)) == (pieces[rank].tolist() if rank < len(pieces) else [])


def test_full_tensors_go_in_and_come_out(world):
    _, parameters = sharded(world)
    full = {name: torch.randn(p.shape, generator=torch.Generator().manual_seed(k)) for k, (name, p) in
            enumerate(parameters.items())}  # fmt: skip
    for name, tensor in full.items():
        copy_full(parameters[name], tensor.double())
    found = dict(iter_full(parameters, torch.float32))
    assert list(found) == list(parameters)
    assert all(torch.equal(found[name], tensor) for name, tensor in full.items())
    for name, tensor in iter_full(parameters, torch.bfloat16):
        assert torch.equal(tensor, full[name].bfloat16())
    assert all(p.dtype == torch.float32 and p.requires_grad for p in parameters.values())


def test_a_fingerprint_shows_every_bit(world):
    _, parameters = sharded(world)
    before = fingerprint(parameters, world)
    assert fingerprint(sharded(world)[1], world) == before
    assert len(before) == 16
    seen = {before}
    for name in ("embed_tokens.weight", "layers.1.self_attn.qkv_proj.bias", "norm.weight"):
        flat = parameters[name].to_local().detach().view(-1)
        bits = flat.view(torch.int32)
        for index in (0, len(bits) - 1):
            for bit in (0, 22, 31):  # lowest of the mantissa, highest of it, sign
                bits[index] ^= 1 << bit if bit < 31 else -(2**31)
                seen.add(fingerprint(parameters, world))
                bits[index] ^= 1 << bit if bit < 31 else -(2**31)
        if not torch.equal(flat[0], flat[-1]):
            flat[0], flat[-1] = flat[-1].clone(), flat[0].clone()
            seen.add(fingerprint(parameters, world))
            flat[0], flat[-1] = flat[-1].clone(), flat[0].clone()
    assert fingerprint(parameters, world) == before
    assert len(seen) >= 1 + 3 * 6 + 1
    renamed = {f"{name}_": p for name, p in parameters.items()}
    assert fingerprint(renamed, world) != before


def test_a_world_of_one_gathers_and_sums_itself(world):
    assert (world.rank, world.size, world.is_main) == (0, 1, True)
    assert world.gather({"a": 1}) == [{"a": 1}]
    assert world.sum([0.1, 2.0]) == [0.1, 2.0]
    world.barrier()


def test_gathered_weights_may_stay_through_the_backward(world):
    (freed, freed_parameters), (kept, kept_parameters) = (
        one_update(world, reshard_after_forward=reshard) for reshard in (True, False)
    )
    assert (freed.loss, freed.grad_norm) == (kept.loss, kept.grad_norm)
    assert fingerprint(freed_parameters, world) == fingerprint(kept_parameters, world)


@pytest.mark.slow
def test_two_ranks_sum_their_gradients_into_the_step_of_one(world, tmp_path, run_ranks):
    run_ranks(__file__, 2, str(tmp_path))

    found = [torch.load(tmp_path / f"rank_{rank}.pt") for rank in range(2)]
    _, start = sharded(world)
    update, parameters = one_update(world)
    whole = dict(iter_full(parameters, torch.float32))
    for rank, result in enumerate(found):
        assert result["start"] == fingerprint(start, world)
        assert result["loss"] == pytest.approx(update.loss, abs=1e-6)
        assert result["grad_norm"] == pytest.approx(update.grad_norm, rel=1e-6)
        assert result["rows"] == ((0, 31), (31, 30))[rank]
        assert result["gathered"] == [{"rank": 0}, {"rank": 1}]
        assert result["sum"] == [1.0, 2.5]
        for name, weight in whole.items():
            torch.testing.assert_close(result["weights"][name], weight, rtol=0, atol=1e-6)

    # Their checkpoint opens on any number of ranks.
    load_tensors(tmp_path / "step_000001_rl1", {f"model.{name}": p for name, p in start.items()})
    assert fingerprint(start, world) == found[0]["end"] == found[1]["end"]
    assert all(torch.equal(p.full_tensor(), found[0]["weights"][name]) for name, p in start.items())


def _worker(folder: Path) -> None:
    world = init_world(60)
    result = {"start": fingerprint(sharded(world)[1], world)}
    update, parameters = one_update(world)
    tensors = {f"model.{name}": p for name, p in parameters.items()}
    save_checkpoint(folder, "step_000001_rl1", tensors, {}, {}, world)
    result |= {
        "loss": update.loss,
        "grad_norm": update.grad_norm,
        "rows": local_rows(parameters["embed_tokens.weight"]),
        "gathered": world.gather({"rank": world.rank}),
        "sum": world.sum([float(world.rank), 1.25]),
        "weights": dict(iter_full(parameters, torch.float32)),
        "end": fingerprint(parameters, world),
    }
    torch.save(result, folder / f"rank_{world.rank}.pt")
    world.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    _worker(Path(sys.argv[1]))


@pytest.mark.parametrize(("ranks", "devices", "refused"), [(2, 1, True), (2, 0, False), (2, 2, False), (1, 1, False)])
def test_more_ranks_than_gpus_are_refused(monkeypatch, ranks, devices, refused):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(ranks))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
    if not refused:
        return check_devices()
    with pytest.raises(ValueError, match=r"2 ranks on 1 GPU\(s\); start fewer, or set CUDA_VISIBLE_DEVICES="):
        check_devices()
    return None
