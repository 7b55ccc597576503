"""Tiny random checkpoints of every supported kind, as transformers makes and saves them."""

import pytest
import torch

SHAPE = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}
DEFAULT = {"rope_type": "default", "rope_theta": 1000000.0}
KINDS = {
    "qwen2_tied": ("qwen2", {"tie_word_embeddings": True, "rope_parameters": DEFAULT}),
    "qwen2": ("qwen2", {"tie_word_embeddings": False, "rope_parameters": DEFAULT}),
    "qwen3": ("qwen3", {"tie_word_embeddings": False, "head_dim": 24, "rope_parameters": DEFAULT}),
    "llama3": ("llama", {"tie_word_embeddings": False, "rope_parameters": LLAMA3}),
    "llama_linear": ("llama", {"tie_word_embeddings": True, "rope_parameters": LINEAR}),
}


@pytest.fixture(params=KINDS)
def kind(request) -> str:
    return request.param


@pytest.fixture
def make_hf():
    """make_hf(kind, dtype, **changes): a transformers model whose weights are large enough for errors to show."""

    def make(kind: str, dtype: torch.dtype = torch.float32, **changes):
        import transformers

        model_type, keys = KINDS[kind]
        config = transformers.AutoConfig.for_model(model_type, **SHAPE | keys | changes)
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.normal_(1.0 if "norm" in name else 0.0, 0.2)
        return model.to(dtype).eval()

    return make


@pytest.fixture
def saved(make_hf, tmp_path):
    """saved(kind, dtype, shard=None, **changes): (transformers model, the directory that holds it)."""

    def save(kind: str, dtype: torch.dtype = torch.float32, shard: str = "1GB", **changes):
        model = make_hf(kind, dtype, **changes)
        path = tmp_path / kind
        model.save_pretrained(path, max_shard_size=shard)
        return model, path

    return save
