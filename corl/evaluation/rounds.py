"""Answers from the engine, in rounds: lines appear while it works, its rows stay full, a kill changes nothing.

A round ends once a number of items are finished; they are written, and what the others have so far goes on in the next
round: no round waits for its longest completion. A round is a function of the lines of the rounds before and of
unfinished.json. One that a kill cut short is repeated from there by the same call of the engine, and the lines that it
had written already stay: a killed and a whole run agree to the last bit.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from corl.data.items import Item, write_whole
from corl.evaluation.answers import Answer, AnswerLog, graded_answer
from corl.observe.progress import sample_bar
from corl.rollout.request import Carried, Completion, Request

UNFINISHED = "unfinished.json"
FILLS = 4  # items of a round, in rows of the engine: what is unfinished at its end goes through the model once more


@dataclass(frozen=True, slots=True)
class Question:
    """An item as the model is asked it: `item` with the options in the order shown, the prompt's ids, the room for an
    answer."""

    item: Item
    set_key: str
    ids: list[int]
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Decoding:
    samples: int
    temperature: float
    top_p: float


class Generates(Protocol):
    """corl.Engine, as far as an evaluation needs it."""

    max_seqs: int

    def generate(self, requests: Sequence[Request], **keywords: Any) -> list[Completion]: ...


class Decodes(Protocol):
    """corl.data.tokenizer.Tokenizer, as far as an evaluation needs it."""

    stop_ids: tuple[int, ...]

    def decode(self, ids: Sequence[int], /) -> str: ...


@dataclass(frozen=True, slots=True)
class _Start:
    """Where a round begins, as unfinished.json tells it: its number, and by item id what the samples of items have that
    earlier rounds left unfinished, each [ids, finish reason]."""

    round: int
    carried: dict[str, list[list[Any]]]

    def carried_of(self, names: Sequence[str]) -> dict[str, Carried]:
        return {
            name: Carried(
                step=0,
                completions=[
                    Completion(name, sample, ids, [0.0] * len(ids), reason)  # nobody reads the log-probs
                    for sample, (ids, reason) in enumerate(self.carried[name])
                ],
            )
            for name in names
            if name in self.carried
        }


def generate_answers(
    engine: Generates,
    tokenizer: Decodes,
    questions: Sequence[Question],
    decoding: Decoding,
    log: AnswerLog,
    folder: Path,
    *,
    prefill: str,
) -> None:
    """Generate, grade and append to `log` until every question has its line.

    prefill  what every prompt has put into the model's mouth, graded with each completion
    """
    if len(log.answers) == len(questions):
        return
    rows = -(-engine.max_seqs // decoding.samples)
    start = _read_start(folder, log.answers)
    done = {answer.id for answer in log.answers if answer.round < start.round}
    waiting = [question for question in questions if question.item.id not in done]
    with sample_bar("eval", len(waiting) * decoding.samples, shown=True) as bar:
        while waiting:
            asked = waiting[: (FILLS + 1) * rows + 1]  # more than a round can begin, so no row is ever idle for want
            requests = [_request(question, decoding, tokenizer.stop_ids) for question in asked]
            names = [question.item.id for question in asked]
            completions = engine.generate(
                requests,
                on_finished=bar.update,
                carried=start.carried_of(names),
                enough=min(FILLS * rows, len(asked)),
            )
            groups = dict(zip(names, _grouped(completions, decoding.samples), strict=True))
            finished = {name for name, group in groups.items() if all(c.finish_reason != "carried" for c in group)}
            written = {answer.id for answer in log.answers}
            log.append(
                _answer(question, groups[question.item.id], tokenizer, prefill, start.round)
                for question in asked
                if question.item.id in finished - written
            )
            begun = {
                name: [[completion.ids, completion.finish_reason] for completion in group]
                for name, group in groups.items()
                if name not in finished and any(completion.ids for completion in group)
            }
            start = _Start(start.round + 1, begun)
            write_whole(folder / UNFINISHED, [json.dumps(asdict(start)).encode() + b"\n"])
            waiting = [question for question in waiting if question.item.id not in finished]
    (folder / UNFINISHED).unlink(missing_ok=True)


def _request(question: Question, decoding: Decoding, stop_ids: tuple[int, ...]) -> Request:
    return Request(
        prompt_ids=question.ids,
        n=decoding.samples,
        max_tokens=question.max_tokens,
        temperature=decoding.temperature,
        top_p=decoding.top_p,
        stop_ids=stop_ids,
        id=question.item.id,
    )


def _answer(question: Question, group: list[Completion], tokenizer: Decodes, prefill: str, round_: int) -> Answer:
    return graded_answer(
        question.item,
        question.set_key,
        [tokenizer.decode(completion.ids) for completion in group],
        tokens=[len(completion.ids) for completion in group],
        finish_reasons=[completion.finish_reason for completion in group],
        prefills=[prefill] * len(group),
        round_=round_,
    )


def _grouped(completions: Sequence[Completion], samples: int) -> Iterator[list[Completion]]:
    return (list(completions[k : k + samples]) for k in range(0, len(completions), samples))


def _read_start(folder: Path, answers: Sequence[Answer]) -> _Start:
    path = folder / UNFINISHED
    if not path.is_file():
        # The first round writes none before its end; later ones lack it only where someone removed it.
        last = max((answer.round for answer in answers), default=0)
        return _Start(last + 1 if last else 0, {})
    try:
        start = _Start(**json.loads(path.read_bytes()))
        start.carried_of(list(start.carried))
        return _Start(int(start.round), start.carried)
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}: damaged ({error}); remove it, the items in it are then asked from the start"
        ) from error
