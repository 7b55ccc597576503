"""What the session runs on, and the two ceilings that floors are counted with."""

import importlib.metadata
import json
import shutil
import subprocess
from dataclasses import asdict

import torch

from bench.roofline import peaks_of
from bench.session.context import Context
from bench.session.record import at_least

_PACKAGES = (
    "transformers", "numpy", "safetensors", "pytest", "pytest-xdist", "cuda-bindings", "liger-kernel", "flash-attn",
    "nvidia-nccl-cu13", "nvidia-cublas",
)  # fmt: skip


def run(context: Context) -> None:
    """Versions, the driver's view, an 8192^3 bf16 product and a copy; their peaks go to DIR/peaks.json."""
    record = context.record
    found = {"python packages": {name: _version(name) for name in _PACKAGES}}
    if not context.toy:
        properties = torch.cuda.get_device_properties(0)
        found |= {"cuda": torch.version.cuda, "multiprocessors": properties.multi_processor_count}
        found |= {"memory_gb": round(properties.total_memory / 1e9, 1), "arch": [*torch.cuda.get_device_capability(0)]}
    record.write("row", name="machine", **found)
    if shutil.which("nvidia-smi"):
        fields = "name,driver_version,clocks.sm,clocks.max.sm,clocks.mem,power.limit,temperature.gpu,memory.used"
        asked = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=30)
        record.write("row", name="nvidia-smi", fields=fields, values=done.stdout.strip() or done.stderr.strip())
    peaks = peaks_of(context.device)
    (context.out / "peaks.json").write_text(json.dumps(asdict(peaks)))
    # 790 and 4.3 on an H200 are what the goals were counted with: far less means a slower device, or one that is shared
    record.claim("matrix product", peaks.tflops, unit="TFLOP/s", goal=at_least(700), source=peaks.source)
    record.claim("copy, read plus written", peaks.tbps, unit="TB/s", goal=at_least(3.9))


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
