from dataclasses import replace

import pytest
import torch
import torch.distributed as dist

from corl.model.attention import packed_attention
from corl.model.checkpoint_io import load_model
from corl.model.decoder import Decoder
from corl.model.weights import iter_hf_tensors


def pack(*lengths):
    """Random ids of sequences of these lengths, their positions and their attention."""
    generator = torch.Generator().manual_seed(sum(lengths))
    ids = torch.randint(0, 97, (sum(lengths),), generator=generator)
    positions = torch.cat([torch.arange(length) for length in lengths])
    return ids, positions, packed_attention(torch.tensor([0, *lengths]).cumsum(0), max(lengths))


def logits(hidden, weight):
    return hidden @ weight.T


def test_logits_are_those_of_transformers(saved, kind):
    theirs, path = saved(kind)
    model = load_model(path)
    ids, positions, attend = pack(100)
    with torch.no_grad():
        got, want = model(ids, positions, attend, head=logits), theirs(ids[None]).logits[0]
    assert want.std() > 0.5
    torch.testing.assert_close(got, want, rtol=0, atol=1e-4)
    torch.testing.assert_close(got.log_softmax(-1), want.log_softmax(-1), rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["qwen2", "qwen3"], indirect=True)
def test_bf16_is_as_close_to_fp32_as_transformers_in_bf16(saved, kind):
    theirs, path = saved(kind, torch.bfloat16)
    model, exact = load_model(path), load_model(path, dtype=torch.float32)
    assert model.config.dtype == model.head_weight.dtype == torch.bfloat16
    ids, positions, attend = pack(100)
    with torch.no_grad():
        truth = exact(ids, positions, attend, head=logits)
        got, want = model(ids, positions, attend, head=logits), theirs(ids[None]).logits[0]
    assert got.dtype == torch.bfloat16
    assert (got.float() - truth).abs().mean() <= 1.1 * (want.float() - truth).abs().mean()


def test_gradients_are_those_of_transformers(saved, kind):
    theirs, path = saved(kind)
    model = load_model(path)
    ids, positions, attend = pack(40)
    model(ids, positions, attend, head=logits)[:-1].log_softmax(-1).gather(1, ids[1:, None]).sum().backward()
    theirs(ids[None]).logits[0, :-1].log_softmax(-1).gather(1, ids[1:, None]).sum().backward()
    want = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    got = dict(iter_hf_tensors(((name, p.grad) for name, p in model.named_parameters()), model.config))
    assert got.keys() == want.keys()
    for name in want:
        torch.testing.assert_close(got[name], want[name], rtol=1e-3, atol=1e-3, msg=name)


def test_packing_changes_nothing(saved, kind):
    model = load_model(saved(kind)[1])
    lengths = (31, 1, 64, 7, 31, 90)
    ids, positions, attend = pack(*lengths)
    with torch.no_grad():
        together = model(ids, positions, attend)
        for sequence, got in zip(ids.split(lengths), together.split(lengths), strict=True):
            _, positions, attend = pack(len(sequence))
            torch.testing.assert_close(got, model(sequence, positions, attend), rtol=0, atol=2e-6)


def test_run_is_forward_without_hooks(saved):
    model = load_model(saved("qwen3")[1])
    calls = []
    for module in (model, model.embed_tokens, model.layers[0], model.norm):
        module.register_forward_hook(lambda *_: calls.append(1))
    arguments = pack(9, 4)
    assert torch.equal(model.run(*arguments), model.forward(*arguments))
    assert len(calls) == 3
    calls.clear()
    model.run(*arguments)
    assert not calls


def test_activation_checkpointing_keeps_less_and_changes_nothing(saved):
    model = load_model(saved("qwen3")[1])
    arguments = pack(30, 12)
    grads, kept = [], []
    for enabled in (False, True):
        model.set_activation_checkpointing(enabled)
        saved_bytes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: saved_bytes.append(t.nbytes) or t, lambda t: t):  # noqa: B023
            loss = model(*arguments, head=logits).square().mean()
        grads.append(torch.autograd.grad(loss, list(model.parameters())))
        kept.append(sum(saved_bytes))
    assert kept[1] < 0.5 * kept[0]
    assert all(torch.equal(*pair) for pair in zip(*grads, strict=True))


def test_init_weights_is_reproducible_and_scaled(saved):
    config = replace(load_model(saved("qwen2_tied")[1]).config, hidden_size=128, dtype=torch.bfloat16)
    first, second = Decoder(config), Decoder(config)
    for model in (first, second):
        model.init_weights(torch.Generator().manual_seed(3), std=0.05)
    for (name, a), b in zip(first.named_parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b) and a.dtype == torch.bfloat16, name
        if a.ndim == 2:
            assert abs(a.float().std().item() - 0.05) < 0.003, name
        else:
            assert (a == (0 if name.endswith("bias") else 1)).all(), name


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("kind", ["qwen2_tied", "qwen3"], indirect=True)
def test_fully_sharded_gives_the_same_losses_and_gradients(saved, kind, recompute, tmp_path):
    from torch.distributed.fsdp import fully_shard

    path = saved(kind)[1]
    plain, sharded = load_model(path), load_model(path)
    sharded.set_activation_checkpointing(recompute)
    arguments = pack(20, 33)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        mesh = dist.init_device_mesh("cpu", (1,))
        for layer in sharded.layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(sharded, mesh=mesh)
        losses = [model(*arguments, head=lambda h, w: logits(h, w).square().mean()) for model in (plain, sharded)]
        for loss in losses:
            loss.backward()
        torch.testing.assert_close(losses[0], losses[1], rtol=0, atol=0)
        for (name, want), got in zip(plain.named_parameters(), sharded.parameters(), strict=True):
            torch.testing.assert_close(got.grad.full_tensor(), want.grad, rtol=0, atol=0, msg=name)
        for module in (sharded, *sharded.layers):
            module.unshard()
        with torch.no_grad():
            assert torch.equal(sharded.run(*arguments), plain.run(*arguments))
    finally:
        dist.destroy_process_group()


def test_layers_hand_on_one_tensor_where_they_are_recomputed(saved):
    """Checkpointing keeps what goes into a layer: the stream in two parts would be twice the memory."""
    model, parts = load_model(saved("qwen3")[1]), []
    for layer in model.layers:
        layer.register_forward_pre_hook(lambda _, args: parts.append([x is not None for x in args[:2]]))
    for enabled in (False, True):
        model.set_activation_checkpointing(enabled)
        model(*pack(30, 12), head=logits)
    with torch.no_grad():
        model(*pack(30, 12), head=logits)
    assert parts == [[True, False], [True, True], [True, False], [True, False], [True, False], [True, True]]
