"""One step of the crawl: a batch of pages asked for and sorted, or a waiting page visited. Each title gets one line."""

from collections.abc import Iterator
from typing import Any

from corl.rods.agent.frontier import Candidate, Frontier
from corl.rods.agent.reading import Link, key_of, read
from corl.rods.agent.scoring import POINT, Score
from corl.rods.agent.sources import Fetched, Source


def fetch_batch(frontier: Frontier, source: Source, batch: int, floor: int) -> Iterator[str]:
    """Ask for the best unread pages. What has no box to read is done with; the others wait at what they are worth."""
    asked = [candidate.key for candidate in frontier.unread(batch, floor)]
    answered: set[str] = set()
    while asked:
        found = source.fetch(asked)
        followed: list[str] = []
        for page in found:
            key = key_of(page.title) or page.title
            if key in answered:
                continue
            answered.add(key)
            yield from _settle(frontier, key, page, followed)
        for key in asked:
            if key not in answered:  # an answer without it: never ask again
                answered.add(key)
                yield from _settle(frontier, key, Fetched(key, "unanswered"), followed)
        asked = [key for key in dict.fromkeys(followed) if key not in answered and frontier.find(key)]


def _settle(frontier: Frontier, key: str, page: Fetched, followed: list[str]) -> Iterator[str]:
    candidate = frontier.find(key)
    if candidate is None or candidate.fetched:
        return  # a redirect's target that was here before
    outcome, kind, revision, target = page.outcome, "", "", key_of(page.target)
    if outcome == "page":
        reading = read(page.raw, page.title)
        outcome, revision, target = reading.outcome, reading.revision, reading.redirect
        if outcome == "entity" and page.disambiguation:
            outcome = "disambiguation"  # by the wiki's word, not by its template: kept out of the output
        elif outcome == "entity":
            frontier.wait(key, page.raw, reading)
            for name, raw in page.redirects:
                frontier.keep_redirect(key_of(name), key, raw)
            return
        elif target:
            frontier.keep_redirect(key, target, page.raw)
        elif outcome != "malformed_xml":
            frontier.keep(key, page.raw)
        if target == "#":
            outcome, target = "redirect_elsewhere", ""  # to a section or another namespace: names no article
    if target and (target == key or _leads_to(frontier, target, key)):
        outcome, target = "redirect_circle", ""
    elif target:
        frontier.close_page(key, target)
        slot = Link(target, candidate.score.type, "redirect")
        frontier.add_link(slot, key, candidate.depth)
        followed.append(target)
    frontier.close_page(key, target)
    line = _line(candidate, page.title, revision, outcome)
    if target:
        line["target"] = target
    yield frontier.log(key, outcome, candidate.slot, kind, "", line)


def _leads_to(frontier: Frontier, start: str, end: str) -> bool:
    seen = set()
    while start and start not in seen:
        seen.add(start)
        start = frontier.target_of(start)
        if start == end:
            return True
    return False


def visit(frontier: Frontier, candidate: Candidate) -> str:
    reading = frontier.reading(candidate.key)
    frontier.close_page(candidate.key)
    nodes, edges, strong = frontier.add_facts(reading, candidate.key)
    queued = sum(frontier.add_link(link, candidate.key, candidate.depth + 1) for link in reading.links)
    line = _line(candidate, reading.title, reading.revision, "entity")
    line |= {
        "type": reading.type,
        "rarity": reading.rarity or None,
        "gained": {"nodes": nodes, "edges": edges, "strong": strong, "queued": queued},
    }
    return frontier.log(candidate.key, "entity", candidate.slot, reading.type, reading.rarity, line)


def _line(candidate: Candidate, title: str, revision: str, outcome: str) -> dict[str, Any]:
    why = {"slot": candidate.slot, "from": candidate.via or None, "depth": candidate.depth, "links": candidate.links}
    return {
        "title": title,
        "revision": revision or None,
        "outcome": outcome,
        "score": candidate.score.total / POINT,
        "parts": _parts(candidate.score),
        "why": why,
        "gained": {"nodes": 0, "edges": 0, "strong": 0, "queued": 0},
    }


def _parts(score: Score) -> dict[str, float]:
    """As they are added up: depth is negative."""
    return {
        "type": score.type / POINT,
        "rarity": score.rarity / POINT,
        "novelty": score.novelty / POINT,
        "depth": -score.depth / POINT,
    }
