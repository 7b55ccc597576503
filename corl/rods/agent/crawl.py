"""The agent's loop: take the best page, ask for a batch where its text is not there yet, visit it, go on."""

import fcntl
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from corl.rods.agent.frontier import Frontier
from corl.rods.agent.output import publish, write_lines
from corl.rods.agent.reading import Link, key_of
from corl.rods.agent.scoring import POINT
from corl.rods.agent.sources import Source
from corl.rods.agent.visiting import fetch_batch, visit

STATE, VISITS = "crawl.sqlite", "visits.jsonl"


@dataclass(frozen=True, slots=True)
class CrawlPlan:
    """`entities`: the budget in pages with a box; `floor`: the score, in points, below which nothing is asked for.

    Seeds are `titles`, and the articles with one of `boxes` (of the source's own where both are empty).
    """

    entities: int = 1000
    floor: float = 0.2
    titles: tuple[str, ...] = ()
    boxes: tuple[str, ...] = ()
    batch: int = 50  # titles asked for at once; the API's own limit for everyone

    def __post_init__(self) -> None:
        if self.entities < 1:
            raise ValueError(f"--entities is {self.entities}; give at least 1")
        if not 1 <= self.batch <= 50:
            raise ValueError(f"--batch is {self.batch}; a wiki answers 1 to 50 titles at once")
        if not -1000 <= self.floor <= 1000:  # a nan too
            raise ValueError(f"--floor is {self.floor}; scores lie between about -1 and 1.6")


def crawl(source: Source, out: str | Path, plan: CrawlPlan) -> dict[str, Any]:
    """Collect pages into the folder `out`; returns the manifest.

    pages.xml, visits.jsonl and manifest.json depend on source and plan alone: a crawl killed at any moment and started
    again with the same command ends with the same bytes, and one with a higher budget goes on from where it was.
    Raises ValueError where `out` holds another crawl or is in use, and where the source fails for good.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder):
        frontier = Frontier(folder / STATE)
        try:
            _check(frontier, source, plan, folder)
            (folder / "manifest.json").unlink(missing_ok=True)
            _sow(frontier, source, plan)
            write_lines(folder / VISITS, frontier.lines())
            with (folder / VISITS).open("a", encoding="utf-8") as log:
                stopped = _run(frontier, source, plan, log)
            return publish(folder, frontier, source, plan, stopped)
        finally:
            frontier.close()


def _check(frontier: Frontier, source: Source, plan: CrawlPlan, folder: Path) -> None:
    """The same crawl as before? Only the budget may grow."""
    now = {"source": source.identity, **{k: v for k, v in asdict(plan).items() if k != "entities"}}
    now = {name: list(value) if isinstance(value, tuple) else value for name, value in now.items()}
    before = frontier.get_meta("plan")
    if before is None:
        with frontier.step():
            frontier.set_meta("plan", now)
    elif before != now:
        changed = ", ".join(name for name in now if before.get(name) != now[name])
        raise ValueError(f"{folder} holds a crawl with another {changed}; repeat that one, or choose another --out")
    if frontier.entities > plan.entities:
        raise ValueError(
            f"{folder} holds {frontier.entities} entities already and --entities is {plan.entities}; "
            "give at least as many, or choose another --out"
        )


def _sow(frontier: Frontier, source: Source, plan: CrawlPlan) -> None:
    if frontier.get_meta("sown"):
        return
    seeds: dict[str, str] = {}
    for title in plan.titles:
        key = key_of(title)
        if not key:
            raise ValueError(f"{title!r} is no article's title; give the seeds as they stand above their articles")
        seeds.setdefault(key, "seed")
    if plan.boxes or not plan.titles:
        for title, box in source.seeds(plan.boxes):
            seeds.setdefault(key_of(title), f"seed:{box}")
    seeds.pop("", None)  # a title that no link could name
    if not seeds:
        raise ValueError("no article to begin with: none has such a box; give --seed TITLE or another --box")
    with frontier.step():
        for key, slot in seeds.items():
            frontier.add_link(Link(key, POINT, slot), "", 0)
        frontier.set_meta("sown", len(seeds))


def _run(frontier: Frontier, source: Source, plan: CrawlPlan, log: TextIO) -> str:
    """Visit until something says stop; returns what did."""
    floor = round(plan.floor * POINT)
    with _bar(plan.entities, frontier.entities) as bar:
        while frontier.entities < plan.entities:
            best = frontier.best()
            if best is None:
                return "frontier_empty"
            if best.score.total < floor:
                return "score_floor"
            with frontier.step():
                step = [visit(frontier, best)] if best.fetched else fetch_batch(frontier, source, plan.batch, floor)
                lines = list(step)
            # behind the commit: a line that is lost here is written again at the next start
            log.writelines(line + "\n" for line in lines)
            log.flush()
            bar.update(best.fetched)
            bar.set_postfix_str(f"{frontier.visits} visits", refresh=False)
    return "entity_budget"


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """One crawl in a folder; the kernel lets go of the lock of a killed one."""
    file = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ValueError(f"another crawl is at work in {folder}; wait for it, or choose another --out") from error
        yield
    finally:
        os.close(file)


def _bar(total: int, done: int) -> tqdm:
    every = 0.5 if sys.stderr.isatty() else 60.0
    return tqdm(
        total=total, initial=done, desc="crawl", unit="entity", leave=False, delay=every, mininterval=every
    )  # fmt: skip


def describe(manifest: dict[str, Any], out: str | Path) -> Iterator[str]:
    """The crawl in a few lines, for a terminal."""
    for outcome, count in sorted(manifest["outcomes"].items(), key=lambda entry: (-entry[1], entry[0])):
        if outcome != "entity":
            yield f"{count} {outcome}"
    found: Sequence[str] = [f"{count} {kind}" for kind, count in manifest["entities"].items()]
    yield (
        f"{out}: {sum(manifest['entities'].values())} entities ({', '.join(found)}), {manifest['nodes']} nodes and "
        f"{manifest['edges']} edges named, from {manifest['visits']} visits; stopped: {manifest['stopped']}"
    )
