"""JMED: {question, options {"A" .. "U"}, answer}, Chinese, 21 options, the last "none of the above".

Never run on the real file; known from a reader of it in an evaluation suite, where `answer` is indexed with [0]: a
letter or a list of letters.
"""

from collections.abc import Iterator

from corl.data.importing.layout import Layout, Part, layout_error, rows_of
from corl.data.importing.rows import Row
from corl.data.importing.values import by_letter, gold_letters

LAYOUT = Layout(
    name="jmed",
    columns=(frozenset({"question", "options", "answer"}),),
    foreign=(frozenset({"answer_idx"}), frozenset({"source", "lang", "meta"})),  # medqa, our own items
    wanted="rows with question, options {A: .. U: ..}, answer",
)


def read(parts: list[Part]) -> Iterator[Row]:
    for part, place, row in rows_of(parts):
        options = by_letter(row.get("options"))
        if options is None:
            raise layout_error(place, LAYOUT, row)
        yield Row(
            place=place,
            native_id=row.get("id"),
            question=row.get("question"),
            options=options,
            answer=gold_letters(row.get("answer")),
            lang="zh",
            meta={"split": part.split} if part.split else {},
        )
