"""MedQA (USMLE): the original files, 4 or 5 options, their hub copies, and the copy whose stem is cut into sentences.

original   {question, answer, options: {"A": ..}, answer_idx, meta_info, ..}; GBaker's hub copy has the same columns
cut        the same with an id and `context`, the list of sentences that come before the question
-hf        {id, sent1, sent2, ending0, .. ending3, label from 0}

The 4- and 5-option files share stems but not letters, so a row whose answer text belongs to another letter was joined
from both and its gold is not used.
"""

from collections.abc import Iterator
from typing import Any

from corl.data.importing.layout import Layout, Part, layout_error, rows_of
from corl.data.importing.rows import Row
from corl.data.importing.values import LETTERS, by_letter, language, letter_at, structured, whole

LAYOUT = Layout(
    name="medqa",
    columns=(
        frozenset({"question", "options", "answer_idx"}),
        frozenset({"sent1", "ending0", "ending1", "label"}),
    ),
    wanted="rows with question, options {A: ..}, answer_idx, and context, if there is one, a list; "
    "or sent1, sent2, ending0 .. ending3, label",
)


def read(parts: list[Part]) -> Iterator[Row]:
    for part, place, row in rows_of(parts):
        yield _of_endings(part, place, row) if "ending0" in row else _of_options(part, place, row)


def _of_endings(part: Part, place: str, row: dict[str, Any]) -> Row:
    endings = [row[name] for name in (f"ending{k}" for k in range(len(LETTERS))) if name in row]
    stem = [text.strip() for text in (row.get("sent1"), row.get("sent2")) if isinstance(text, str) and text.strip()]
    return Row(
        place=place,
        native_id=row.get("id"),
        question=" ".join(stem),
        options=endings,
        answer=letter_at(whole(row["label"]), len(endings)) or row["label"],
        lang=language(*stem),
        meta={"split": part.split} if part.split else {},
    )


def _of_options(part: Part, place: str, row: dict[str, Any]) -> Row:
    options = by_letter(row.get("options"))
    sentences = structured(row.get("context")) or []
    if options is None or not isinstance(sentences, list) or not all(isinstance(s, str) for s in sentences):
        raise layout_error(place, LAYOUT, row)
    stem = row.get("question")
    if isinstance(stem, str) and stem.strip():
        stem = " ".join([*sentences, stem])
    meta = {"meta_info": row.get("meta_info"), "split": part.split}
    return Row(
        place=place,
        native_id=row.get("id"),
        question=stem,
        options=options,
        answer=row.get("answer_idx"),
        bad_gold=_contradiction(row, options),
        lang=language(stem),
        meta={key: value for key, value in meta.items() if value},
    )


def _contradiction(row: dict[str, Any], options: list[Any]) -> str:
    letter, text = str(row.get("answer_idx")).strip(), row.get("answer")
    named = options[LETTERS.index(letter)] if letter in LETTERS[: len(options)] and letter else None
    # Option texts can be bare letters: an answer that only repeats answer_idx contradicts nothing.
    agrees = text in (letter, named) or text not in options
    return "" if agrees else f"answer_idx is {letter}, but answer is the text of another option"
