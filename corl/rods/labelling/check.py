"""The label check: every item answered several times, its options in another order each time.

An item that is right less often than `least_right` (never, by default) goes to review with what was answered instead.
Nothing is relabelled here.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from corl.data.checking import check_places
from corl.data.items import Item, read_items, write_items
from corl.data.prompts import prompt_messages
from corl.data.shuffle import shuffle_options
from corl.grading import grade
from corl.rods.filtering.manifest import inputs, versions, write_json, write_lines
from corl.rods.labelling.votes import VoteLog, asked_digest
from corl.rods.teachers.protocol import Message, Teacher, TeacherError
from corl.rods.teachers.running import in_order

KEPT, REVIEW, UNANSWERED, ANSWERS, MANIFEST = (
    "kept.jsonl", "review.jsonl", "unanswered.jsonl", "answers.jsonl", "manifest.json"
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LabelSettings:
    """name: the teacher's; answers of another one, or under other settings, are not taken for these."""

    name: str
    trials: int = 5
    least_right: int = 1
    seed: int = 0
    temperature: float = 1.0
    max_tokens: int = 4096
    width: int = 32  # items under way together

    def __post_init__(self) -> None:
        if not 1 <= self.least_right <= self.trials:
            raise ValueError(
                f"--trials {self.trials} with --least-right {self.least_right}: give 1 or more, and no more right than "
                "there are trials"
            )


@dataclass(frozen=True, slots=True)
class Tally:
    """What the trials of one item gave. votes: letters of the item as it stands, None where none could be read."""

    item: Item
    votes: tuple[str | None, ...]
    failures: tuple[str, ...]  # of trials that got no answer at all

    @property
    def right(self) -> int:
        return sum(vote == self.item.answer for vote in self.votes)

    @property
    def majority(self) -> str | None:
        """The most frequent letter, the first in the alphabet of several; None where no vote could be read."""
        counts = Counter(vote for vote in self.votes if vote is not None)
        return min(counts, key=lambda vote: (-counts[vote], vote), default=None)

    @property
    def record(self) -> dict[str, Any]:
        """agree: all trials gave one letter, and it is not the label: the label is probably wrong."""
        agree = len(set(self.votes)) == 1 and self.majority is not None
        votes = list(self.votes)
        return {"trials": len(votes), "right": self.right, "votes": votes, "majority": self.majority, "agree": agree}


@dataclass(frozen=True, slots=True)
class LabelReport:
    """read = kept + review + unanswered: items with a failed trial, which the same command started again asks for."""

    read: int
    kept: int
    review: int
    unanswered: int
    right: dict[int, int]  # items by how often they were right
    failures: dict[str, int]

    def __post_init__(self) -> None:
        assert self.read == self.kept + self.review + self.unanswered, self


async def check_labels(
    files: Sequence[str | Path], out: Path, teacher: Teacher, settings: LabelSettings
) -> LabelReport:
    """Write kept, review, unanswered .jsonl and manifest.json into `out`; answers.jsonl there grows as they come in."""
    places = [out / name for name in (KEPT, REVIEW, UNANSWERED, ANSWERS, MANIFEST)]
    check_places(files, places)
    items = _read_all(files)
    with VoteLog(out / ANSWERS) as log:
        tallies = await ask(items, teacher, log, settings)
    return _write(files, out, tallies, settings)


async def ask(items: Sequence[Item], teacher: Teacher, log: VoteLog, settings: LabelSettings) -> list[Tally]:
    """The tally of every item in order, whoever answered first."""

    async def work(item: Item) -> Tally:
        return await _tally(item, teacher, log, settings)

    return await in_order(items, work, width=settings.width, purpose="label check")


