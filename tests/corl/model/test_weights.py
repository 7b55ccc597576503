import pytest
import torch
from safetensors.torch import save_file

from corl.model.checkpoint_io import load_model
from corl.model.weights import iter_hf_tensors, stored_tensors


def test_names_are_those_of_transformers(saved, kind):
    theirs, path = saved(kind)
    model = load_model(path)
    ours = dict(iter_hf_tensors(model.named_parameters(), model.config))
    assert {name: tensor.shape for name, tensor in ours.items()} == {
        name: parameter.shape for name, parameter in theirs.named_parameters()
    }


def test_fused_rows_are_split_in_order_as_views(saved):
    model = load_model(saved("qwen2")[1])
    attention, mlp = model.layers[1].self_attn, model.layers[1].mlp
    ours = dict(iter_hf_tensors(model.named_parameters(), model.config))
    parts = [ours[f"model.layers.1.self_attn.{part}_proj.bias"] for part in "qkv"]
    assert [len(part) for part in parts] == [32, 16, 16]
    assert torch.equal(torch.cat(parts), attention.qkv_proj.bias)
    parts = [ours[f"model.layers.1.mlp.{part}_proj.weight"] for part in ("gate", "up")]
    assert torch.equal(torch.cat(parts), mlp.gate_up_proj.weight)
    assert parts[0].data_ptr() == mlp.gate_up_proj.weight.data_ptr() and not parts[0].requires_grad


def test_headers_of_every_shard(saved):
    theirs, path = saved("llama3", torch.bfloat16, shard="20KB")
    stored = stored_tensors(path)
    assert len({tensor.file for tensor in stored.values()}) > 2
    assert stored.keys() == dict(theirs.named_parameters()).keys()
    assert stored["lm_head.weight"].shape == (97, 32) and stored["lm_head.weight"].dtype == torch.bfloat16


def test_torch_pickles_alone_are_refused(tmp_path):
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"neither model.safetensors nor .*save_pretrained"):
        stored_tensors(tmp_path)


def test_missing_damaged_and_contradictory_shards_are_named(saved):
    _, path = saved("llama3", shard="20KB")
    shards = sorted(path.glob("*.safetensors"))
    content = shards[0].read_bytes()
    shards[0].write_bytes(content[:-10])
    with pytest.raises(ValueError, match=f"{shards[0].name}: not a readable"):
        stored_tensors(path)
    shards[0].write_bytes(content)
    save_file({"model.norm.weight": torch.ones(32)}, shards[1])
    with pytest.raises(ValueError, match=r"safetensors: tensor model\.\S+ is (missing|also in)"):
        stored_tensors(path)
    shards[1].unlink()
    with pytest.raises(ValueError, match=f"{shards[1].name}: missing"):
        stored_tensors(path)


def test_integer_tensors_are_refused(tmp_path):
    save_file({"model.norm.weight": torch.ones(4, dtype=torch.int8)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"model.safetensors: tensor model.norm.weight has dtype I8"):
        stored_tensors(tmp_path)
