"""Items to traces by a teacher: pass@k selection, refinement, and in the end, for few, the label told.

Nothing is kept beside the store of requests: a run that was killed or stopped for its budget repeats its decisions from
the answers it has, and ends with the same files as one that was not.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from corl.data.items import Item, Trace
from corl.grading import grade
from corl.rods.cot.checks import Bounds, check_completion
from corl.rods.cot.checks.completion import thought
from corl.rods.cot.prompts import ask_messages, told_messages
from corl.rods.cot.refinement import refine
from corl.rods.cot.selection import Sample, closest, pass_at, select
from corl.rods.teachers.budget import OverBudget
from corl.rods.teachers.protocol import TeacherError
from corl.rods.teachers.running import in_order
from corl.rods.teachers.stored import StoredTeacher

TRACE, FAILED, BUDGET = "trace", "failed", "budget"
Names = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Distilling:
    """samples an item without its label; strategies on a failed attempt (depth), failed attempts taken up (tries);
    `told_samples` with the label, and the most of the file that may come of them."""

    samples: int = 8
    depth: int = 3
    tries: int = 2
    told_samples: int = 2
    told_share: float = 0.2
    temperature: float = 0.8
    max_tokens: int = 2048
    bounds: Bounds = field(default_factory=Bounds)

    def __post_init__(self) -> None:
        for name, least in (("samples", 1), ("depth", 0), ("tries", 0), ("told_samples", 0), ("max_tokens", 1)):
            if (value := getattr(self, name)) < least:
                raise ValueError(f"{name}={value} must be at least {least}")
        if not 0 <= self.told_share <= 1:
            raise ValueError(f"told_share={self.told_share} must lie in [0, 1]")
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature={self.temperature} must be a finite number >= 0")
        if self.temperature == 0 and self.samples > 1:
            raise ValueError(f"k={self.samples} samples at temperature 0 are all alike; use 1 or a temperature above 0")


def bounds_from(words: str) -> Bounds:
    """Bounds with the words of "FEWEST:MOST". Raises ValueError for anything else."""
    fewest, colon, most = words.partition(":")
    if not (colon and fewest.isdecimal() and most.isdecimal()):
        raise ValueError(f"--words {words}: give FEWEST:MOST, as 20:500")
    return Bounds(fewest_words=int(fewest), most_words=int(most))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an item: a trace and how it was come by, or none and why."""

    id: str
    outcome: str
    how: str
    samples: int = 0
    right: int = 0
    sound: int = 0


@dataclass(frozen=True, slots=True)
class _Done:
    outcome: Outcome
    trace: Trace | None = None
    may_be_told: bool = False


async def distill(
    items: Sequence[Item],
    teacher: StoredTeacher,
    settings: Distilling,
    *,
    names: Mapping[str, Names] | None = None,
    width: int = 32,
) -> tuple[list[Trace], list[Outcome]]:
    """Traces in item order, and an outcome for every item.

    names  by item id, every name of its masked nodes
    """
    known = names or {}
    done = await in_order(
        items,
        lambda item: _first_pass(item, teacher, settings, known.get(item.id)),
        width=width,
        teacher=teacher,
        purpose="distil",
    )
    # The cap needs the number of the others, and which items fill it must not depend on who was answered first: so
    # many are asked in item order as there is room for, and again while some of them fail.
    unaided = sum(one.trace is not None for one in done)
    room = _most_told(settings.told_share, unaided, len(items))
    waiting = [index for index, one in enumerate(done) if one.may_be_told and settings.told_samples]
    while waiting and room > 0:
        turn, waiting = waiting[:room], waiting[room:]
        told = await in_order(
            turn,
            lambda index: _told(items[index], done[index].outcome, teacher, settings, known.get(items[index].id)),
            width=width,
            teacher=teacher,
            purpose="distil, label told",
        )
        for index, one in zip(turn, told, strict=True):
            done[index] = one
            room -= one.trace is not None
    for index in waiting:
        was = done[index].outcome
        reason = f"{was.how}; the share of label-conditioned traces is full"
        done[index] = _Done(Outcome(was.id, FAILED, reason, was.samples, was.right, was.sound))
    return [one.trace for one in done if one.trace is not None], [one.outcome for one in done]


