"""The crawl's results: pages.xml for `corl rods extract`, visits.jsonl, and manifest.json, which comes last."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corl.rods.agent.frontier import Frontier
from corl.rods.agent.sources import Source

if TYPE_CHECKING:
    from corl.rods.agent.crawl import CrawlPlan

FORMAT = 1
PAGES, VISITS, MANIFEST = "pages.xml", "visits.jsonl", "manifest.json"


def write_lines(path: Path, lines: Iterable[str | bytes]) -> None:
    """Write the file under another name, then rename it: it is never there in part."""
    unfinished = path.with_name(path.name + ".unfinished")
    with unfinished.open("wb") as file:
        for line in lines:
            file.write((line if isinstance(line, bytes) else line.encode()) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path)


def publish(folder: Path, frontier: Frontier, source: Source, plan: "CrawlPlan", stopped: str) -> dict[str, Any]:
    write_lines(folder / PAGES, _export(frontier))
    write_lines(folder / VISITS, frontier.lines())
    outcomes = frontier.tally("SELECT outcome, count(*) FROM visit GROUP BY 1 ORDER BY 1")
    manifest = {
        "format": FORMAT,
        "source": source.identity,
        "plan": asdict(plan),
        "stopped": stopped,
        "seeds": frontier.get_meta("sown"),
        "visits": frontier.visits,
        "entities": frontier.tally(
            "SELECT type, count(*) FROM visit WHERE outcome = 'entity' GROUP BY 1 ORDER BY 1"
        ),  # fmt: skip
        "rarity": frontier.tally(
            "SELECT CASE rarity WHEN '' THEN 'unknown' ELSE rarity END, count(*) FROM visit WHERE outcome = 'entity' "
            "GROUP BY 1 ORDER BY 1"
        ),
        "outcomes": outcomes,
        "double_redirects": frontier.number(
            "SELECT count(*) FROM visit WHERE outcome = 'redirect' AND slot = 'redirect'"
        ),
        "nodes": frontier.number("SELECT count(*) FROM node"),
        "edges": frontier.number("SELECT count(*) FROM edge"),
        "left": frontier.tally(
            "SELECT status, count(*) FROM page WHERE status != 'done' GROUP BY 1 ORDER BY 1"
        ),  # fmt: skip
        **source.counts(),
        "files": {name: _sha256(folder / name) for name in (PAGES, VISITS)},
    }
    write_lines(folder / MANIFEST, [json.dumps(manifest, indent=1, ensure_ascii=False)])
    return manifest


def _export(frontier: Frontier) -> Iterator[bytes]:
    """A MediaWiki export of what was visited: entities, pages that type a link or end it, redirects as other names."""
    yield b"<mediawiki>"
    yield from frontier.bodies()
    yield b"</mediawiki>"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
