"""MMLU-Pro: {question_id, question, options [..], answer, answer_index, category, src}, 3 to 10 options."""

from collections.abc import Iterator
from typing import Any

from corl.data.importing.layout import Layout, Part, layout_error, rows_of
from corl.data.importing.rows import Row, text_of
from corl.data.importing.values import letter_at, structured, whole

LAYOUT = Layout(
    name="mmlu_pro",
    columns=(frozenset({"question", "options", "answer", "category"}),),
    wanted="rows with question, options [..], answer, category",
)


def read(parts: list[Part], *, category: str | None = None) -> Iterator[Row]:
    """The rows of the set, those of another category than `category` (in any case) not selected."""
    if category is not None:
        known = {text_of(row.get("category")) for part in parts for row in part.rows}
        if category.strip().casefold() not in {name.casefold() for name in known}:
            raise ValueError(f"category={category!r} is not there; the source has {', '.join(sorted(known)[:30])}")
    for part, place, row in rows_of(parts):
        options, own = structured(row.get("options")), text_of(row.get("category"))
        if options is None:
            options = []
        if not isinstance(options, list) or not all(o is None or isinstance(o, str | int | float) for o in options):
            raise layout_error(place, LAYOUT, row)
        meta = {"category": own, "src": row.get("src"), "split": part.split}
        yield Row(
            place=place,
            native_id=row.get("question_id"),
            question=row.get("question"),
            options=options,
            answer=row.get("answer"),
            bad_gold=_contradiction(row, len(options)),
            meta={key: value for key, value in meta.items() if value},
            selected=category is None or own.casefold() == category.strip().casefold(),
        )


def _contradiction(row: dict[str, Any], count: int) -> str:
    index = whole(row.get("answer_index"))
    if index is None or letter_at(index, count) == text_of(row.get("answer")):
        return ""
    return f"answer is {row.get('answer')}, answer_index {index}"
