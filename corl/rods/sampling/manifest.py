"""FILE.manifest.json: what a file of questions was made from, and what was left out and why."""

import json
import platform
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from corl.config import to_plain
from corl.config.rods import RodsSample
from corl.data.items import write_whole
from corl.rods.graph import Graph

NO_CORPUS = "left out: no public train files given"


@dataclass(frozen=True, slots=True)
class Order:
    """What was asked for: with the graph's hash and the versions it decides every byte of the file."""

    items: int
    seed: int
    lang: str
    settings: RodsSample
    public: Mapping[str, str]  # sha256 by path


def manifest(
    out: Path,
    sha256: str,
    graph: Graph,
    order: Order,
    counts: Mapping[str, Counter[str]],
    drawn: int,
    rejected: Counter[str],
) -> dict[str, Any]:
    """Counts by kind, most frequent first; `drawn` indices gave the items and the `rejected`, by reason."""
    return {
        "file": out.name,
        "sha256": sha256,
        "items": order.items,
        "graph": {"name": graph.name, "hash": graph.hash, "nodes": len(graph), "edges": len(graph.heads)},
        "seed": order.seed,
        "lang": order.lang,
        "settings": to_plain(order.settings),
        "corpus_rarity": dict(order.public) if order.public else NO_CORPUS,
        "versions": {"corl": version("corl"), "python": platform.python_version(), "numpy": np.__version__},
        "counts": {kind: dict(sorted(tally.items(), key=_frequent_first)) for kind, tally in counts.items()},
        "draws": drawn,
        "rejected": dict(sorted(rejected.items())),
    }


def _frequent_first(entry: tuple[str, int]) -> tuple[int, str]:
    return -entry[1], entry[0]


def place_of(out: Path) -> Path:
    return out.with_name(f"{out.name}.manifest.json")


def write_manifest(out: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(content, ensure_ascii=False, indent=1)
    write_whole(place_of(out), [text.encode() + b"\n"])


def describe_manifest(content: Mapping[str, Any]) -> list[str]:
    """Lines for a reader."""
    graph, counts = content["graph"], content["counts"]
    lost = ", ".join(f"{reason} {count}" for reason, count in content["rejected"].items() if count)
    lines = [f"graph {graph['name']} ({graph['hash']}), seed {content['seed']}, {content['draws']} draws"]
    lines += [f"{kind:<8}" + ", ".join(f"{name} {count}" for name, count in counts[kind].items()) for kind in counts]
    lines.append(f"passed over: {lost or 'none'}")
    if content["corpus_rarity"] == NO_CORPUS:
        lines.append(f"corpus rarity {NO_CORPUS}")
    return lines
