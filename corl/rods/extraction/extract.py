"""Read pages, keep what their boxes and sections say, resolve it, write the graph's files."""

import multiprocessing
import shutil
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from corl.rods.extraction.box import library_version
from corl.rods.extraction.edges import resolve_edges
from corl.rods.extraction.entities import Entities
from corl.rods.extraction.facts import PageFacts, read_page
from corl.rods.extraction.output import publish, write_tables
from corl.rods.extraction.page import Page, glance, parse_page, unread_topic, wiki_page
from corl.rods.extraction.sources import RawPage, SourceFile, dump_date, find_files, raw_pages
from corl.rods.extraction.store import Store

FORMAT = 1  # of the folder; a change of rules that changes its bytes changes this
UNFINISHED = ".unfinished"
CHUNK = 256  # pages that are handed to a process together


@dataclass(frozen=True, slots=True)
class Extraction:
    """What a run found: counts by type, by relation and strength, and of the pages passed over by reason."""

    pages: int
    read: int
    nodes: dict[str, int]
    edges: dict[str, dict[str, int]]
    aliases: int
    skipped: dict[str, int]
    lost: dict[str, int]


def extract(source: str | Path, out: str | Path, *, workers: int = 1) -> Extraction:
    """Read the pages of `source` into the graph folder `out`: the same bytes for any number of workers.

    Everything is written under `out`/.unfinished and moved when it is whole, so a run may be killed at any moment and
    started again. Raises ValueError where `source` cannot be read, `out` cannot be written or the wikitext library is
    missing.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}; give at least 1")
    version = library_version()
    folder = Path(out)
    files, others = find_files(source, out)
    unfinished = folder / UNFINISHED
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
    except OSError as error:
        raise ValueError(f"{out} cannot be written ({error.strerror}); choose another folder") from error
    try:
        store = Store(unfinished / "facts.sqlite")
        try:
            for name in others:
                store.skip(name, "not_wiki_or_xml", name)
            seen = _read_all(files, store, workers)
            entities = Entities(store)
            lost = resolve_edges(store, entities) + store.lost
            counts = write_tables(unfinished, store, entities)
        finally:
            store.close()
        skipped = {reason: store.reasons[reason] for reason in sorted(store.reasons)}
        manifest = {
            "format": FORMAT,
            "sources": [{"file": f.name, "bytes": f.bytes, "sha256": f.sha256} for f in files],
            "dump_date": dump_date([f.name for f in files]),
            "versions": {"mwparserfromhell": version, "python": ".".join(map(str, sys.version_info[:3]))},
            "pages": {"seen": seen, "read": store.pages, "redirects": store.redirects},
            **counts,
            "skipped": skipped,
            "lost": {reason: lost[reason] for reason in sorted(lost)},
        }
        publish(unfinished, folder, manifest)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return Extraction(seen, store.pages, counts["nodes"], counts["edges"], counts["aliases"], skipped, manifest["lost"])


def _read_all(files: list[SourceFile], store: Store, workers: int) -> int:
    """Every page of every file into the store, in their order; returns how many there were."""
    seen, started = 0, time.monotonic()
    with _bar(sum(file.bytes for file in files)) as bar:
        for facts in _in_order(_jobs(files, store, bar), workers):
            seen += 1
            store.add(facts)
            if seen % 1000 == 0:
                bar.set_postfix_str(f"{seen} pages, {seen / (time.monotonic() - started):.0f}/s, {store.pages} read")
    return seen


def _jobs(files: list[SourceFile], store: Store, bar: Any) -> Iterator[PageFacts | RawPage]:
    """What is settled at a glance as its outcome, the rest as bytes to be read."""
    for file in files:
        for page in raw_pages(file, bar.update):
            seen = glance(page.raw) if page.is_xml else None
            reason = page.reason or (seen.reason if seen and not seen.parse and not seen.redirect else "")
            if not reason:
                yield page
                continue
            title = seen.title if seen else ""
            facts = PageFacts(title or Path(file.name).stem, "", file.name, reason=reason)
            if not page.reason and seen and not seen.namespace:
                # no box to read, but what it is about may still type a link to it
                yield _unread(page.raw, facts)
            else:
                yield facts


def _unread(raw: bytes, facts: PageFacts) -> PageFacts:
    facts.unspecific, facts.told_type, named = unread_topic(raw, facts.title)
    facts.reason = named or facts.reason
    return facts


def _in_order(jobs: Iterable[PageFacts | RawPage], workers: int) -> Iterator[PageFacts]:
    """The outcome of each job in the order of the jobs; bytes are read by `workers` processes, a few chunks ahead."""
    if workers == 1:
        for job in jobs:
            yield _read(job) if isinstance(job, RawPage) else job
        return
    # spawned: a fork would copy this process's threads' locks
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        pending: deque[tuple[list[PageFacts | RawPage], Future[list[PageFacts]]]] = deque()
        for chunk in _chunks(jobs):
            pending.append((chunk, pool.submit(_read_chunk, [job for job in chunk if isinstance(job, RawPage)])))
            if len(pending) > 4 * workers:
                yield from _merged(*pending.popleft())
        while pending:
            yield from _merged(*pending.popleft())


def _merged(chunk: list[PageFacts | RawPage], future: Future[list[PageFacts]]) -> Iterator[PageFacts]:
    read = iter(future.result())
    for job in chunk:
        yield next(read) if isinstance(job, RawPage) else job


def _chunks(jobs: Iterable[PageFacts | RawPage]) -> Iterator[list[PageFacts | RawPage]]:
    chunk: list[PageFacts | RawPage] = []
    size = 0
    for job in jobs:
        chunk.append(job)
        size += len(job.raw) if isinstance(job, RawPage) else 0
        if len(chunk) >= CHUNK or size > 1 << 20:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _read_chunk(raws: list[RawPage]) -> list[PageFacts]:
    return [_read(raw) for raw in raws]


def _read(raw: RawPage) -> PageFacts:
    stem = Path(raw.file).stem
    page = parse_page(raw.raw, raw.file) if raw.is_xml else wiki_page(raw.raw, raw.file, stem)
    if isinstance(page, Page):
        return read_page(page)
    title = glance(raw.raw).title if raw.is_xml else stem
    return PageFacts(title or stem, "", raw.file, reason=page)


def _bar(total: int) -> tqdm:
    """Bytes of the source; where no terminal is, a line a minute."""
    terminal = sys.stderr.isatty()
    every = 0.5 if terminal else 60.0
    return tqdm(
        total=total, desc="extract", unit="B", unit_scale=True, leave=False, delay=every, mininterval=every
    )  # fmt: skip


def describe(found: Extraction, out: str | Path) -> Iterator[str]:
    """The run in a few lines, for a terminal."""
    for reason, count in sorted(found.skipped.items(), key=lambda entry: (-entry[1], entry[0]))[:20]:
        yield f"skipped {count} {reason}"
    if len(found.skipped) > 20:
        yield f"skipped for {len(found.skipped) - 20} more reasons; see {out}/manifest.json"
    strong = sum(edge["S"] for edge in found.edges.values())
    weak = sum(edge["W"] for edge in found.edges.values())
    yield (
        f"{out}: {sum(found.nodes.values())} nodes, {strong} strong and {weak} weak edges, {found.aliases} aliases "
        f"from {found.read} of {found.pages} pages"
    )
