"""What a decode step and a training step must compute and move, operation by operation, whoever does it."""

from collections.abc import Mapping
from dataclasses import dataclass

from bench.roofline import Peaks
from corl.model.config import ModelConfig

# B rows, T tokens, L positions, R tokens with a target, D hidden, I intermediate, H query heads, K kv heads, E head dim


@dataclass(frozen=True, slots=True)
class Work:
    """FLOP and bytes of one operation, which a step runs `count` times."""

    flops: float
    traffic: float
    count: int = 1


def decode_step(config: ModelConfig, rows: int, context: float) -> dict[str, Work]:
    """One new token for each of B rows with `context` positions on average, their own included.

    GEMMs read their weights and rows and write their results, the head's in fp32; attention reads every key and value
    once for each row, however much of its prompt rows share; sampling reads the logits once. What lies between
    (norms, gates, rotation, the cache's new entries) is left out: it could be part of those.
    """
    size, layers = config.dtype.itemsize, config.num_layers
    width, inner, heads = config.hidden_size, config.intermediate_size, config.num_heads * config.head_dim
    kv_heads = config.num_kv_heads * config.head_dim

    def gemm(inputs: int, outputs: int, count: int, out_size: int = size) -> Work:
        moved = size * inputs * (outputs + rows) + out_size * rows * outputs
        return Work(2.0 * rows * inputs * outputs, float(moved), count)

    keys = 2 * rows * context * kv_heads * size
    return {
        "qkv": gemm(width, heads + 2 * kv_heads, layers),
        "attention": Work(4.0 * rows * context * heads, float(keys + 2 * rows * heads * size), layers),
        "o": gemm(heads, width, layers),
        "gate and up": gemm(width, 2 * inner, layers),
        "down": gemm(inner, width, layers),
        "head": gemm(width, config.vocab_size, 1, 4),
        "sampling": Work(0.0, 4.0 * rows * config.vocab_size),
    }


def floor_ms(work: Mapping[str, Work], peaks: Peaks) -> float:
    """The sum over the operations of what each takes at least: the larger of its FLOPs and its bytes."""
    return sum(part.count * peaks.floor_ms(part.flops, part.traffic) for part in work.values())


def train_flops(config: ModelConfig, lengths: list[int], targets: int) -> float:
    """FLOP of an update over sequences of these lengths, R of their tokens with a target: forward and backward, causal
    attention, the head only where there is a target, nothing for what is computed a second time."""
    heads, kv_heads = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    width, inner = config.hidden_size, config.intermediate_size
    layer = width * (heads + 2 * kv_heads) + heads * width + 3 * width * inner
    products = 6.0 * sum(lengths) * config.num_layers * layer + 6.0 * targets * config.vocab_size * width
    # forward q k' and p v, of which the causal half; twice as much backward
    attention = 6.0 * config.num_layers * heads * sum(length * (length + 1) for length in lengths)
    return products + attention
