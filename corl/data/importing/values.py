"""Values as the sets write them: options by letter, as a list or as one text; golds; numbers; languages."""

import ast
import json
import math
import re
import string
import unicodedata
from typing import Any

LETTERS = string.ascii_uppercase
NO_ANSWER = ("NA", "NAN", "NONE", "NULL")  # words, though 21 options have letters for them all

_LABEL = re.compile(r"[(（]?([A-Z\uff21-\uff3a])(?:[)）.．:：、]+\s*|\s+|$)")
_INLINE_LABEL = re.compile(r"(?:^|(?<=[\s;,；，。]))[(（]?([A-Z])[)）.．:：、]\s*")
_HAN = re.compile("[\u3400-\u9fff]")
_WORD = re.compile(r"[A-Za-z\u00c0-\u024f]+")
_SPANISH = re.compile("[áéíóúñ¿¡]", re.IGNORECASE)


def structured(value: Any) -> Any:
    """The list or object that a table's cell holds as JSON or as Python prints it; any other value as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        for parse in (json.loads, ast.literal_eval):
            try:
                return parse(value.strip())
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
    return value


def by_letter(options: Any) -> list[Any] | None:
    """Options in letter order from {"A": ..}, [{"letter", "content"}] or [{"key", "value"}]; None for another shape.

    A letter whose value is null is not there (a table of rows with 4 and 5 options holds nulls for E).
    """
    if options is None or options == "" or options != options:  # NaN
        return []
    options = structured(options)
    if isinstance(options, list) and all(isinstance(option, dict) for option in options):
        pairs = [
            (option.get("letter", option.get("key")), option.get("content", option.get("value"))) for option in options
        ]
        letters = [letter for letter, _ in pairs if isinstance(letter, str)]
        options = dict(pairs) if len(set(letters)) == len(pairs) else None
    if not isinstance(options, dict) or not options.keys() <= set(LETTERS):
        return None
    held = {letter: text for letter, text in options.items() if text is not None}
    return [held.get(letter) for letter in LETTERS[: LETTERS.find(max(held, default="")) + 1]] if held else []


def from_text(text: str) -> list[str | None]:
    """Options from one text, one a line ("A x", "A. x") or all in a row ("A. x B. y"); [] when it cannot be told.

    A line without the next letter goes on with the option before it.
    """
    lines = [line.strip() for line in re.split(r"\r\n|\r|\n", text) if line.strip()]
    options: list[str | None] = []
    for line in lines:
        label = _LABEL.match(line)
        # "B细胞": a letter that stands before its text without a sign parts two options only where it comes next.
        letter = label[1] if label else line[0] if LETTERS.find(line[0]) == len(options) else ""
        place = LETTERS.find(unicodedata.normalize("NFKC", letter)) if letter else -1
        if place >= len(options):
            options += [None] * (place - len(options))
            options.append(line[label.end() if label else 1 :].strip())
        elif options:
            options[-1] = f"{options[-1]}\n{line}"
        else:
            return []
    if len(options) > 1 and None not in options:
        return options
    # Two options a line leave gaps between the first letters of lines.
    return _in_a_row(" ".join(lines)) or (options if len(options) - options.count(None) > 1 else [])


def _in_a_row(text: str) -> list[str | None]:
    labels = list(_INLINE_LABEL.finditer(text))
    found = "".join(label[1] for label in labels)
    if len(found) < 2 or found != LETTERS[: len(found)] or labels[0].start() != 0:
        return []
    ends = [label.start() for label in labels[1:]] + [len(text)]
    return [text[label.end() : end].strip(" ;,；，") for label, end in zip(labels, ends, strict=True)]


def gold_letters(value: Any) -> Any:
    """The gold "CA", "A, C", "A、C" or ["C", "A"] as "A,C"; a value that is no set of letters as it is."""
    listed = structured(value)
    text = ",".join(map(str, listed)) if isinstance(listed, list) else listed
    if not isinstance(text, str):
        return value
    runs = re.sub(r"[\s,;、/&.。]+", " ", unicodedata.normalize("NFKC", text)).split()
    letters = [letter for run in runs for letter in (run.upper() if len(run) == 1 else run)]
    if not letters or not set(letters) <= set(LETTERS) or "".join(letters) in NO_ANSWER:
        return value
    return ",".join(sorted(set(letters)))


def whole(value: Any) -> int | None:
    """The whole number that 2, 2.0, "2" or "2.0" is; None for everything else, NaN and true among it."""
    if isinstance(value, str) and re.fullmatch(r"\s*-?\d{1,9}(?:\.0*)?\s*", value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return int(value) if value == int(value) else None


def letter_at(index: int | None, count: int) -> str | None:
    """The letter of the option at an index from 0; None outside 0..count - 1."""
    return LETTERS[index] if index is not None and 0 <= index < count else None


def language(*texts: Any) -> str:
    """Either "zh", for more Chinese characters than Latin words, or "en"."""
    text = " ".join(text for text in texts if isinstance(text, str))
    return "zh" if len(_HAN.findall(text)) > len(_WORD.findall(text)) else "en"


def looks_spanish(texts: list[Any]) -> bool:
    """Whether a third of the texts hold letters of Spanish that English hardly has."""
    held = [text for text in texts if isinstance(text, str) and text.strip()]
    return 3 * sum(bool(_SPANISH.search(text)) for text in held) > len(held)
