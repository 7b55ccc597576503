"""Greedy output is transformers' `generate`, token for token, on ragged prompts, forked and preempted."""

import random

import pytest
import torch

from corl.model.checkpoint_io import load_model
from corl.rollout.engine import Engine
from corl.rollout.request import Request

VOCAB, TOKENS, FAMILIES = 211, 12, ("qwen2", "qwen3", "llama")
RANDOM = random.Random(0)
PROMPTS = [[RANDOM.randrange(VOCAB) for _ in range(RANDOM.randrange(1, 41))] for _ in range(64)]
ROOMY = {"max_seqs": 256, "kv_tokens": 16384, "page_size": 16}
TIGHT = {"max_seqs": 24, "kv_tokens": 144, "page_size": 2}  # the longest sample takes 52 of them


@pytest.fixture(scope="module", params=FAMILIES)
def model_and_reference(request, tmp_path_factory):
    """Our model and what transformers generates from the same files, a row for each prompt."""
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    torch.manual_seed(0)
    config = AutoConfig.for_model(
        request.param, vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, max_position_embeddings=128, initializer_range=0.2,
        dtype="float32", bos_token_id=None, eos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    reference = AutoModelForCausalLM.from_config(config).eval()
    folder = tmp_path_factory.mktemp(request.param)
    reference.save_pretrained(folder)
    settings = GenerationConfig(do_sample=False, max_new_tokens=TOKENS, eos_token_id=None, pad_token_id=0)
    rows = []
    for prompt in PROMPTS:
        ids = torch.tensor([prompt])
        # without a mask, generate takes prompt tokens that are also the pad token for padding
        out = reference.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)
        rows.append(out[0, len(prompt) :].tolist())
    assert len({tuple(row) for row in rows}) > 40
    return load_model(folder), rows


@pytest.mark.parametrize("n", [1, 3], ids=["alone", "forked"])
@pytest.mark.parametrize("cache", [ROOMY, TIGHT], ids=["roomy", "tight"])
def test_greedy_output_is_transformers_generate(model_and_reference, cache, n):
    model, rows = model_and_reference
    engine = Engine(model, **cache)
    requests = [Request(prompt, n=n, max_tokens=TOKENS, temperature=0.0) for prompt in PROMPTS]
    completions = engine.generate(requests)
    assert (engine.last_stats.preemptions > 0) == (cache is TIGHT)
    assert [c.ids for c in completions] == [row for row in rows for _ in range(n)]
