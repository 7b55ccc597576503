"""Results as text for a terminal and as lines of JSON for bench/results."""

import datetime
import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from bench.contest import Row

ROOT = Path(__file__).resolve().parent.parent
_PACKAGES = ("torch", "triton", "liger-kernel", "flash-attn")
_ERRORS = {"logprobs_max": "logp max", "logprobs_mean": "logp mean", "grad_hidden": "dX", "grad_weight": "dW"}


def environment(device: torch.device) -> dict[str, Any]:
    """What a number depends on beside the code: commit, date, device, versions (None: not installed), threads."""
    on_gpu = device.type == "cuda"
    return {
        "sha": _commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": torch.cuda.get_device_name(device) if on_gpu else _cpu_name(),
        "threads": None if on_gpu else torch.get_num_threads(),
        **{package.replace("-", "_"): _version(package) for package in _PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str:
    """Short hash, with + when the tree differs from it; "unknown" outside a git checkout."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
        except FileNotFoundError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    sha = git("rev-parse", "--short", "HEAD")
    return "unknown" if sha is None else sha + ("+" if git("status", "--porcelain", "--", "kernels", "bench") else "")


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def record(row: Row, surroundings: dict[str, Any]) -> dict[str, Any]:
    """The row as one flat JSON object; a skipped one says so and holds no numbers."""
    line = surroundings | {"suite": row.case.suite, "op": row.op, "name": row.name, "model": row.case.model}
    line |= {"dtype": row.case.dtype, "shape": dict(row.case.shape)}
    if row.skipped is not None or row.timing is None:
        return line | {"skipped": row.skipped}
    line |= {f"{name}_ms" if name != "samples" else name: value for name, value in asdict(row.timing).items()}
    line |= {"floor": row.floor, "floor_ratio": row.floor_ratio, "tflops": row.tflops, "gbps": row.gbps}
    line |= {"roof_percent": row.roof_percent, "peak_bytes": row.peak_bytes}
    return line | {"gradient_bytes": dict(row.gradient_bytes), "errors": dict(row.errors)}


def append(rows: Sequence[Row], surroundings: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.writelines(json.dumps(record(row, surroundings)) + "\n" for row in rows)


def table(rows: Sequence[Row]) -> str:
    """One contest: what was skipped and why, then a line for each contender."""
    heads = ["op", "contender", "ms", "p20-p80", "x floor", "TFLOP/s", "GB/s", "% roof", "peak MB", "of it gradients"]
    lines = [heads + list(_ERRORS.values())]
    for row in rows:
        if row.timing is None:
            continue
        timing = row.timing
        peak = "" if row.peak_bytes is None else f"{row.peak_bytes / 1e6:.1f}"
        gradients = " ".join(f"{name} {size / 1e6:.1f}" for name, size in row.gradient_bytes.items())
        lines.append(
            [
                row.op,
                row.name,
                f"{timing.p50:.4g}",
                f"{timing.p20:.4g}-{timing.p80:.4g}",
                "" if row.floor_ratio is None else f"{row.floor_ratio:.3f}",
                f"{row.tflops:.4g}" if row.flops else "",
                f"{row.gbps:.4g}" if row.traffic else "",
                f"{row.roof_percent:.1f}" if row.flops or row.traffic else "",
                peak,
                gradients,
                *(f"{row.errors[key]:.1e}" if key in row.errors else "" for key in _ERRORS),
            ]
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    shown = [column for column, width in enumerate(widths) if any(line[column] for line in lines[1:]) and width]
    texts = ["  ".join(line[column].ljust(widths[column]) for column in shown).rstrip() for line in lines]
    skipped = [f"skipped: {row.name} ({row.op}): {row.skipped}" for row in rows if row.skipped is not None]
    title = f"{rows[0].case.title}, medians of {max((row.timing.samples for row in rows if row.timing), default=0)}"
    return "\n".join([title, *skipped, *texts])
