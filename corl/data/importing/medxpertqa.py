"""MedXpertQA, the text set: {id, question, options, label, medical_task, body_system, question_type}, ten options.

`options` is an object by letter or a list of {letter, content}, `label` a letter or a list of it. Some copies repeat
the options at the end of the stem, after "Answer Choices:"; they are cut off where they say the same options.
"""

import re
from collections.abc import Iterator
from typing import Any

from corl.data.importing.layout import Layout, Part, layout_error, rows_of
from corl.data.importing.rows import Row, text_of
from corl.data.importing.values import LETTERS, by_letter, gold_letters

LAYOUT = Layout(
    name="medxpertqa",
    columns=(frozenset({"question", "options", "label"}),),
    foreign=(frozenset({"images"}),),  # the multimodal half has the same columns and these
    wanted="rows with question, options {A: ..} or [{letter, content}], label, and no images",
    hub={"TsinghuaC3I/MedXpertQA": "Text"},
)
MARKER = "Answer Choices:"


def read(parts: list[Part]) -> Iterator[Row]:
    for part, place, row in rows_of(parts):
        options, stem = by_letter(row.get("options")), row.get("question")
        if options is None:
            raise layout_error(place, LAYOUT, row)
        cut = _without_options(stem, options) if isinstance(stem, str) else stem
        meta = {key: row.get(key) for key in ("medical_task", "body_system", "question_type")} | {"split": part.split}
        yield Row(
            place=place,
            native_id=row.get("id"),
            question=cut,
            options=options,
            answer=gold_letters(row.get("label")),
            meta={key: value for key, value in meta.items() if value},
            changes=() if cut == stem else ("the list of options after the stem is cut off",),
        )


def _without_options(stem: str, options: list[Any]) -> str:
    before, marker, after = stem.rpartition(MARKER)
    while marker and _lists(" ".join(after.split()), options):
        stem = before
        before, marker, after = stem.rpartition(MARKER)
    return stem


def _lists(text: str, options: list[Any]) -> bool:
    """Whether a text is nothing but the options, each after its letter: (A) x (B) y, or A. x B. y."""
    for letter, option in zip(LETTERS, options, strict=False):
        label = re.match(rf"[ ,;]*\(?{letter}[).:]\s*", text)
        rest = text[label.end() :] if label else ""
        own = " ".join(text_of(option).split())
        if not label or not rest.startswith(own):
            return False
        text = rest[len(own) :]
    return bool(options) and not text.strip(" ,;")
