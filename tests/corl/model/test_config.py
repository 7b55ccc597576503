import json

import pytest
import torch

from corl.model.config import ModelConfig
from corl.model.rope import RopeConfig

OLD = {
    "model_type": "qwen2",
    "vocab_size": 151936,
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "use_sliding_window": False,
    "sliding_window": 32768,
    "max_window_layers": 21,
}
NEW = {key: value for key, value in OLD.items() if key not in ("rope_theta", "torch_dtype")} | {
    "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
    "dtype": "bfloat16",
    "layer_types": ["full_attention"] * 24,
}
LLAMA3 = {
    "factor": 32.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}


def read(tmp_path, raw):
    (tmp_path / "config.json").write_text(json.dumps(raw))
    return ModelConfig.from_directory(tmp_path)


def test_both_layouts_mean_the_same(tmp_path):
    old, new = read(tmp_path, OLD), read(tmp_path, NEW)
    assert old == new
    assert old == ModelConfig(
        "qwen2", 151936, 896, 4864, 24, 14, 2, 64, 32768, 1e-6, RopeConfig(1e6), True, False, True, torch.bfloat16
    )


@pytest.mark.parametrize(
    ("changes", "want"),
    [
        ({"rope_scaling": {"type": "linear", "factor": 4}}, RopeConfig(1e6, "linear", 4.0)),
        ({"rope_scaling": LLAMA3}, RopeConfig(1e6, "llama3", 32.0, 1.0, 4.0, 8192)),
        ({"rope_theta": None, "rope_parameters": LLAMA3 | {"rope_theta": 5}}, RopeConfig(5.0, "llama3", 32.0)),
        ({"rope_scaling": None}, RopeConfig(1e6)),
    ],
)
def test_rope_in_both_layouts(tmp_path, changes, want):
    assert read(tmp_path, OLD | changes).rope == want


def test_families_differ_where_their_papers_say(tmp_path):
    qwen3 = read(tmp_path, OLD | {"model_type": "qwen3", "head_dim": 128, "attention_bias": False})
    assert (qwen3.qkv_bias, qwen3.qk_norm, qwen3.head_dim) == (False, True, 128)
    bare = {key: value for key, value in OLD.items() if key not in ("num_key_value_heads", "torch_dtype")}
    llama = read(tmp_path, bare | {"model_type": "llama", "mlp_bias": False, "tie_word_embeddings": False})
    assert (llama.qkv_bias, llama.qk_norm, llama.num_kv_heads, llama.head_dim) == (False, False, 14, 64)
    assert llama.dtype == torch.float32 and not llama.tie_word_embeddings


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model_type": "mistral"}, "model_type='mistral'"),
        ({"use_sliding_window": True}, "use_sliding_window=True"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "sliding_attention"),
        ({"model_type": "llama", "attention_bias": True}, "attention_bias=True"),
        ({"model_type": "llama", "mlp_bias": True}, "mlp_bias=True"),
        ({"model_type": "qwen3", "head_dim": 64, "attention_bias": True}, "attention_bias=True"),
        ({"model_type": "qwen3"}, "head_dim is missing"),
        ({"hidden_act": "gelu"}, "hidden_act='gelu'"),
        ({"attention_dropout": 0.1}, "attention_dropout=0.1"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"rope_theta": None}, "rope_theta is missing"),
        ({"rope_theta": None, "rope_parameters": {"rope_type": "default"}}, "rope_theta is missing"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 5.0}}, "two values"),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, "rope_type='yarn'"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 4.0}}, "rope_type='dynamic'"),
        ({"rope_scaling": {"rope_type": "linear"}}, "rope_scaling.factor is missing"),
        ({"rope_scaling": LLAMA3 | {"low_freq_factor": 4.0}}, "low_freq_factor=4.0"),
        ({"rope_scaling": LLAMA3, "rope_parameters": {"rope_type": "default"}}, "disagree"),
        ({"rope_parameters": {"full_attention": {"rope_type": "default"}}}, "per-layer rope"),
        ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "partial_rotary_factor=0.5"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5"),
        ({"torch_dtype": "float8_e4m3fn"}, "torch_dtype='float8_e4m3fn'"),
        ({"vocab_size": "many"}, "vocab_size='many'"),
        ({"hidden_size": 896.5}, "hidden_size=896.5"),
        ({"hidden_size": 900}, "hidden_size=900"),
        ({"num_hidden_layers": True}, "num_hidden_layers=True"),
        ({"num_key_value_heads": 4}, "num_key_value_heads=4"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings='yes'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_implemented_is_refused_by_name(tmp_path, changes, named):
    with pytest.raises(ValueError) as refusal:
        read(tmp_path, OLD | changes)
    assert named in str(refusal.value)
    assert str(tmp_path / "config.json") in str(refusal.value)


@pytest.mark.parametrize("key", ["vocab_size", "rms_norm_eps", "num_key_value_heads", "max_position_embeddings"])
def test_missing_keys_are_errors_not_defaults(tmp_path, key):
    with pytest.raises(ValueError, match=f"{key} is missing"):
        read(tmp_path, {name: value for name, value in OLD.items() if name != key})


@pytest.mark.parametrize("text", [None, "{", "[]"])
def test_unreadable_file_is_named(tmp_path, text):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match="config.json"):
        ModelConfig.from_directory(tmp_path)
