"""Question sets as hashes: enough to recognise a question, nothing to read.

A fingerprint file holds JSON lines, one section a set: a header

    {"corl_fingerprint": 1, "set", "split", "rows", "official_rows", "complete", "ngram": 13, "hash"}

and `rows` lines, one a question, in file order

    {"line", "words", "stem", "question", "options", "ngrams"}

words     length of the stem (context and question) in words or Chinese characters
stem      hash of the stem; "question" that of the question alone, null without a context
options   hash of every option's text
ngrams    base64 of the sorted 64-bit little-endian hashes of all runs of 13 words in the stem

A hash is 64 bits of BLAKE2b with a fixed key. Sections may be concatenated. Nothing can be read from the hashes, but
whoever guesses a text can confirm the guess, a stem word by word once its first twelve are known.
"""

import base64
import binascii
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from corl.data.checking.words import comparable, words

NGRAM = 13  # words: the length of published decontaminations (Brown et al. 2020, appendix C)
VERSION = 1
_KEY = b"corl fingerprint 1"
_HASH = "blake2b-64, key 'corl fingerprint 1'"


@dataclass(frozen=True, slots=True)
class Stem:
    """A question in hashes. ngrams [words - 12] uint64 in the order of the text, where it is made; sorted when read.

    question  hash of the question alone where there is a context, else that of the stem
    options   sorted
    """

    words: int
    stem: int
    question: int
    options: tuple[int, ...]
    ngrams: np.ndarray

    @property
    def has_context(self) -> bool:
        return self.question != self.stem


@dataclass(frozen=True, slots=True)
class Section:
    """A set's questions, or some of them; lines[i] is where stems[i] stands in the file it was made from."""

    name: str
    split: str | None
    official_rows: int | None
    complete: bool
    lines: list[int]
    stems: list[Stem]

    @property
    def title(self) -> str:
        """The set, its rows and whether that is all of it."""
        name = f"{self.name} {self.split}" if self.split else self.name
        if self.official_rows is None:
            return f"{name} ({len(self.stems)} rows, whole size unknown)"
        return f"{name} ({len(self.stems)} of {self.official_rows} rows, {'complete' if self.complete else 'partial'})"


def stem_of(context: str, question: str, options: Sequence[str]) -> tuple[Stem, list[str], list[str]]:
    """The hashes of a question, the words of its stem and its options as they compare."""
    asked, before = words(question), words(context)
    stem = before + asked
    texts = [comparable(option) for option in options]
    own = hash64("stem", " ".join(asked) or comparable(question))
    whole = hash64("stem", " ".join(stem)) if before else own
    return (
        Stem(len(stem), whole, own, tuple(sorted(hash64("option", text) for text in texts)), ngrams(stem)),
        stem,
        texts,
    )


def hash64(kind: str, text: str) -> int:
    """`kind` keeps equal texts in different places apart."""
    return int.from_bytes(_digest(text, kind.encode()), "little")


def ngrams(stem: Sequence[str]) -> np.ndarray:
    """[max(0, words - 12)] uint64: the hash of every run of 13 words."""
    # One call a run and no rolling hash: from sums that can be undone, neighbours would give the words away.
    runs = (" ".join(stem[i : i + NGRAM]) for i in range(len(stem) - NGRAM + 1))
    return np.frombuffer(b"".join(_digest(run, b"ngram") for run in runs), "<u8")


def fingerprint_lines(sections: Iterable[Section]) -> Iterator[bytes]:
    """The lines of a fingerprint file."""
    for section in sections:
        yield _line(
            {
                "corl_fingerprint": VERSION, "set": section.name, "split": section.split, "rows": len(section.stems),
                "official_rows": section.official_rows, "complete": section.complete, "ngram": NGRAM, "hash": _HASH,
            }
        )  # fmt: skip
        for number, stem in zip(section.lines, section.stems, strict=True):
            yield _line(
                {
                    "line": number,
                    "words": stem.words,
                    "stem": f"{stem.stem:016x}",
                    "question": f"{stem.question:016x}" if stem.has_context else None,
                    "options": [f"{option:016x}" for option in stem.options],
                    "ngrams": base64.b64encode(np.unique(stem.ngrams).astype("<u8").tobytes()).decode(),
                }
            )


def is_fingerprint(path: Path) -> bool:
    """Whether the first line that is not blank is a section's header."""
    try:
        with open(path, "rb") as file:
            for line in file:
                if line.strip():
                    first = json.loads(line.decode("utf-8-sig"))
                    return isinstance(first, dict) and "corl_fingerprint" in first
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); check the path") from error
    except (ValueError, RecursionError):
        pass  # whoever reads it as items says what is wrong
    return False


def read_fingerprint(path: Path) -> list[Section]:
    """The sections of a fingerprint file. Raises ValueError naming file and line when it is damaged or cut off."""
    sections: list[Section] = []
    missing = 0
    number = 0
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
                if missing:
                    sections[-1].lines.append(int(record["line"]))
                    sections[-1].stems.append(_stem(record))
                    missing -= 1
                else:
                    section, missing = _section(record)
                    sections.append(section)
            except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
                why = f"no {error}" if isinstance(error, KeyError) else str(error)
                raise ValueError(
                    f"{path}, line {number}: not a line of a fingerprint ({why}); write the file again with "
                    "`corl data check FILE --fingerprint OUT`"
                ) from error
    if missing:
        raise ValueError(
            f"{path} ends on line {number}, {missing} rows of {sections[-1].name} too early; write it again with "
            "`corl data check FILE --fingerprint OUT`"
        )
    return sections


def _section(record: dict[str, Any]) -> tuple[Section, int]:
    for key, wanted in (("corl_fingerprint", VERSION), ("ngram", NGRAM), ("hash", _HASH)):
        if record[key] != wanted:
            raise ValueError(f"{key} is {record[key]!r}, this program reads {wanted!r}")
    rows, official = int(record["rows"]), record["official_rows"]
    if rows < 1:
        raise ValueError(f"rows is {rows}")
    split = None if record["split"] is None else str(record["split"])
    complete = bool(record["complete"])
    return Section(str(record["set"]), split, None if official is None else int(official), complete, [], []), rows


def _stem(record: dict[str, Any]) -> Stem:
    stem = int(record["stem"], 16)
    question = stem if record["question"] is None else int(record["question"], 16)
    options = tuple(sorted(int(option, 16) for option in record["options"]))
    try:
        packed = base64.b64decode(record["ngrams"], validate=True)
    except binascii.Error as error:
        raise ValueError(f"ngrams: {error}") from error
    return Stem(int(record["words"]), stem, question, options, np.frombuffer(packed, "<u8"))


def _digest(text: str, kind: bytes) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, key=_KEY, person=kind).digest()


def _line(record: dict[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode() + b"\n"
