"""What a run refuses before it starts: items that clash, stages without data, a folder that another run began."""

import json
import os
from pathlib import Path

import yaml

from corl.config import Config, to_plain
from corl.data.items import Item, Trace
from corl_kernels import PolicyObjective


def check_ids(items: dict[str, list[Item]], traces: list[Trace]) -> None:
    """One id, one item: draws, pool and logs are keyed by it; and no dev or held-out item is trained on."""
    for name, listed in items.items():
        seen: set[str] = set()
        for item in listed:
            if item.id in seen:
                raise ValueError(f"data.{name}: item {item.id} is in it twice; keep one of them")
            seen.add(item.id)
    trained = {"train": {item.id for item in items["train"]}, "traces": {trace.item.id for trace in traces}}
    for name in ("dev", "held_out"):
        for other, ids in trained.items():
            if shared := {item.id for item in items[name]} & ids:
                raise ValueError(
                    f"data.{name}: {len(shared)} items are in data.{other} too, the first is {min(shared)}; "
                    "remove them from one"
                )


def check_stages(config: Config, items: list[Item], traces: list[Trace]) -> None:
    """Every stage has an objective that exists and something to draw; items without a tier get one later."""
    mix = config.cold_start.mix if config.cold_start is not None and "cold_start" in config.stages else None
    taught = {trace.item.difficulty for trace in traces}
    if mix is not None and not any(share for tier, share in mix.items() if tier in taught):
        raise ValueError(f"cold_start.mix: no trace has a difficulty with a share in {mix}; leave it out or add traces")
    found = {item.difficulty for item in items}
    for name, rl in (("rl1", config.rl1), ("rl2", config.rl2)):
        if rl is None or name not in config.stages:
            continue
        try:
            PolicyObjective(**to_plain(rl.objective))
        except ValueError as error:
            raise ValueError(f"{name}.objective: {error}") from None
        drawn = {"easy", *rl.mix.hard_tiers}
        if rl.mix.by == "difficulty" and None not in found and not found & drawn:
            raise ValueError(
                f"{name}.mix: no item of data.train is {' or '.join(sorted(drawn))}; name more tiers in hard_tiers"
            )


def check_run_dir(config: Config, data_hashes: dict[str, str]) -> None:
    """A run directory is continued only by the run that began it: same seed, model, data and stages."""
    path = Path(config.run.dir)
    place = next(p for p in (path, *path.parents) if p.exists())
    if not (place.is_dir() and os.access(place, os.W_OK)):
        raise ValueError(f"run.dir {path}: {place} is not a folder that can be written to; choose another run.dir")
    if not (path / "config.yaml").exists():
        return
    try:
        before = yaml.safe_load((path / "config.yaml").read_text())
        lineage = path / "lineage.json"
        stages = json.loads(lineage.read_text())["stages"] if lineage.exists() else []
        changes = {key: before.get(key) != to_plain(config)[key] for key in ("model", "data", "stages")}
        changes["run.seed"] = before["run"]["seed"] != config.run.seed
        hashes = stages[-1]["data_sha256"] if stages else {}
    except (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"run.dir {path}: its config.yaml or lineage.json is damaged ({error}); choose another run.dir"
        ) from None
    for key in (key for key, changed in changes.items() if changed):
        raise ValueError(
            f"run.dir {path}: holds a run with another `{key}`; continue it with the same, or choose another run.dir"
        )
    for file in (file for file, now in data_hashes.items() if hashes.get(file, now) != now):
        raise ValueError(f"run.dir {path}: {file} has changed since that run; restore it or choose another run.dir")
