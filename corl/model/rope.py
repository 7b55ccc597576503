"""Rotary position embeddings: the scalings of the supported checkpoints, as functions of the position alone.

There is no table and no buffer: nothing to lose when a module is built on the meta device, cast to bf16 or
put to sleep, and nothing to grow when sequences do.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

# T packed tokens, E head dim
ROPE_KINDS = ("default", "linear", "llama3")


@dataclass(frozen=True, slots=True)
class RopeConfig:
    """`kind` is one of ROPE_KINDS. `factor` belongs to linear and llama3, the last three to llama3 alone."""

    theta: float
    kind: str = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_positions: int = 8192


def inverse_frequencies(rope: RopeConfig, head_dim: int, device: torch.device | str = "cpu") -> Tensor:
    """Angle per position of each pair of channels, [E / 2] fp32.

    RoPE: Su et al. 2021, arXiv:2104.09864. linear: Chen et al. 2023, arXiv:2306.15595. llama3: wavelengths
    beyond the original context are stretched, short ones kept, those between blended (Llama 3.1, arXiv:2407.21783).
    """
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32, device=device) / head_dim
    frequencies = 1.0 / rope.theta**exponents
    if rope.kind == "linear":
        return frequencies / rope.factor
    if rope.kind == "llama3":
        turns = rope.original_max_positions / (2 * math.pi / frequencies)  # full turns within the original context
        kept = ((turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor)).clamp(0, 1)
        return (1 - kept) * frequencies / rope.factor + kept * frequencies
    assert rope.kind == "default", rope.kind
    return frequencies


def rope_tables(position_ids: Tensor, rope: RopeConfig, head_dim: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """cos and sin of every token's angles, [T, E] each, for `qk_norm_rope`.

    Computed in fp32 on the device of `position_ids` [T] i64, then rounded to `dtype`, as transformers does it.
    """
    angles = position_ids[:, None].float() * inverse_frequencies(rope, head_dim, position_ids.device)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos().to(dtype), angles.sin().to(dtype)
