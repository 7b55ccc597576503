import pytest
import torch

from corl.model.rope import RopeConfig, inverse_frequencies, rope_tables
from corl_kernels.rotary import qk_norm_rope

CASES = {
    "default": (RopeConfig(1e6), {"rope_theta": 1e6}),
    "linear": (RopeConfig(1e4, "linear", 4.0), {"rope_theta": 1e4, "factor": 4.0}),
    "llama3": (
        RopeConfig(5e5, "llama3", 8.0, 1.0, 4.0, 8192),
        {
            "rope_theta": 5e5,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
    ),
}


@pytest.mark.parametrize("kind", CASES)
def test_tables_are_those_of_transformers(kind):
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    rope, parameters = CASES[kind]
    config = LlamaConfig(hidden_size=512, num_attention_heads=4, rope_parameters={"rope_type": kind, **parameters})
    theirs = LlamaRotaryEmbedding(config)
    torch.testing.assert_close(inverse_frequencies(rope, 128), theirs.inv_freq, rtol=1e-6, atol=0)
    positions = torch.tensor([0, 1, 17, 8191, 30000])
    for dtype in (torch.float32, torch.bfloat16):
        cos, sin = rope_tables(positions, rope, 128, dtype)
        their_cos, their_sin = theirs(torch.empty(0, dtype=dtype), positions[None])
        tolerance = 5e-3 if dtype == torch.bfloat16 else 1e-4
        torch.testing.assert_close(cos, their_cos[0], rtol=0, atol=tolerance)
        torch.testing.assert_close(sin, their_sin[0], rtol=0, atol=tolerance)


def test_llama3_keeps_short_waves_and_stretches_long_ones():
    plain = inverse_frequencies(RopeConfig(5e5), 128)
    scaled = inverse_frequencies(CASES["llama3"][0], 128)
    assert torch.equal(scaled[0], plain[0])
    assert torch.equal(scaled[-1], plain[-1] / 8)
    assert ((scaled <= plain) & (scaled >= plain / 8)).all()


def test_rotation_depends_on_the_distance_only():
    torch.manual_seed(0)
    q, k = torch.randn(2, 3, 16).double()
    dots = []
    for first in (0, 40):
        cos, sin = rope_tables(torch.tensor([first, first + 5]), RopeConfig(1e4), 16, torch.float64)
        turned_q, turned_k = qk_norm_rope(q.expand(2, 3, 16), k.expand(2, 3, 16), cos, sin)
        dots.append((turned_q[0] * turned_k[1]).sum(-1))
    torch.testing.assert_close(dots[0], dots[1], rtol=1e-5, atol=1e-5)
    cos, sin = rope_tables(torch.tensor([0]), RopeConfig(1e4), 16, torch.float64)
    assert torch.equal(qk_norm_rope(q[None], k[None], cos, sin)[0], q[None])
