import pytest
import torch

from bench.decode_step import model_config
from bench.inputs import MODELS
from bench.roofline import Peaks
from bench.step_work import Work, decode_step, floor_ms, train_flops

MADE_UP = Peaks(2.0, 0.5, "made up")
PEAKS = Peaks(790.0, 4.3, "design")


def _seven_b():
    return model_config(MODELS["qwen2.5-7b"], torch.bfloat16)


def test_a_step_of_a_7b_at_batch_256_is_bound_by_both():
    """By hand, 640 positions: GEMMs 4.58 ms by FLOPs where their weights take 3.3 ms, keys and values 2.19 ms."""
    work = decode_step(_seven_b(), 256, 640)
    gemms = {name: part for name, part in work.items() if name not in ("attention", "sampling")}
    assert sum(part.count * part.flops for part in gemms.values()) == pytest.approx(2 * 7.07e9 * 256, rel=0.01)
    assert floor_ms(gemms, PEAKS) == pytest.approx(4.6, rel=0.03)
    assert floor_ms({"attention": work["attention"]}, PEAKS) == pytest.approx(2.19, rel=0.03)
    assert floor_ms(work, PEAKS) == pytest.approx(6.8, rel=0.03)


def test_a_small_batch_is_bound_by_its_weights():
    work = decode_step(_seven_b(), 1, 1)
    weights = 2 * 7.07e9 / 4.3e12 * 1e3
    assert floor_ms(work, PEAKS) == pytest.approx(weights, rel=0.01)


def test_every_operation_counts_by_itself():
    assert floor_ms({"a": Work(2e12, 0.0, 3), "b": Work(0.0, 1e12)}, MADE_UP) == pytest.approx(3e3 + 2e3)


def test_flops_of_a_training_step():
    """6 N per token, the head by its targets, attention by the causal half."""
    config = model_config(MODELS["qwen2.5-7b"], torch.bfloat16)
    body = 28 * (3584 * (3584 + 2 * 512) + 3584 * 3584 + 3 * 3584 * 18944)
    head = 3584 * 152064
    attention = 28 * 3 * 4 * 3584 * 1000 * 1001 / 2
    assert train_flops(config, [1000, 1000], 1500) == pytest.approx(6 * 2000 * body + 6 * 1500 * head + 2 * attention)
