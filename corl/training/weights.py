"""Where weights come from, and how they get into the shards: a Hugging Face directory or one of our checkpoints."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from corl.checkpoint import load_tensors
from corl.model.checkpoint_io import checked_headers, iter_stored_tensors
from corl.model.weights import iter_hf_tensors
from corl.parallel import Parameters, local_rows


@dataclass(frozen=True, slots=True)
class WeightSource:
    kind: Literal["hugging_face", "checkpoint"]
    path: Path


def load_weights(source: WeightSource, parameters: Parameters) -> None:
    """Fill the sharded parameters in place, in their own dtype; a collective. Every rank reads only into its rows."""
    if source.kind == "checkpoint":
        load_tensors(source.path, {f"model.{name}": p for name, p in parameters.items()})
        return
    config, stored = checked_headers(source.path)
    places: dict[str, tuple[str, int]] = {}  # tensor in the files -> (our parameter, its first row in it)
    for name, parameter in parameters.items():
        whole = torch.empty(parameter.shape, device="meta")
        for hf_name, part in iter_hf_tensors([(name, whole)], config):
            places[hf_name] = (name, part.storage_offset() // max(1, whole[0].numel()))
    with torch.no_grad():
        for hf_name, tensor in iter_stored_tensors(stored):
            if hf_name not in places:  # a tied head that the files hold twice
                continue
            name, row = places[hf_name]
            first, rows = local_rows(parameters[name])
            begin, end = max(first, row), min(first + rows, row + len(tensor))
            if begin < end:
                parameters[name].to_local()[begin - first : end - first].copy_(tensor[begin - row : end - row])
