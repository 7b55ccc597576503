"""Complete checkpoints or none: a folder is written under a hidden name and renamed when every rank is done.

A checkpoint folder `step_000120_rl1` holds the distributed checkpoint (model and optimiser, resharded on load to any
number of ranks), state.json (position, history, lineage), pool.npz and carried.json (unfinished groups of samples).
"""

import json
import re
import shutil
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from corl.parallel import World

STAGE_ORDER = ("cold_start", "rl1", "mine", "rl2")
_NAME = re.compile(r"step_(\d+)_(cold_start|rl1|mine|rl2)")


def checkpoint_name(step: int, stage: str) -> str:
    return f"step_{step:06d}_{stage}"


def complete_checkpoints(folder: Path) -> list[Path]:
    """Oldest first."""
    found = [(m, path) for path in folder.glob("step_*") if (m := _NAME.fullmatch(path.name)) and path.is_dir()]
    return [path for m, path in sorted(found, key=lambda f: (int(f[0][1]), STAGE_ORDER.index(f[0][2])))]


def remove_unfinished(folder: Path) -> None:
    """Delete what a killed save left behind; the checkpoint it was about to replace gets its name back."""
    for path in folder.glob(".replaced_*"):
        final = folder / path.name.removeprefix(".replaced_")
        if final.exists():
            shutil.rmtree(path)
        else:
            path.rename(final)
    for path in folder.glob(".unfinished_*"):
        shutil.rmtree(path)


def save_checkpoint(
    folder: Path,
    name: str,
    tensors: dict[str, Tensor],
    state: dict[str, Any],
    arrays: dict[str, np.ndarray],
    world: World,
    *,
    carried: Sequence[dict[str, Any]] = (),
) -> Path:
    """Write `folder/name`; a collective. A checkpoint of that name is replaced only once the new one is complete."""
    final, unfinished = folder / name, folder / f".unfinished_{name}"
    if world.is_main:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
    world.barrier()
    dcp.save(tensors, checkpoint_id=unfinished)
    if world.is_main:
        (unfinished / "state.json").write_text(json.dumps(state))
        (unfinished / "carried.json").write_text(json.dumps(list(carried), allow_nan=False))
        np.savez(unfinished / "pool.npz", **cast(Any, arrays))
        replaced = folder / f".replaced_{name}"
        if final.exists():
            final.rename(replaced)
        unfinished.rename(final)
        shutil.rmtree(replaced, ignore_errors=True)
    world.barrier()
    return final


def load_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Fill `tensors` (DTensors or plain, by name) in place from a checkpoint; a collective."""
    dcp.load(tensors, checkpoint_id=path)


def load_state(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    with np.load(path / "pool.npz") as arrays:
        return json.loads((path / "state.json").read_text()), dict(arrays)


def load_carried(path: Path) -> list[dict[str, Any]]:
    """[] for a checkpoint from before there was such a file: nothing was carried then."""
    file = path / "carried.json"
    return json.loads(file.read_text()) if file.exists() else []


def prune_checkpoints(folder: Path, keep: int, pinned: set[str]) -> None:
    """Delete all but the `keep` newest complete checkpoints and those named in `pinned`."""
    for path in complete_checkpoints(folder)[:-keep]:
        if path.name not in pinned:
            path.rename(path.with_name(f".unfinished_{path.name}"))
            shutil.rmtree(path.with_name(f".unfinished_{path.name}"))


def iter_model_tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    """Every parameter of a checkpoint in full on the CPU, fp32, one at a time; needs no process group."""
    reader = dcp.FileSystemReader(path)
    entries = reader.read_metadata().state_dict_metadata
    for key in entries:
        if key.startswith("model."):
            entry = entries[key]
            assert isinstance(entry, TensorStorageMetadata), key
            tensor = {key: torch.empty(entry.size, dtype=torch.float32)}
            with warnings.catch_warnings():  # no_dist asks for just what it warns about
                warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
                dcp.load(tensor, storage_reader=reader, no_dist=True)
            yield key.removeprefix("model."), tensor[key]
