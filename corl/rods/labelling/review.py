"""Decisions on a review file: accept an item as it is, fix its answer, or drop it.

The review file is never changed. Decisions are lines appended to FILE.decisions.jsonl, the last one on an item counts,
and FILE.accepted.jsonl is what follows from both: the accepted and fixed items in the file's order. So a log of
decisions can be replayed on the same review file, and gives the same bytes.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from corl.data.checking import check_places
from corl.data.items import Item, write_items
from corl.rods.filtering.manifest import json_bytes

DECISIONS = ("accept", "fix", "drop")


@dataclass(frozen=True, slots=True)
class Open:
    """A line of a review file."""

    item: Item
    filter: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Decision:
    """digest: of the item decided on; the decision does not hold for another one of the same id."""

    id: str
    decision: str
    answer: str | None
    digest: str


@dataclass(frozen=True, slots=True)
class Progress:
    """items = open + accepted + fixed + dropped."""

    items: int
    open: int
    accepted: int
    fixed: int
    dropped: int


def log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.decisions.jsonl")


def accepted_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.accepted.jsonl")


def decide(path: Path, decision: str, ids: Sequence[str], answer: str | None = None) -> Progress:
    """Log one decision on each of `ids` and write what follows.

    Raises ValueError, with nothing logged, for an id that is not in the file, an answer that is none of the item's
    options, one that changes nothing, and an answer beside another decision than fix.
    """
    waiting = read_review(path)
    if decision not in DECISIONS:
        raise ValueError(f"decision {decision!r}; use one of {', '.join(DECISIONS)}")
    if (decision == "fix") != (answer is not None):
        raise ValueError(f"{decision} {'needs' if answer is None else 'has no'} --answer; give one with fix alone")
    made = []
    for id_ in dict.fromkeys(ids):
        if id_ not in waiting:
            raise ValueError(f"{path}: no item {id_!r} is waiting there; `corl rods review {path}` lists them")
        made.append(Decision(id_, decision, answer, item_digest(waiting[id_].item)))
    _apply(waiting, {each.id: each for each in made})
    earlier = read_decisions(log_of(path))
    _append(log_of(path), made)
    return _settle(path, waiting, [*earlier, *made])


def replay(path: Path, log: Path | None = None) -> Progress:
    """What follows from the review file and a log, by default its own; another one becomes its own.

    Raises ValueError for a decision on an item that is not in the file, or is another one there.
    """
    waiting = read_review(path)
    decisions = read_decisions(log or log_of(path))
    if log is not None and log.resolve() != log_of(path).resolve():
        check_places([path, log], [log_of(path), accepted_of(path)])
        _apply(waiting, {each.id: each for each in decisions})
        _append(log_of(path), [each for each in decisions if each not in read_decisions(log_of(path))])
    return _settle(path, waiting, read_decisions(log_of(path)))


def read_review(path: Path) -> dict[str, Open]:
    """By id, in file order. Raises ValueError naming the line that is none of a review file."""
    found: dict[str, Open] = {}
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); give a review.jsonl") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            reasons = tuple(f"{reason['code']}: {reason['detail']}" for reason in record["reasons"])
            item = Item(**record["item"])
            found[item.id] = Open(item, str(record["filter"]), reasons)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path}, line {number}: not of a review file ({error}); give the review.jsonl of `corl rods filter` "
                "or `corl rods label`"
            ) from error
    return found


def read_decisions(path: Path) -> list[Decision]:
    """[] where there is no log; a last line that a kill cut short does not count."""
    if not path.exists():
        return []
    decisions = []
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
        if not line.endswith(b"\n"):
            break
        try:
            decision = Decision(**json.loads(line))
            if decision.decision not in DECISIONS:
                raise ValueError(f"decision {decision.decision!r}")
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}, line {number}: no decision ({error}); correct or remove the line") from error
        decisions.append(decision)
    return decisions


def item_digest(item: Item) -> str:
    return hashlib.sha256(json_bytes([item.id, item.question, item.options, item.answer])).hexdigest()[:16]


def describe(path: Path) -> Iterator[str]:
    """What is waiting, with why, and how far the decisions are."""
    waiting = read_review(path)
    decided = {each.id for each in read_decisions(log_of(path))}
    for id_, entry in waiting.items():
        if id_ not in decided:
            yield f"{id_}: answer {entry.item.answer}; {entry.filter}: {'; '.join(entry.reasons)}"


def told(path: Path, progress: Progress) -> str:
    counts = (
        f"open {progress.open} + accepted {progress.accepted} + fixed {progress.fixed} + dropped {progress.dropped}"
    )
    return f"{path}: {progress.items} items = {counts}; {accepted_of(path)}: {progress.accepted + progress.fixed} items"


def _settle(path: Path, waiting: dict[str, Open], decisions: Sequence[Decision]) -> Progress:
    last = {each.id: each for each in decisions}
    items = _apply(waiting, last)
    write_items(accepted_of(path), items)
    counts = Counter(each.decision for each in last.values())
    return Progress(len(waiting), len(waiting) - len(last), counts["accept"], counts["fix"], counts["drop"])


def _apply(waiting: dict[str, Open], last: dict[str, Decision]) -> list[Item]:
    """The accepted and fixed items; meta.review says what was decided, and on what answer."""
    for id_, decision in last.items():
        if id_ not in waiting:
            raise ValueError(
                f"a decision is on item {id_!r}, which is not in the review file; replay it on its own file"
            )
        if item_digest(waiting[id_].item) != decision.digest:
            raise ValueError(f"item {id_!r} is not the one that the decision was made on; decide again")
    items = []
    for id_, entry in waiting.items():
        made = last.get(id_)
        if made is None or made.decision == "drop":
            continue
        item, note = entry.item, {"decision": made.decision, "filter": entry.filter}
        if made.decision == "fix":
            if made.answer == item.answer:
                raise ValueError(f"item {id_!r} has answer {item.answer} already; accept it, or give another --answer")
            item, note = replace(item, answer=str(made.answer)), note | {"answer_was": item.answer}
        items.append(replace(item, meta={**item.meta, "review": note}))
    return items


def _append(log: Path, decisions: Sequence[Decision]) -> None:
    """Whole lines, behind whole lines; on disk when it returns."""
    whole = (
        sum(len(line) for line in log.read_bytes().splitlines(keepends=True) if line.endswith(b"\n"))
        if log.exists()
        else 0
    )
    with log.open("ab") as file:
        file.truncate(whole)
        file.write(b"".join(json_bytes(asdict(each)) for each in decisions))
        file.flush()
        os.fsync(file.fileno())
