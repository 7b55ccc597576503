"""Recorded completions of a file, graded as if the engine had made them.

A JSON line is {"id": item id, "completion": text} or {"id", "completions": [text, ..]}; several lines of an id are its
samples in file order. Where there, "tokens" and "finish_reason" (or "finish_reasons"), one or a list like the texts,
and "prefill" (what the prompt had already said, graded with the text) are used; everything else is ignored. So an
answers.jsonl of another evaluation is such a file.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from corl.data.items import Item
from corl.evaluation.answers import Answer, graded_answer
from corl.evaluation.item_sets import ItemSet


@dataclass(slots=True)
class Recorded:
    """The samples of one item."""

    texts: list[str] = field(default_factory=list)
    tokens: list[int | None] = field(default_factory=list)
    finish_reasons: list[str | None] = field(default_factory=list)
    prefills: list[str] = field(default_factory=list)


def read_completions(path: str | Path) -> dict[str, Recorded]:
    """By item id. Raises ValueError naming file and line when one is not as the module says, or the file is empty."""
    found: dict[str, Recorded] = {}
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                _add(json.loads(line.decode("utf-8-sig")), found)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{path}, line {number}: {error}") from error
    if not found:
        raise ValueError(f'{path} is empty; it needs lines {{"id": .., "completion": ..}}')
    return found


def answers_from(
    recorded: dict[str, Recorded],
    sets: Sequence[ItemSet],
    *,
    source: str | Path,
    samples: int | None,
    count_tokens: Callable[[str], int] | None,
    show: Callable[[Item], Item],
) -> list[Answer]:
    """The graded answers of those items that have completions, in the sets' order.

    samples       how many every item must have; None: as many as the first one has
    count_tokens  length of a text whose line does not tell it
    show          the item as the model saw it, its options maybe in another order
    Raises ValueError when no item has any, or one has too few or too many.
    """
    answers = []
    for item_set in sets:
        for item in item_set.items:
            made = recorded.get(item.id)
            if made is None:
                continue
            samples = samples or len(made.texts)
            if len(made.texts) != samples:
                raise ValueError(
                    f"{source}: item {item.id!r} has {len(made.texts)} completions instead of {samples}; give every "
                    "item as many"
                )
            counted = [
                count_tokens(text) if count is None and count_tokens is not None else count
                for text, count in zip(made.texts, made.tokens, strict=True)
            ]
            answers.append(
                graded_answer(
                    show(item),
                    item_set.key,
                    made.texts,
                    tokens=counted,
                    finish_reasons=made.finish_reasons,
                    prefills=made.prefills,
                )
            )
    if not answers:
        first = next(iter(recorded))
        raise ValueError(
            f"{source}: none of its {len(recorded)} ids is an item's, the first is {first!r}; name the items that the "
            "completions are of"
        )
    return answers


def _add(record: Any, found: dict[str, Recorded]) -> None:
    if not isinstance(record, dict) or not isinstance(record.get("id"), str):
        raise ValueError('expected an object with "id", the item\'s')
    if ("completion" in record) == ("completions" in record):
        raise ValueError('it needs one of "completion" (a text) and "completions" (a list of texts)')
    texts = record["completions"] if "completions" in record else [record["completion"]]
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError("its completions must be texts, at least one")
    tokens = _each(record, ("tokens",), len(texts), lambda value: type(value) is int and value >= 0)
    reasons = _each(record, ("finish_reasons", "finish_reason"), len(texts), lambda value: isinstance(value, str))
    prefills = _each(record, ("prefill",), len(texts), lambda value: isinstance(value, str))
    made = found.setdefault(record["id"], Recorded())
    made.texts += texts
    made.tokens += tokens
    made.finish_reasons += reasons
    made.prefills += [prefill or "" for prefill in prefills]


def _each(record: dict[str, Any], keys: tuple[str, ...], count: int, fits: Callable[[Any], bool]) -> list[Any]:
    """The value of the first key that is there, for each of `count` texts; None where there is none."""
    value = next((record[key] for key in keys if key in record), None)
    values = value if isinstance(value, list) else [value] * count
    if len(values) != count or not all(inner is None or fits(inner) for inner in values):
        raise ValueError(f"{keys[0]} is {value!r}; give one that fits every text, or null")
    return values
