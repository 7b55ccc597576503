"""Tiers by a language model: three votes on the three definitions, the middle one where they differ."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from corl.data.items import DIFFICULTIES, Item
from corl.rods.labelling.votes import VoteLog, asked_digest
from corl.rods.teachers.protocol import Message, Teacher, TeacherError
from corl.rods.teachers.running import in_order
from corl.rods.tiering.assign import Verdict

RUBRIC = """Judge how difficult a medical multiple-choice question is for a well-trained physician.

easy: common knowledge. Recalling one fact that every student of medicine meets is enough.
moderate: needs detailed understanding. Facts have to be known precisely and joined in one or two steps of reasoning.
difficult: needs specialised knowledge or several steps of inference, or turns on a rare condition.

Judge the question, not its length. Think briefly, then end with one of these three lines:
tier: easy
tier: moderate
tier: difficult"""
_TIER = re.compile(rf"\btier\W{{0,6}}({'|'.join(DIFFICULTIES)})\b", re.IGNORECASE)
_ALONE = re.compile(rf"\W*({'|'.join(DIFFICULTIES)})\W*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class RubricSettings:
    """name: the teacher's, as in the label check."""

    name: str
    votes: int = 3
    seed: int = 0
    temperature: float = 1.0
    max_tokens: int = 2048
    width: int = 32

    def __post_init__(self) -> None:
        if self.votes < 1:
            raise ValueError(f"--votes {self.votes}; ask for at least one")


async def by_rubric(items: Sequence[Item], teacher: Teacher, log_file: Path, settings: RubricSettings) -> list[Verdict]:
    """A verdict an item; votes go to `log_file` as they come in and are not asked for again."""
    with VoteLog(log_file) as log:

        async def work(item: Item) -> Verdict:
            return await _verdict(item, teacher, log, settings)

        return await in_order(items, work, width=settings.width, purpose="tiers")


def rubric_messages(item: Item) -> list[Message]:
    """The key is not shown: whoever sees it finds every question easier."""
    options = "\n".join(f"{letter}. {text}" for letter, text in item.options.items())
    asked = "\n\n".join([*([item.context] if item.context else []), item.question, options])
    return [{"role": "system", "content": RUBRIC}, {"role": "user", "content": asked}]


def read_tier(text: str) -> str | None:
    """The last "tier: .." behind the thinking, or a text that is nothing but a tier; None for anything else."""
    said = text.rpartition("</think>")[2]
    found = _TIER.findall(said)
    alone = _ALONE.fullmatch(said)
    return found[-1].lower() if found else alone[1].lower() if alone else None


def decided(votes: Sequence[str | None]) -> str | None:
    """The most frequent tier, of several the median vote (the harder of two); None without a readable vote."""
    places = sorted(DIFFICULTIES.index(vote) for vote in votes if vote is not None)
    if not places:
        return None
    counts = [places.count(place) for place in range(len(DIFFICULTIES))]
    best = [place for place, count in enumerate(counts) if count == max(counts)]
    return DIFFICULTIES[best[0] if len(best) == 1 else places[len(places) // 2]]


async def _verdict(item: Item, teacher: Teacher, log: VoteLog, settings: RubricSettings) -> Verdict:
    messages = rubric_messages(item)
    asked = asked_digest(messages, teacher=settings.name, temperature=settings.temperature, tokens=settings.max_tokens)
    votes: list[str | None] = []
    for trial in range(settings.votes):
        if not log.has(item.id, trial, asked):
            key = f"tier:{settings.seed}:{trial}:{item.id}"
            try:
                texts = await teacher.complete(
                    messages, key=key, n=1, temperature=settings.temperature, max_tokens=settings.max_tokens
                )
            except TeacherError:
                return Verdict(None, {})
            log.add(item.id, trial, asked, read_tier(texts[0]) if texts else None)
        votes.append(log.vote(item.id, trial, asked))
    return Verdict(decided(votes), {"votes": votes})
