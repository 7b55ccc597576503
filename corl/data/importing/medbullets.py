"""Medbullets: {link, question, opa .. opd[, ope], answer_idx, answer, explanation}, a table or an object of columns.

Never run on the real file. Its 308 rows have 298 stems; the paper's scores are fractions of 298, so the import keeps
the first row of every stem. The files with four and with five options are two benchmarks.
"""

from collections.abc import Iterator

from corl.data.importing.layout import Layout, Part, rows_of
from corl.data.importing.rows import Row, text_of
from corl.data.importing.values import gold_letters

LAYOUT = Layout(
    name="medbullets",
    columns=(frozenset({"question", "opa", "opb", "opc", "opd", "answer_idx"}),),
    wanted="rows with question, opa, opb, opc, opd, ope in the file of five options, answer_idx",
)
DISTINCT_STEMS = 298


def read(parts: list[Part]) -> Iterator[Row]:
    has_five = {part.name: any(text_of(row.get("ope")) for row in part.rows) for part in parts}
    if len(set(has_five.values())) > 1:
        four, five = (next(name for name, value in has_five.items() if value is wanted) for wanted in (False, True))
        raise ValueError(f"{four} has four options, {five} five: these are two benchmarks; import one of the files")
    for part, place, row in rows_of(parts):
        letters = "abcde" if has_five[part.name] else "abcd"
        yield Row(
            place=place,
            question=row.get("question"),
            options=[row.get(f"op{letter}") for letter in letters],
            answer=gold_letters(row.get("answer_idx")),
            meta={key: value for key, value in {"link": row.get("link"), "split": part.split}.items() if value},
        )
