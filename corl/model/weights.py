"""Parameter names and shapes of a Decoder in Hugging Face's terms, and what a directory of safetensors holds."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from corl.model.config import ModelConfig, read_json

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
STORED_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


def iter_hf_tensors(named_tensors: Iterable[tuple[str, Tensor]], config: ModelConfig) -> Iterator[tuple[str, Tensor]]:
    """The tensors under Hugging Face's names, one parameter at a time: qkv_proj becomes q, k, v_proj and
    gate_up_proj becomes gate, up_proj, as views without gradient history."""
    kv_rows = config.num_kv_heads * config.head_dim
    fused = {
        "qkv_proj": {"q_proj": config.num_heads * config.head_dim, "k_proj": kv_rows, "v_proj": kv_rows},
        "gate_up_proj": {"gate_proj": config.intermediate_size, "up_proj": config.intermediate_size},
    }
    for name, tensor in named_tensors:
        hf_name = name if name.startswith("lm_head.") else f"model.{name}"
        module = name.split(".")[-2]
        parts = fused.get(module, {module: len(tensor)})
        for part, rows in zip(parts, tensor.detach().split(list(parts.values())), strict=True):
            yield hf_name.replace(module, part), rows


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a tensor lies and what its header says."""

    file: Path
    shape: tuple[int, ...]
    dtype: torch.dtype


def stored_tensors(path: Path) -> dict[str, StoredTensor]:
    """The headers of `path`/model.safetensors or of the shards its index names; no tensor is read.

    Raises ValueError naming the file, and the tensor where there is one, when a file is missing or damaged, when the
    index and the shards disagree, or when a dtype is not fp32, bf16 or fp16.
    """
    index = {} if (path / SINGLE).is_file() else _index(path)
    stored: dict[str, StoredTensor] = {}
    for file in sorted({path / name for name in index.values()}) or [path / SINGLE]:
        if not file.is_file():
            raise ValueError(f"{file}: missing, though {INDEX} names it; download the checkpoint again")
        try:
            with safe_open(file, framework="pt") as shard:
                headers = {name: shard.get_slice(name) for name in shard.keys()}  # noqa: SIM118, not a dict
                headers = {name: (tuple(part.get_shape()), part.get_dtype()) for name, part in headers.items()}
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{file}: not a readable safetensors file ({error}); download it again") from error
        for name, (shape, dtype) in headers.items():
            if name in stored:
                raise ValueError(f"{file}: tensor {name} is also in {stored[name].file.name}; keep one of them")
            if dtype not in STORED_DTYPES:
                known = ", ".join(STORED_DTYPES)
                raise ValueError(f"{file}: tensor {name} has dtype {dtype}; use a checkpoint in {known}")
            stored[name] = StoredTensor(file, shape, STORED_DTYPES[dtype])
    for name, filename in index.items():
        if name not in stored or stored[name].file.name != filename:
            raise ValueError(f"{path / filename}: tensor {name} is missing, though {INDEX} places it there")
    return stored


def _index(path: Path) -> dict[str, str]:
    if not (path / INDEX).is_file():
        raise ValueError(
            f"{path}: neither {SINGLE} nor {INDEX} is there; give a directory with safetensors "
            "(a .bin checkpoint is converted by transformers: from_pretrained, then save_pretrained)"
        )
    weight_map = read_json(path / INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(f"{path / INDEX}: weight_map={weight_map!r} names no tensors; restore the file")
    return weight_map
