"""CMExam: {Question, Options, Answer, Explanation, ..}, Chinese, some rows with several answers or none.

Never run on the real file. The authors' tables are GB18030 or UTF-8 and hold all options of a row in one cell, a line
each, parted by \\n or \\r\\n; the hub's copy has a list of {key, value}.
"""

from collections.abc import Iterator
from typing import Any

from corl.data.importing.layout import Layout, Part, layout_error, rows_of
from corl.data.importing.rows import Row
from corl.data.importing.values import by_letter, from_text, gold_letters

LAYOUT = Layout(
    name="cmexam",
    columns=(frozenset({"Question", "Options", "Answer"}),),
    encodings=("utf-8", "gb18030"),
    wanted="rows with Question, Options, Answer",
)


def read(parts: list[Part]) -> Iterator[Row]:
    for part, place, row in rows_of(parts):
        options = options_of(row.get("Options"))
        if options is None:
            raise layout_error(place, LAYOUT, row)
        yield Row(
            place=place,
            native_id=row.get("id"),
            question=row.get("Question"),
            options=options,
            answer=gold_letters(row.get("Answer")),
            lang="zh",
            meta={"split": part.split} if part.split else {},
        )


def options_of(value: Any) -> list[Any] | None:
    """Options of any shape: by letter, a list of texts, or one text; None for what is none of these."""
    if value is None or value != value:  # NaN
        return []
    if (lettered := by_letter(value)) is not None:
        return lettered
    if isinstance(value, list) and all(isinstance(text, str) for text in value):
        return value
    return from_text(value) if isinstance(value, str) else None
