"""answers.jsonl: one line per finished item with its graded completions, appended while an evaluation runs."""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from corl.data.items import Item
from corl.grading import grade

ANSWERS = "answers.jsonl"


@dataclass(frozen=True, slots=True)
class Answer:
    """An item's completions in sample order, and their grades; every list has one entry a sample.

    set             the key of its item set
    gold            in the letters the model was shown, as `extracted` is
    question        16 hex digits of question, context and option texts, whatever their order
    prefill         what the prompt had said already; graded with the completion
    tokens          of each completion, its stop token included; null where that is not known
    finish_reasons  "stop", "length", or null where that is not known
    round           of the generation that finished it (see rounds.py)
    """

    id: str
    set: str
    gold: str
    question: str
    prefill: list[str]
    completions: list[str]
    tokens: list[int | None]
    finish_reasons: list[str | None]
    extracted: list[str | None]
    correct: list[bool]
    format_ok: list[bool]
    round: int


def graded_answer(
    item: Item,
    set_key: str,
    completions: Sequence[str],
    *,
    tokens: Sequence[int | None],
    finish_reasons: Sequence[str | None],
    prefills: Sequence[str],
    round_: int = 0,
) -> Answer:
    """`item` with its options as the model was shown them."""
    grades = [
        grade(text, item.options, item.answer, prefill=prefill)
        for text, prefill in zip(completions, prefills, strict=True)
    ]
    return Answer(
        item.id,
        set_key,
        item.answer,
        question_hash(item),
        list(prefills),
        list(completions),
        list(tokens),
        list(finish_reasons),
        [g.extracted for g in grades],
        [g.correct for g in grades],
        [g.format_ok for g in grades],
        round_,
    )


def question_hash(item: Item) -> str:
    text = json.dumps([item.context, item.question, sorted(item.options.values())])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def answer_line(answer: Answer) -> bytes:
    try:
        return json.dumps(asdict(answer), ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # half a surrogate pair in a recorded completion, legal in JSON as an escape only
        return json.dumps(asdict(answer)).encode() + b"\n"


def read_answers(folder: Path) -> list[Answer]:
    """The complete lines of a folder's answers.jsonl; a last line that a kill cut short is left out. [] without a file.

    Raises ValueError naming the line that is damaged, or an item that two lines answer.
    """
    path = folder / ANSWERS
    if not path.is_file():
        return []
    answers: list[Answer] = []
    seen: dict[str, int] = {}
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                break
            try:
                answer = _answer_from(json.loads(line))
            except ValueError as error:
                raise ValueError(
                    f"{path}, line {number}: no answer ({error}); remove the line, its item is then asked again"
                ) from error
            if answer.id in seen:
                raise ValueError(f"{path}, line {number}: item {answer.id!r} is on line {seen[answer.id]} already")
            seen[answer.id] = number
            answers.append(answer)
    return answers


class AnswerLog:
    """Appends to a folder's answers.jsonl, and is the only one to: a second process gets a ValueError.

    answers  what is there, also from before; a torn last line is cut off
    """

    def __init__(self, folder: Path) -> None:
        self.answers = read_answers(folder)
        self._file = (folder / ANSWERS).open("ab")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"{folder}: another `corl eval` is writing there; wait for it or choose another --out"
            ) from None
        self.answers = read_answers(folder)  # again: now nobody else writes
        self._file.truncate(sum(len(line) for line in _complete_lines(folder / ANSWERS)))

    def append(self, answers: Iterable[Answer]) -> None:
        """On disk when it returns."""
        for answer in answers:
            self._file.write(answer_line(answer))
            self.answers.append(answer)
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def _complete_lines(path: Path) -> Iterable[bytes]:
    with path.open("rb") as file:
        yield from (line for line in file if line.endswith(b"\n"))


def _answer_from(record: Any) -> Answer:
    names = {field.name for field in fields(Answer)}
    if not isinstance(record, dict) or record.keys() != names:
        raise ValueError(f"it needs the keys {', '.join(sorted(names))}")
    answer = Answer(**record)
    texts = (answer.id, answer.set, answer.gold, answer.question)
    lists = (
        answer.prefill,
        answer.completions,
        answer.tokens,
        answer.finish_reasons,
        answer.extracted,
        answer.correct,
        answer.format_ok,
    )
    well = all(isinstance(text, str) for text in texts) and all(isinstance(values, list) for values in lists)
    if (
        not well
        or not answer.completions
        or len({len(values) for values in lists}) > 1
        or type(answer.round) is not int
    ):
        raise ValueError("its values do not have the types and lengths of an answer")
    return answer
