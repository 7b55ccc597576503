"""A run's checkpoint as a Hugging Face directory."""

from pathlib import Path

import torch
import yaml

from corl.checkpoint import complete_checkpoints, iter_model_tensors, load_state
from corl.model.checkpoint_io import export_model


def export_run(run_dir: Path, out_dir: Path, checkpoint: str = "latest", dtype: str | None = None) -> str:
    """Write `run_dir`'s weights to `out_dir`, tokenizer and chat template byte for byte; returns the checkpoint's name.

    checkpoint  "latest", "best" (of the evaluations made while training), or a folder name under RUN/checkpoints
    dtype       of the written weights; None: the run's compute dtype
    Raises ValueError when there is no such run or checkpoint, or when out_dir holds something.
    """
    if not (run_dir / "config.yaml").is_file():
        raise ValueError(f"{run_dir}: no run directory (config.yaml is missing)")
    found = complete_checkpoints(run_dir / "checkpoints")
    if not found:
        raise ValueError(f"{run_dir}: the run has no complete checkpoint to export")
    if checkpoint == "latest":
        chosen = found[-1]
    elif checkpoint == "best":
        best = load_state(found[-1])[0]["best"]
        if best is None:
            raise ValueError(f"{run_dir}: no best checkpoint; the run made no evaluation (eval.every)")
        chosen = run_dir / "checkpoints" / best["checkpoint"]
    else:
        chosen = run_dir / "checkpoints" / checkpoint
    if chosen not in found:
        names = ", ".join(path.name for path in found)
        raise ValueError(f"{run_dir}: no complete checkpoint {chosen.name}; there is {names}")
    name = dtype or yaml.safe_load((run_dir / "config.yaml").read_text())["model"]["dtype"]
    export_model(iter_model_tensors(chosen), run_dir / "model_files", out_dir, dtype=getattr(torch, name))
    return chosen.name
