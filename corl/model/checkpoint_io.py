"""Hugging Face directories in and out, one tensor and one shard at a time."""

import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import groupby
from os import PathLike
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from corl.model.config import ModelConfig, read_json
from corl.model.decoder import Decoder
from corl.model.weights import INDEX, SINGLE, StoredTensor, iter_hf_tensors, stored_tensors

HEAD = "lm_head.weight"
EMBEDDING = "model.embed_tokens.weight"
COPIED = (
    *("tokenizer*", "vocab*", "merges*", "special_tokens_map*", "added_tokens*"),
    *("chat_template*", "*.jinja", "additional_chat_templates", "generation_config.json"),
)


def load_model(
    path: str | PathLike[str], *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
) -> Decoder:
    """Read a Hugging Face directory (config.json and safetensors) into a Decoder on `device`.

    `dtype` None keeps the one the tensors are stored in. Each tensor is copied straight into its place, so the peak
    is the model and one tensor. All headers are checked before anything is allocated; ValueError names file and tensor
    when one is missing, unexpected, of another shape, or when tied heads are stored with different values.
    """
    path = Path(path)
    config, stored = checked_headers(path)
    with torch.device("meta"):
        model = Decoder(config)
    dtypes = {tensor.dtype for tensor in stored.values()}
    if dtype is None and len(dtypes) > 1:
        raise ValueError(f"{path}: tensors are stored as {sorted(map(str, dtypes))}; choose one with dtype=")
    model.config = replace(config, dtype=dtype or dtypes.pop())
    model = model.to(model.config.dtype).to_empty(device=device)

    places = dict(iter_hf_tensors(model.named_parameters(), config))
    for name, tensor in iter_stored_tensors(stored):
        if name in places:
            places[name].copy_(tensor)
    return model


def checked_headers(path: Path) -> tuple[ModelConfig, dict[str, StoredTensor]]:
    """The architecture and the headers of its tensors, which fit each other; no tensor is read but a head stored twice.

    Raises ValueError naming file and tensor when one is missing, unexpected, of another shape, or when tied heads are
    stored with different values.
    """
    config = ModelConfig.from_directory(path)
    stored = stored_tensors(path)
    with torch.device("meta"):
        expected = dict(iter_hf_tensors(Decoder(config).named_parameters(), config))
    _check_stored(stored, expected, config, path)
    if config.tie_word_embeddings and HEAD in stored:
        _check_tie(stored, path)
    return config, stored


def iter_stored_tensors(stored: dict[str, StoredTensor]) -> Iterator[tuple[str, Tensor]]:
    """Every tensor by its name in the files, one at a time, file by file."""
    for file, names in groupby(sorted(stored, key=lambda name: stored[name].file), lambda name: stored[name].file):
        with safe_open(file, framework="pt") as shard:
            for name in names:
                yield name, shard.get_tensor(name)


def export_model(
    named_parameters: Iterable[tuple[str, Tensor]] | Decoder,
    source_dir: str | PathLike[str],
    out_dir: str | PathLike[str],
    *,
    dtype: torch.dtype | None = None,
    max_shard_bytes: int = 5 * 10**9,
) -> None:
    """Write a directory that transformers loads: the given parameters, everything else from `source_dir`.

    named_parameters  full tensors under the Decoder's names, in any order and on any device; consumed one at a time,
                      at most one shard of them is held. A Decoder stands for its own parameters.
    dtype             of the written tensors and of config.json's dtype; None keeps theirs, which must be one
    A tied lm_head.weight is written when the source stores one. Files are written in a hidden folder beside `out_dir`
    that takes its name at the end, so an error leaves nothing behind.
    Raises ValueError when `out_dir` holds something or a parameter is missing, unknown or of another shape.
    """
    source_dir, out_dir = Path(source_dir), Path(out_dir).resolve()
    config = ModelConfig.from_directory(source_dir)
    if out_dir.exists() and (not out_dir.is_dir() or any(out_dir.iterdir())):
        raise ValueError(f"{out_dir}: already there and not an empty directory; choose another place for the export")
    stored = stored_tensors(source_dir) if any(source_dir.glob("*.safetensors")) else {}
    store_tied_head = config.tie_word_embeddings and HEAD in stored
    if isinstance(named_parameters, Decoder):
        named_parameters = named_parameters.named_parameters()

    partial = out_dir.parent / f".{out_dir.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        tensors = _export_tensors(named_parameters, config, dtype, store_tied_head)
        written = _write_shards(tensors, partial, max_shard_bytes)
        _write_config(source_dir / "config.json", partial / "config.json", written)
        for source in sorted({file for pattern in COPIED for file in source_dir.glob(pattern)}):
            (shutil.copytree if source.is_dir() else shutil.copyfile)(source, partial / source.name)
        partial.replace(out_dir)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _check_stored(
    stored: dict[str, StoredTensor], expected: dict[str, Tensor], config: ModelConfig, path: Path
) -> None:
    for name, tensor in stored.items():
        place = expected.get(EMBEDDING if name == HEAD and config.tie_word_embeddings else name)
        if place is None:
            raise ValueError(f"{tensor.file}: tensor {name} is unexpected in a {config.model_type} model; remove it")
        if tensor.shape != place.shape:
            raise ValueError(
                f"{tensor.file}: tensor {name} has shape {list(tensor.shape)}, config.json asks for "
                f"{list(place.shape)}; use files of one checkpoint"
            )
    missing = sorted(expected.keys() - stored.keys())
    if missing:
        files = ", ".join(sorted({tensor.file.name for tensor in stored.values()}))
        raise ValueError(
            f"{path}: {len(missing)} of {len(expected)} tensors are missing from {files}, the first is {missing[0]}; "
            "download the checkpoint again"
        )


