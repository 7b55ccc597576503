"""Items that are items already, ours or anyone's: {id, source, lang, context, question, options, answer, ..}.

An item keeps its id and its source. Only question, options and answer must be there.
"""

from collections.abc import Iterator

from corl.data.importing.layout import Layout, Part, layout_error, rows_of
from corl.data.importing.rows import Row, text_of
from corl.data.importing.values import by_letter, gold_letters, language, structured
from corl.data.items import DIFFICULTIES

LAYOUT = Layout(
    name="items",
    columns=(frozenset({"question", "options", "answer"}),),
    wanted="rows with question, options {A: ..}, answer, and if there are id, source, lang, context, difficulty, meta",
)


def read(parts: list[Part]) -> Iterator[Row]:
    for _, place, row in rows_of(parts):
        options, meta = by_letter(row.get("options")), structured(row.get("meta")) or {}
        difficulty = row.get("difficulty") or None
        context_fits = isinstance(row.get("context"), str | None)
        if (
            options is None
            or not context_fits
            or not isinstance(meta, dict)
            or not isinstance(meta.get("flags", []), list)
        ):
            raise layout_error(place, LAYOUT, row)
        if difficulty not in (None, *DIFFICULTIES):
            raise ValueError(f"{place}: difficulty is {difficulty!r}; make it null or one of {', '.join(DIFFICULTIES)}")
        yield Row(
            place=place,
            native_id=row.get("id"),
            source=text_of(row.get("source")) or "items",
            question=row.get("question"),
            options=options,
            answer=gold_letters(row.get("answer")),
            context=row.get("context"),
            lang=text_of(row.get("lang")) or language(row.get("question")),
            difficulty=difficulty,
            meta=meta,
        )