async def _tally(item: Item, teacher: Teacher, log: VoteLog, settings: LabelSettings) -> Tally:
    votes: list[str | None] = []
    failures: list[str] = []
    for trial in range(settings.trials):
        shown = shuffle_options(item, seed=settings.seed, epoch=trial)
        messages = prompt_messages(shown)
        asked = asked_digest(
            messages, teacher=settings.name, temperature=settings.temperature, tokens=settings.max_tokens
        )
        if not log.has(item.id, trial, asked):
            try:
                text = await _one(teacher, messages, f"label:{settings.seed}:{trial}:{item.id}", settings)
            except TeacherError as error:
                failures.append(str(error))
                continue
            # the letters of the item as it stands: what the options' order was does not matter to a reader
            letters = grade(text, shown.options, shown.answer).extracted
            log.add(item.id, trial, asked, letters if shown is item else as_it_stands(shown, letters))
        votes.append(log.vote(item.id, trial, asked))
    return Tally(item, tuple(votes), tuple(failures))


async def _one(teacher: Teacher, messages: list[Message], key: str, settings: LabelSettings) -> str:
    texts = await teacher.complete(
        messages, key=key, n=1, temperature=settings.temperature, max_tokens=settings.max_tokens
    )
    if len(texts) != 1:
        raise TeacherError(f"{len(texts)} texts where one was asked for")
    return texts[0]


def as_it_stands(shown: Item, letters: str | None) -> str | None:
    """Letters that name options of the shuffled item, as letters of the item before."""
    if letters is None:
        return None
    before = dict(zip(shown.options, shown.meta["shuffled"]["order"], strict=True))
    return ",".join(sorted(before[letter] for letter in letters.split(",")))


def _write(files: Sequence[str | Path], out: Path, tallies: list[Tally], settings: LabelSettings) -> LabelReport:
    unanswered = [tally for tally in tallies if tally.failures]
    whole = [tally for tally in tallies if not tally.failures]
    review = [tally for tally in whole if tally.right < settings.least_right]
    kept = [tally for tally in whole if tally.right >= settings.least_right]
    report = LabelReport(
        read=len(tallies),
        kept=len(kept),
        review=len(review),
        unanswered=len(unanswered),
        right=dict(sorted(Counter(tally.right for tally in whole).items())),
        failures=dict(Counter(reason for tally in unanswered for reason in tally.failures).most_common(20)),
    )
    (out / MANIFEST).unlink(missing_ok=True)
    write_items(out / KEPT, (replace(t.item, meta={**t.item.meta, "label_check": t.record}) for t in kept))
    write_lines(out / REVIEW, map(_review_record, review))
    write_lines(out / UNANSWERED, ({"item": asdict(t.item), "failures": list(t.failures)} for t in unanswered))
    record = {"inputs": inputs(files), "settings": asdict(settings), "versions": versions()} | asdict(report)
    write_json(out / MANIFEST, record | {"files": inputs([out / KEPT, out / REVIEW, out / UNANSWERED])})
    return report


def _review_record(tally: Tally) -> dict[str, Any]:
    found = tally.record
    seen = "all agree" if found["agree"] else "scattered"
    detail = f"{found['right']} of {found['trials']} right, majority {found['majority'] or 'none'}, {seen}"
    reason = {"code": "label_agrees_on_another" if found["agree"] else "label_never_right", "detail": detail}
    return {"filter": "label", "reasons": [reason], "label_check": found, "item": asdict(tally.item)}


def _read_all(files: Sequence[str | Path]) -> list[Item]:
    items: list[Item] = []
    file_of: dict[str, str | Path] = {}
    for file in files:
        for item in read_items(file):
            if (first := file_of.setdefault(item.id, file)) != file:
                raise ValueError(f"{file}: item {item.id!r} is in {first} already; `corl rods filter` takes one out")
            items.append(item)
    return items


def describe(report: LabelReport, out: Path) -> Iterator[str]:
    for right, count in report.right.items():
        yield f"right {right} times: {count} items"
    for reason, count in report.failures.items():
        yield f"no answer, {count} times: {reason}"
    yield (f"{out}: read {report.read} = kept {report.kept} + review {report.review} + unanswered {report.unanswered}")
