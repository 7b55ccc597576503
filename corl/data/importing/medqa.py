"""MedQA (USMLE): the original files, 4 or 5 options, and the copy whose stem is cut into sentences.

original   {question, answer, options: {"A": ..}, answer_idx, meta_info, ..}
cut        the same with an id and `context`, the list of sentences that come before the question

The 4- and 5-option files share stems but not letters, so a row whose answer text belongs to another letter was joined
from both and its gold is not used.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from corl.data.importing.rows import LETTERS, Row, keys_of, layout_error, read_json

KEYS = frozenset({"question", "options", "answer_idx"})
LAYOUT = "rows with question, options {A: ..}, answer_idx, and context, if there is one, a list"


def read(source: Path) -> Iterator[Row]:
    """The rows of a file of JSON lines or a JSON array; raises ValueError when it has neither layout."""
    content = read_json(source)
    if not keys_of(content) >= KEYS:
        raise layout_error(str(source), "medqa", LAYOUT, content)
    for number, row in enumerate(content if isinstance(content, list) else [content], 1):
        if not _has_layout(row):
            raise layout_error(f"{source}, row {number}", "medqa", LAYOUT, row)
        options, stem = row.get("options") or {}, row.get("question")
        if isinstance(stem, str) and stem.strip():
            stem = " ".join([*(row.get("context") or []), stem])
        yield Row(
            number=number,
            native_id=row.get("id"),
            question=stem,
            options=[options.get(letter) for letter in LETTERS[: LETTERS.find(max(options, default="")) + 1]],
            answer=row.get("answer_idx"),
            bad_gold=_contradiction(row, options),
            meta={"meta_info": row["meta_info"]} if row.get("meta_info") else {},
        )


def _has_layout(row: Any) -> bool:
    if not isinstance(row, dict):
        return False
    options, sentences = row.get("options") or {}, row.get("context") or []
    lettered = isinstance(options, dict) and options.keys() <= set(LETTERS)
    return lettered and isinstance(sentences, list) and all(isinstance(sentence, str) for sentence in sentences)


def _contradiction(row: dict[str, Any], options: dict[str, Any]) -> str:
    letter, text = str(row.get("answer_idx")).strip(), row.get("answer")
    # Option texts can be bare letters: an answer that only repeats answer_idx contradicts nothing.
    agrees = text in (letter, options.get(letter)) or text not in options.values()
    return "" if agrees else f"answer_idx is {letter}, but answer is the text of another option"
