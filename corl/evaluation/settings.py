"""settings.json of an evaluation: everything its answers depend on, so that a restart goes on with nothing else."""

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from corl.data.items import file_sha256, write_whole

SETTINGS = "settings.json"
PATHS = frozenset({"path", "name"})  # where things lie and how they are called may change; hashes tell what they are


def hashed_files(paths: Sequence[str | Path]) -> list[dict[str, str]]:
    return [{"path": str(path), "sha256": file_sha256(path)} for path in paths]


def hashed_model(folder: Path) -> dict[str, str]:
    """Path and hash of a Hugging Face directory: of every byte of its configuration, tokenizer and weights."""
    files = sorted(path for pattern in ("*.json", "*.safetensors", "*.jinja", "*.txt") for path in folder.glob(pattern))
    with ThreadPoolExecutor(4) as pool:  # hashing releases the lock: a 7B's 15 GB take seconds, not half a minute
        hashes = list(pool.map(file_sha256, files))
    listing = "\n".join(f"{path.name} {sha}" for path, sha in zip(files, hashes, strict=True))
    return {"path": str(folder), "sha256": hashlib.sha256(listing.encode()).hexdigest()}


def hashed_prompts(prompts: Sequence[Sequence[int]]) -> str:
    return hashlib.sha256(json.dumps([list(ids) for ids in prompts]).encode()).hexdigest()


def check_folder(folder: Path, settings: dict[str, Any]) -> None:
    """Raises ValueError unless `folder` is new, empty, or holds an evaluation with these settings; says what differs.

    A folder that holds other things is refused, so that no table overwrites a stranger's.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--out {folder}: it is a file; name a folder")
    if not (folder / SETTINGS).exists():
        if folder.exists() and any(not entry.name.startswith(".") for entry in folder.iterdir()):
            raise ValueError(f"--out {folder}: it holds other things and no evaluation; choose another --out")
        return
    told = [f"{key}: {then} then, {now} now" for key, then, now in differences(read_settings(folder), settings)]
    if told:
        raise ValueError(
            f"--out {folder}: it holds an evaluation with other settings ({'; '.join(told)}); choose another --out, or "
            "continue with the same"
        )


def write_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Once checked: the first of an evaluation stays."""
    if not (folder / SETTINGS).exists():
        write_whole(folder / SETTINGS, [json.dumps(settings, indent=1, ensure_ascii=False).encode() + b"\n"])


def read_settings(folder: Path) -> dict[str, Any]:
    """Raises ValueError when the folder holds no evaluation or its settings.json is damaged."""
    path = folder / SETTINGS
    if not path.is_file():
        raise ValueError(f"{folder}: no evaluation ({SETTINGS} is missing); name a folder that `corl eval` wrote")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: damaged ({error}); restore it or remove the folder") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: damaged (no object); restore it or remove the folder")
    return found


def differences(first: dict[str, Any], second: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(key, what the first says, what the second says) for every setting that differs, places left out."""
    return [
        (key, _short(first.get(key)), _short(second.get(key)))
        for key in dict.fromkeys([*first, *second])
        if key not in PATHS and _content(first.get(key)) != _content(second.get(key))
    ]


def _content(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _content(inner) for key, inner in value.items() if key not in PATHS}
    return [_content(inner) for inner in value] if isinstance(value, list) else value


def _short(value: Any) -> str:
    """Files as their names and the first digits of their hashes."""
    if isinstance(value, dict) and "sha256" in value:
        return f"{value.get('path')} ({str(value['sha256'])[:8]})"
    if isinstance(value, list):
        return "[" + ", ".join(map(_short, value)) + "]"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."