def _check_tie(stored: dict[str, StoredTensor], path: Path) -> None:
    head, embedding = (_read(name, stored[name].file) for name in (HEAD, EMBEDDING))
    if not torch.equal(head, embedding):
        raise ValueError(
            f"{stored[HEAD].file}: tensor {HEAD} differs from {EMBEDDING}, yet {path / 'config.json'} ties them; "
            "set tie_word_embeddings to false to keep both"
        )


def _read(name: str, file: Path) -> Tensor:
    with safe_open(file, framework="pt") as shard:
        return shard.get_tensor(name)


def _export_tensors(
    named_parameters: Iterable[tuple[str, Tensor]],
    config: ModelConfig,
    dtype: torch.dtype | None,
    store_tied_head: bool,
) -> Iterator[tuple[str, Tensor]]:
    with torch.device("meta"):
        expected = {name: parameter.shape for name, parameter in Decoder(config).named_parameters()}
    for name, parameter in named_parameters:
        if name not in expected:
            raise ValueError(f"parameter {name} is unknown or came twice; give the names of Decoder.named_parameters()")
        if parameter.shape != expected[name]:
            raise ValueError(
                f"parameter {name} has shape {list(parameter.shape)}, the source's config.json asks for "
                f"{list(expected[name])}; give full tensors of the same model"
            )
        del expected[name]
        for hf_name, tensor in iter_hf_tensors([(name, parameter)], config):
            tensor = tensor.to("cpu", dtype or tensor.dtype).contiguous()
            yield hf_name, tensor
            if hf_name == EMBEDDING and store_tied_head:
                yield HEAD, tensor.clone()  # safetensors refuses two names for one memory
    if expected:
        raise ValueError(f"{len(expected)} parameters are missing, the first is {next(iter(expected))}; give all")


def _write_shards(tensors: Iterator[tuple[str, Tensor]], out: Path, max_shard_bytes: int) -> set[torch.dtype]:
    shards: list[list[str]] = []
    pending: dict[str, Tensor] = {}
    size = total = 0
    dtypes = set()

    def flush() -> None:
        save_file(pending, out / f"shard-{len(shards)}", metadata={"format": "pt"})
        shards.append(list(pending))
        pending.clear()

    for name, tensor in tensors:
        if pending and size + tensor.nbytes > max_shard_bytes:
            flush()
            size = 0
        pending[name] = tensor
        size += tensor.nbytes
        total += tensor.nbytes
        dtypes.add(tensor.dtype)
    flush()
    if len(shards) == 1:
        (out / "shard-0").rename(out / SINGLE)
        return dtypes
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards):
        filename = f"model-{number + 1:05d}-of-{len(shards):05d}.safetensors"
        (out / f"shard-{number}").rename(out / filename)
        weight_map |= dict.fromkeys(names, filename)
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    (out / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return dtypes


def _write_config(source: Path, target: Path, dtypes: set[torch.dtype]) -> None:
    """Copy config.json; only the dtype is rewritten, under the key the source uses, and only where it differs."""
    assert len(dtypes) == 1, dtypes
    raw = read_json(source)
    keys = [key for key in ("dtype", "torch_dtype") if key in raw] or ["torch_dtype"]
    name = str(dtypes.pop()).removeprefix("torch.")
    if all(raw.get(key) == name for key in keys):
        shutil.copyfile(source, target)
        return
    raw |= dict.fromkeys(keys, name)
    target.write_text(json.dumps(raw, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
