"""Attempts and passes by item, from whatever a run or an evaluation left behind.

    a run's folder, or its checkpoints   the pool of the newest complete checkpoint
    pool.npz                             a checkpoint's pool: the newest policy that attempted an item
    rollouts/, or a step_N.jsonl         samples of a run: those of the newest policy version that attempted an item
    a folder of `corl eval`, answers.jsonl   all samples of an item

A pass is a completion that is correct and well-formed, as in a run; of `corl eval` one that is correct.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from corl.checkpoint import complete_checkpoints

Attempts = dict[str, tuple[int, int]]


def read_attempts(place: str | Path) -> Attempts:
    """(attempts, passes) by item id. Raises ValueError when the place holds none of the above."""
    place = Path(place)
    if place.is_dir():
        return _from_folder(place)
    if place.suffix == ".npz":
        return _from_pool(place)
    return _from_lines([place])


def _from_folder(folder: Path) -> Attempts:
    checkpoints = complete_checkpoints(folder / "checkpoints") or complete_checkpoints(folder)
    if checkpoints:
        return _from_pool(checkpoints[-1] / "pool.npz")
    if (folder / "pool.npz").is_file():
        return _from_pool(folder / "pool.npz")
    if (folder / "answers.jsonl").is_file():
        return _from_lines([folder / "answers.jsonl"])
    for samples in (folder / "rollouts", folder):
        if files := sorted(samples.glob("step_*.jsonl"), key=lambda path: (len(path.name), path.name)):
            return _from_lines(files)
    raise ValueError(
        f"{folder} holds neither checkpoints nor rollouts nor answers.jsonl; give a run's folder, a pool.npz, a "
        "file of rollouts, or the folder of `corl eval`"
    )


def _from_pool(path: Path) -> Attempts:
    import numpy as np

    try:
        with np.load(path) as arrays:
            ids, log = arrays["ids"].tolist(), arrays["log"].tolist()
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(f"{path} is no pool ({error}); give the pool.npz of a checkpoint") from error
    # in order of the policy's versions: the last row of an item is the newest one's
    return {ids[index]: (attempts, passes) for index, _, attempts, passes in log if attempts}


def _from_lines(paths: list[Path]) -> Attempts:
    newest: dict[str, int] = {}
    found: Attempts = {}
    for path in paths:
        for number, record in _lines(path):
            try:
                id_, version, passes = _samples(record)
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(
                    f"{path}, line {number}: no attempt ({type(error).__name__}: {error}); give rollouts of a run or "
                    "the answers.jsonl of `corl eval`"
                ) from error
            if version < newest.get(id_, version):
                continue
            if version > newest.get(id_, version):
                found.pop(id_, None)
            newest[id_] = version
            attempts, before = found.get(id_, (0, 0))
            found[id_] = attempts + len(passes), before + sum(passes)
    if not found:
        raise ValueError(f"{', '.join(map(str, paths))}: no attempt; give a file that has some")
    return found


def _samples(record: Any) -> tuple[str, int, list[bool]]:
    """(item id, policy version, whether each sample passed) of a line of either kind."""
    if "item" in record:
        grade = record["grade"]
        return str(record["item"]), int(record["policy_version"]), [bool(grade["correct"]) and bool(grade["format_ok"])]
    correct = record["correct"]
    if not isinstance(correct, list):
        raise ValueError("correct is no list")
    return str(record["id"]), 0, list(map(bool, correct))


def _lines(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    yield number, json.loads(line)
                except ValueError as error:
                    if not line.endswith(b"\n"):  # an evaluation may still be writing
                        return
                    raise ValueError(f"{path}, line {number}: not JSON ({error})") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); check the path") from error
