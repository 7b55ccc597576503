"""CareQA: {exam_id, question, op1 .. op4, cop, year, category, unique_id}; `cop` is 1 to 4, in JSON a float.

The published file holds two rows of NaN, which are no questions. The Spanish half has the same columns.
"""

from collections.abc import Iterator

from corl.data.importing.layout import Layout, Part, rows_of
from corl.data.importing.rows import Row, text_of
from corl.data.importing.values import letter_at, looks_spanish, whole

LAYOUT = Layout(
    name="careqa",
    columns=(frozenset({"question", "op1", "op2", "op3", "op4", "cop"}),),
    wanted="rows with question, op1, op2, op3, op4, cop",
    hub={"HPAI-BSC/CareQA": "CareQA_en"},
)


def read(parts: list[Part]) -> Iterator[Row]:
    spanish = {part.name for part in parts if looks_spanish([row.get("question") for row in part.rows])}
    for part, place, row in rows_of(parts):
        cop, year = whole(row.get("cop")), whole(row.get("year"))
        meta = {"category": text_of(row.get("category")), "year": year, "split": part.split}
        yield Row(
            place=place,
            native_id=row.get("unique_id"),
            question=row.get("question"),
            options=[row.get(key) for key in ("op1", "op2", "op3", "op4")],
            answer=letter_at(None if cop is None else cop - 1, 4) or row.get("cop"),
            lang="es" if part.name in spanish else "en",
            meta={key: value for key, value in meta.items() if value},
        )
