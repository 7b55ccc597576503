"""What the default cache of a GPU leaves to others, with the numbers of a 7B worked out by hand."""

from types import SimpleNamespace

import pytest
import torch

from corl.config import RL, Mine, Mix, Objective, Optim
from corl.model.config import ModelConfig
from corl.model.decoder import Decoder
from corl.model.rope import RopeConfig
from corl.pipeline import training_bytes
from corl.rollout import engine as engine_module
from corl.rollout.decode_memory import decode_bytes
from corl.rollout.engine import Engine

QWEN_7B = ModelConfig(
    model_type="qwen2", vocab_size=152_064, hidden_size=3584, intermediate_size=18_944, num_layers=28, num_heads=28,
    num_kv_heads=4, head_dim=128, max_positions=32_768, rms_norm_eps=1e-6, rope=RopeConfig(1e6), qkv_bias=True,
    qk_norm=False, tie_word_embeddings=False, dtype=torch.bfloat16,
)  # fmt: skip
PARAMETERS = 7_615_616_512
# 64 splits of 512 positions x 256 rows x 28 heads x (128 channels + 2 numbers) x 4 bytes, twice
ATTENTION = 2 * 238_551_040
LOGITS = 155_713_536  # 256 rows x 152,064 tokens x 4 bytes


@pytest.fixture(scope="module")
def model():
    with torch.device("meta"):
        return Decoder(QWEN_7B)


def config(*kl_coefs):
    """As many RL stages, after one of another kind."""
    rest = {"optim": Optim(lr=1.0), "mix": Mix(by="uniform"), "max_steps": 1}
    stages = {f"rl{i}": RL(objective=Objective(kl_coef=kl_coef), **rest) for i, kl_coef in enumerate(kl_coefs, 1)}
    return SimpleNamespace(stages=["mine", *stages], mine=Mine(), **stages)


def test_decode_bytes_of_a_7b():
    sizes = {"vocab_size": 152_064, "max_seqs": 256}
    assert decode_bytes(QWEN_7B, **sizes, exact=False) == ATTENTION + 3 * LOGITS == 944_242_688
    assert decode_bytes(QWEN_7B, **sizes, exact=True) == ATTENTION + 5 * LOGITS == 1_255_669_760


def test_training_bytes_of_a_7b_on_one_gpu(model):
    shards = {name: SimpleNamespace(to_local=lambda p=p: p) for name, p in model.named_parameters()}
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS
    assert training_bytes(shards, config(0.0, 0.0)) == 8 * PARAMETERS
    assert training_bytes(shards, config(0.0, 1e-3)) == 12 * PARAMETERS


def test_the_cache_leaves_room_for_decoding_and_training(model, monkeypatch):
    """The 119 GB that the master weights leave on one H200, of which a token of the cache takes 57,344 bytes."""
    monkeypatch.setattr(engine_module, "_free_bytes", lambda device: 119 * 10**9)
    alone, training = (Engine(model, reserved_bytes=n * PARAMETERS, page_size=1).kv_tokens for n in (0, 12))
    assert alone == int(0.8 * (119 * 10**9 - 944_242_688)) // 57_344 == 1_646_983
    assert training == int(0.8 * (119 * 10**9 - 944_242_688 - 12 * PARAMETERS)) // 57_344 == 372_047
