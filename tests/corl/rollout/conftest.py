"""Tiny models with random weights, large enough that every prompt has a completion of its own."""

import pytest
import torch

from corl.model.config import ModelConfig
from corl.model.decoder import Decoder
from corl.model.rope import RopeConfig


@pytest.fixture(scope="session")
def make_decoder():
    def make(seed=0, dtype=torch.float32, max_positions=128):
        config = ModelConfig(
            model_type="qwen2", vocab_size=61, hidden_size=32, intermediate_size=48, num_layers=2, num_heads=4,
            num_kv_heads=2, head_dim=8, max_positions=max_positions, rms_norm_eps=1e-6, rope=RopeConfig(1000.0),
            qkv_bias=True, qk_norm=False, tie_word_embeddings=True, dtype=dtype,
        )  # fmt: skip
        model = Decoder(config)
        model.init_weights(torch.Generator().manual_seed(seed), std=0.2)
        return model

    return make


@pytest.fixture(scope="session")
def decoder(make_decoder):
    return make_decoder()
