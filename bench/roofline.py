"""The two ceilings of a device, how close a measurement comes to them, and the picture of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bench.timing import cuda_clock, wall_clock


@dataclass(frozen=True, slots=True)
class Peaks:
    """Measured ceilings: matrix products in TFLOP/s and memory traffic (read plus written) in TB/s."""

    tflops: float
    tbps: float
    source: str

    def floor_ms(self, flops: float, traffic: float) -> float:
        """No version of the work runs much faster than this."""
        return max(flops / self.tflops, traffic / self.tbps) * 1e-9


def peaks_of(device: torch.device) -> Peaks:
    """The best of several products and copies in this run."""
    on_gpu = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if on_gpu else "CPU"
    size, dtype, clock = (8192, torch.bfloat16, cuda_clock()) if on_gpu else (1024, torch.float32, wall_clock)
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    product = torch.empty_like(a)
    source = torch.randn((1 << 31 if on_gpu else 1 << 28) // 4, device=device)
    target = torch.empty_like(source)
    product_ms, copy_ms = (
        min(clock(run) for _ in range(15))  # a ceiling is the best that was seen
        for run in (lambda: torch.mm(a, b, out=product), lambda: target.copy_(source))
    )
    traffic = 2 * source.nbytes
    how = f"{name}, measured in this run: {dtype} product {size}^3, copy of {source.nbytes >> 20} MiB"
    return Peaks(2 * size**3 / product_ms * 1e-9, traffic / copy_ms * 1e-9, how)


@dataclass(frozen=True, slots=True)
class Point:
    """One measurement: `intensity` in FLOP per byte, `tflops` reached."""

    label: str
    intensity: float
    tflops: float


def plotter() -> Any:
    """matplotlib's pyplot without a display, imported where something is drawn: measuring does without it."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def draw(points: Sequence[Point], peaks: Peaks, title: str, path: Path) -> None:
    """Write the picture: the roof, and every point, one colour per label."""
    pyplot = plotter()
    figure, axes = pyplot.subplots(figsize=(11, 6), layout="constrained")
    knee = peaks.tflops / peaks.tbps
    reach = [point.intensity for point in points] + [knee]
    low, high = min(reach) / 4, max(reach) * 4
    axes.plot([low, knee, high], [low * peaks.tbps, peaks.tflops, peaks.tflops], color="black", linewidth=1)
    colours = pyplot.get_cmap("tab20")
    for index, label in enumerate(dict.fromkeys(point.label for point in points)):
        mine = [point for point in points if point.label == label]
        axes.scatter(
            [point.intensity for point in mine],
            [point.tflops for point in mine],
            label=label,
            color=colours(index % 20),
            marker="os^D"[index // 20 % 4],
            s=28,
        )
    axes.set(xscale="log", yscale="log", xlabel="FLOP per byte that must move", ylabel="TFLOP/s reached")
    figure.suptitle(f"{title}\nroof: {peaks.tflops:.4g} TFLOP/s, {peaks.tbps:.3g} TB/s ({peaks.source})", fontsize=9)
    axes.grid(which="both", linewidth=0.3)
    if points:
        axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