def _most_told(share: float, unaided: int, items: int) -> int:
    """The largest number t of label-conditioned traces with t <= share * (unaided + t)."""
    return items if share == 1 else int(share * unaided / (1 - share) + 1e-9)


async def _first_pass(item: Item, teacher: StoredTeacher, settings: Distilling, names: Names | None) -> _Done:
    samples: list[Sample] = []

    def judge(text: str) -> dict[str, Any]:
        return check_completion(item, text, settings.bounds, names=names)

    def outcome(kind: str, how: str) -> Outcome:
        right, sound = (sum(getattr(sample, what) for sample in samples) for what in ("right", "sound"))
        return Outcome(item.id, kind, how, len(samples), right, sound)

    try:
        texts = await teacher.complete(
            ask_messages(item, most_words=settings.bounds.most_words),
            key=f"cot:{item.id}",
            n=settings.samples,
            temperature=settings.temperature,
            max_tokens=settings.max_tokens,
        )
        await asyncio.sleep(0)  # answers from the store never wait: give others their turn
        samples += [Sample(text, judge(text)) for text in texts]
        if (selected := select(samples)) is not None:
            chosen, how = selected
            return _Done(outcome(TRACE, how), _trace(item, chosen, teacher, samples, {"how": how}))
        refined = await refine(
            teacher,
            item,
            closest(samples),
            judge,
            settings.bounds,
            depth=settings.depth,
            tries=settings.tries,
            temperature=settings.temperature,
            max_tokens=settings.max_tokens,
        )
        if refined is not None:
            story = {"how": "refined", "strategies": list(refined.strategies), "tries": refined.tries}
            return _Done(outcome(TRACE, "refined"), _trace(item, refined.sample, teacher, samples, story))
        nearest = closest(samples)[0].checks["failed"]
        return _Done(outcome(FAILED, f"no sound completion (nearest fails {', '.join(nearest)})"), may_be_told=True)
    except OverBudget as error:
        return _Done(outcome(BUDGET, str(error)))
    except TeacherError as error:
        return _Done(outcome(FAILED, str(error)))


async def _told(item: Item, was: Outcome, teacher: StoredTeacher, settings: Distilling, names: Names | None) -> _Done:
    try:
        texts = await teacher.complete(
            told_messages(item, most_words=settings.bounds.most_words),
            key=f"told:{item.id}",
            n=settings.told_samples,
            temperature=settings.temperature,
            max_tokens=settings.max_tokens,
        )
    except OverBudget as error:
        return _Done(Outcome(item.id, BUDGET, str(error), was.samples, was.right, was.sound))
    except TeacherError as error:
        return _Done(Outcome(item.id, FAILED, str(error), was.samples, was.right, was.sound))
    samples = [Sample(text, check_completion(item, text, settings.bounds, names=names)) for text in texts]
    if (selected := select(samples)) is None:
        nearest = closest(samples)[0].checks["failed"]
        reason = f"no sound completion, even with the label (nearest fails {', '.join(nearest)})"
        return _Done(Outcome(item.id, FAILED, reason, was.samples, was.right, was.sound))
    counts = {"samples": was.samples, "right": was.right, "sound": was.sound}
    trace = _trace(item, selected[0], teacher, (), {"how": "label_conditioned"} | counts, told=True)
    return _Done(Outcome(item.id, TRACE, "label_conditioned", was.samples, was.right, was.sound), trace)


def _trace(
    item: Item,
    sample: Sample,
    teacher: StoredTeacher,
    samples: Sequence[Sample],
    story: dict[str, Any],
    *,
    told: bool = False,
) -> Trace:
    """A sound sample in the one form that traces have, its checks with where it came from."""
    letter = grade(sample.text, item.options, item.answer).extracted
    assert letter == item.answer, f"item {item.id!r}: {letter} passed for {item.answer}"
    completion = f"<think>{thought(sample.text).strip()}</think>\n<answer>{letter}</answer>"
    selection = dict(story)
    if samples:
        right = sum(one.right for one in samples)
        selection |= {"samples": len(samples), "right": right, "sound": sum(one.sound for one in samples)}
        selection["pass@k"] = {
            str(k): round(pass_at(k, len(samples), right), 4) for k in (1, 2, 4, 8, 16) if k <= len(samples)
        }
    checks = {name: value for name, value in sample.checks.items() if name != "failed"}
    return Trace(item, completion, teacher.name, checks | {"selection": selection}, label_conditioned=told)
