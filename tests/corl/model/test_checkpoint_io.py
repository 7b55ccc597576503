import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from corl.model.attention import packed_attention
from corl.model.checkpoint_io import export_model, load_model

SIDE_FILES = {
    "tokenizer.json": b'{"a": "\xc3\xa9"}\r\n',
    "tokenizer_config.json": b"{}",
    "vocab.json": b"v",
    "merges.txt": b"m",
    "special_tokens_map.json": b"s",
    "added_tokens.json": b"t",
    "chat_template.jinja": b"{{ messages }}",
    "generation_config.json": b'{ "eos_token_id": [1, 2]}',
}


def tensors_of(path):
    return {name: tensor for file in path.glob("*.safetensors") for name, tensor in load_file(file).items()}


def assert_same_tensors(got, want):
    assert got.keys() == want.keys()
    for name, tensor in want.items():
        assert got[name].dtype == tensor.dtype and torch.equal(got[name], tensor), name


def rewrite(path, **changes):
    """Replace (or with None remove) tensors of a one-file checkpoint."""
    tensors = tensors_of(path) | changes
    kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    save_file(kept, path / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_untouched_model_comes_out_as_it_went_in(saved, kind, dtype, tmp_path):
    _, source = saved(kind, dtype)
    for name, content in SIDE_FILES.items():
        (source / name).write_bytes(content)
    (source / "pytorch_model.bin").write_bytes(b"weights")
    export_model(load_model(source).named_parameters(), source, tmp_path / "out")
    assert_same_tensors(tensors_of(tmp_path / "out"), tensors_of(source))
    assert {file.name for file in (tmp_path / "out").iterdir()} == {*SIDE_FILES, "config.json", "model.safetensors"}
    for name in (*SIDE_FILES, "config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (source / name).read_bytes(), name


def test_shards_in_and_out(saved, tmp_path):
    theirs, source = saved("qwen3", torch.bfloat16, shard="20KB")
    assert len(list(source.glob("*.safetensors"))) > 2
    model = load_model(source)
    export_model(model, source, tmp_path / "out", max_shard_bytes=15_000)
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    files = sorted((tmp_path / "out").glob("*.safetensors"))
    numbers = [f"{number:05d}-of-{len(files):05d}" for number in range(1, len(files) + 1)]
    assert [file.name for file in files] == [f"model-{number}.safetensors" for number in numbers]
    assert len(files) > 2 and index["metadata"]["total_size"] == sum(p.nbytes for p in model.parameters())
    for file in files:
        tensors = load_file(file)
        assert sum(tensor.nbytes for tensor in tensors.values()) <= 15_000
        assert all(index["weight_map"][name] == file.name for name in tensors)
    assert_same_tensors(tensors_of(tmp_path / "out"), tensors_of(source))
    assert_same_tensors(dict(load_model(tmp_path / "out").named_parameters()), dict(model.named_parameters()))


def test_transformers_loads_what_is_exported(saved, kind, tmp_path):
    from transformers import AutoModelForCausalLM

    _, source = saved(kind)
    model = load_model(source)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    export_model(model.named_parameters(), source, tmp_path / "out")
    theirs, report = AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), report
    ids = torch.arange(20)
    with torch.no_grad():
        attend = packed_attention(torch.tensor([0, 20]), 20)
        got = model(ids, ids, attend, head=lambda hidden, weight: hidden @ weight.T)
        torch.testing.assert_close(got, theirs(ids[None]).logits[0], rtol=0, atol=1e-3)


@pytest.mark.parametrize("stored", [True, False])
def test_tied_head_is_stored_as_in_the_source(saved, tmp_path, stored):
    _, source = saved("qwen2_tied")
    embedding = tensors_of(source)["model.embed_tokens.weight"]
    if stored:
        rewrite(source, **{"lm_head.weight": embedding.clone()})
    export_model(load_model(source), source, tmp_path / "out")
    assert ("lm_head.weight" in tensors_of(tmp_path / "out")) is stored
    assert_same_tensors(tensors_of(tmp_path / "out"), tensors_of(source))


@pytest.mark.parametrize("keys", [("torch_dtype",), ("dtype",), ()])
def test_compute_dtype_goes_into_tensors_and_config(saved, tmp_path, keys):
    _, source = saved("qwen3")
    raw = json.loads((source / "config.json").read_text())
    raw.pop("dtype", None)
    raw |= dict.fromkeys(keys, "float32")
    raw["note"] = "\u00e9"
    (source / "config.json").write_text(json.dumps(raw))
    export_model(load_model(source), source, tmp_path / "out", dtype=torch.bfloat16)
    want = {name: tensor.bfloat16() for name, tensor in tensors_of(source).items()}
    assert_same_tensors(tensors_of(tmp_path / "out"), want)
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert list(written)[: len(raw)] == list(raw)
    assert written == raw | dict.fromkeys(keys or ("torch_dtype",), "bfloat16")


def test_source_without_weights_serves_a_fresh_model(saved, tmp_path):
    _, source = saved("qwen2_tied")
    model = load_model(source)
    (source / "model.safetensors").unlink()
    export_model(model, source, tmp_path / "out")
    assert_same_tensors(dict(load_model(tmp_path / "out").named_parameters()), dict(model.named_parameters()))


def test_parameters_are_taken_one_shard_at_a_time(saved, tmp_path):
    _, source = saved("llama3")
    shards_seen = []

    def parameters():
        for item in load_model(source).named_parameters():
            shards_seen.append(len(list((tmp_path / ".out.partial").glob("shard-*"))))
            yield item

    export_model(parameters(), source, tmp_path / "out", max_shard_bytes=20_000)
    assert shards_seen == sorted(shards_seen) and shards_seen[-1] >= 3


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda pairs: pairs[:-1], "1 parameters are missing, the first is lm_head.weight"),
        (lambda pairs: [*pairs, ("lm_head.bias", torch.ones(97))], "lm_head.bias is unknown or came twice"),
        (lambda pairs: [*pairs, pairs[0]], "embed_tokens.weight is unknown or came twice"),
        (lambda pairs: [("norm.weight", torch.ones(31)), *pairs], r"norm.weight has shape \[31\]"),
    ],
)
def test_failed_export_leaves_nothing(saved, tmp_path, change, named):
    _, source = saved("qwen2")
    pairs = list(load_model(source).named_parameters())
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match=named):
        export_model(change(pairs), source, tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == before


def test_export_never_overwrites(saved, tmp_path):
    _, source = saved("qwen2")
    model = load_model(source)
    out = tmp_path / "out"
    out.mkdir()
    export_model(model, source, out)
    before = tensors_of(out)
    with pytest.raises(ValueError, match="not an empty directory"):
        export_model(model, source, out)
    with pytest.raises(ValueError, match="not an empty directory"):
        export_model(model, source, out / "config.json")
    assert_same_tensors(tensors_of(out), before)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model.layers.1.mlp.up_proj.weight": None}, "1 of 27 tensors are missing .*layers.1.mlp.up_proj.weight"),
        ({"model.layers.0.mlp.up_proj.bias": torch.ones(48)}, "tensor model.layers.0.mlp.up_proj.bias is unexpected"),
        ({"model.norm.weight": torch.ones(31)}, r"tensor model.norm.weight has shape \[31\], .* \[32\]"),
        ({"model.norm.weight": torch.ones(32).half()}, "stored as .*float16.*dtype="),
    ],
)
def test_wrong_tensors_are_named(saved, changes, named):
    _, source = saved("qwen2")
    rewrite(source, **changes)
    with pytest.raises(ValueError, match=named) as refusal:
        load_model(source)
    assert str(source) in str(refusal.value)


def test_tied_head_with_other_values_is_refused(saved):
    _, source = saved("qwen2_tied")
    rewrite(source, **{"lm_head.weight": torch.ones(97, 32)})
    with pytest.raises(ValueError, match=r"model.safetensors: tensor lm_head.weight differs"):
        load_model(source)


def test_mixed_dtypes_load_where_one_is_chosen(saved):
    theirs, source = saved("qwen2")
    rewrite(source, **{"model.norm.weight": theirs.model.norm.weight.detach().bfloat16()})
    model = load_model(source, dtype=torch.float32)
    assert {parameter.dtype for parameter in model.parameters()} == {model.config.dtype} == {torch.float32}
