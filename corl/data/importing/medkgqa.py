"""MedKgQA, the paper's own items: {graph_idx, question, choices, answer}, English and Chinese.

Never run on the real files; the keys are those that a converter of them reads, `choices` being one text. A graph gives
several questions, so `graph_idx` is no id. The file of subgraphs has none of these keys and is not read.
"""

from collections.abc import Iterator

from corl.data.importing.cmexam import options_of
from corl.data.importing.layout import Layout, Part, layout_error, rows_of
from corl.data.importing.rows import Row
from corl.data.importing.values import gold_letters, language

LAYOUT = Layout(
    name="medkgqa",
    columns=(frozenset({"question", "choices", "answer"}),),
    wanted="rows with graph_idx, question, choices, answer",
)


def read(parts: list[Part]) -> Iterator[Row]:
    for part, place, row in rows_of(parts):
        options = options_of(row.get("choices"))
        if options is None:
            raise layout_error(place, LAYOUT, row)
        meta = {"graph_idx": row.get("graph_idx"), "split": part.split}
        yield Row(
            place=place,
            native_id=row.get("id"),
            question=row.get("question"),
            options=options,
            answer=gold_letters(row.get("answer")),
            lang=language(row.get("question")),
            meta={key: value for key, value in meta.items() if value is not None},
        )
