import torch

from bench.roofline import Peaks, Point, draw, peaks_of


def test_the_floor_is_the_larger_of_the_two_times():
    peaks = Peaks(tflops=2.0, tbps=0.5, source="made up")
    assert peaks.floor_ms(flops=4e9, traffic=0) == 2.0
    assert peaks.floor_ms(flops=4e9, traffic=2e9) == 4.0


def test_the_head_of_a_7b_model_under_the_design_s_ceilings():
    flops = 6.0 * 32768 * 3584 * 152064
    assert 135 < Peaks(790.0, 4.3, "design").floor_ms(flops, 2.0 * 2 * 3584 * (32768 + 152064)) < 136


def test_a_cpu_is_measured():
    peaks = peaks_of(torch.device("cpu"))
    assert 1e-3 < peaks.tflops < 100 and 1e-4 < peaks.tbps < 10
    assert "CPU" in peaks.source


def test_the_picture_is_written(tmp_path):
    peaks = Peaks(1.0, 0.1, "made up")
    points = [Point(f"rival {index % 25}", 2.0**index, 0.5) for index in range(30)]
    for name, drawn in (("full.png", points), ("empty.png", [])):
        draw(drawn, peaks, "a device", tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
