"""What a file was made from: hashes, dates and versions, for the manifests that stand beside it."""

import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from corl.data.items import Item, file_sha256, write_whole

_DATES = ("dump_date", "dump")


def versions() -> dict[str, str]:
    return {"corl": version("corl"), "python": platform.python_version(), "numpy": np.__version__}


def inputs(files: Sequence[str | Path]) -> list[dict[str, Any]]:
    """Name, hash and, where a manifest beside the file tells it, the date of the dump it goes back to."""
    return [{"file": Path(file).name, "sha256": file_sha256(file), "dump_date": dump_date(file)} for file in files]


def dump_date(file: str | Path) -> str | None:
    """From FILE.manifest.json, else from the manifest.json of its folder where that names the file."""
    file = Path(file)
    for place in (file.with_name(f"{file.name}.manifest.json"), file.parent / "manifest.json"):
        try:
            content = json.loads(place.read_bytes())
        except (OSError, ValueError, RecursionError):
            continue
        if place.name == "manifest.json" and f'"{file.name}"' not in json.dumps(content):
            continue
        if (found := _date_in(content, 0)) is not None:
            return found
    return None


def graphs_of(items: Iterable[Item]) -> dict[str, str]:
    """Hash by name of the graphs that items were made from."""
    stated = (item.meta.get("graph") for item in items)
    return {str(g["name"]): str(g["hash"]) for g in stated if isinstance(g, Mapping) and {"name", "hash"} <= g.keys()}


def json_bytes(record: Any, indent: int | None = None) -> bytes:
    try:
        return json.dumps(record, ensure_ascii=False, indent=indent).encode() + b"\n"
    except UnicodeEncodeError:  # half a surrogate pair, legal in JSON as an escape only
        return json.dumps(record, indent=indent).encode() + b"\n"


def write_json(path: Path, record: Any) -> None:
    write_whole(path, [json_bytes(record, 1)])


def write_lines(path: Path, records: Iterable[Any]) -> None:
    write_whole(path, map(json_bytes, records))


def _date_in(content: Any, depth: int) -> str | None:
    if depth > 4:
        return None
    if isinstance(content, dict):
        for key in _DATES:
            if isinstance(content.get(key), str):
                return content[key]
        content = list(content.values())
    if isinstance(content, list):
        return next((date for inner in content if (date := _date_in(inner, depth + 1)) is not None), None)
    return None
