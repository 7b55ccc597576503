"""R0 to R3 and R9: the text that is graded, its format, the answers in scope, the verdict."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from string import ascii_uppercase

from corl.grading.normal_form import MAX_PAYLOAD
from corl.grading.payload import parse

THINK, END_THINK, ANSWER, END_ANSWER = TAGS = "<think>", "</think>", "<answer>", "</answer>"
END_OF_TURN = "<|im_end|>", "<|endoftext|>", "</s>", "<|eot_id|>", "<|end_of_text|>"

# Characters of all payloads that differ, together. The rules limit one payload only; but a megabyte of answers, each
# spelt another way, took 0.3 s, and nothing that is meant as an answer comes near.
MAX_ANSWERS = 8 * MAX_PAYLOAD
_KEYS = {count: tuple(ascii_uppercase[:count]) for count in range(2, 27)}


@dataclass(frozen=True, slots=True)
class Grade:
    """format_ok and correct are independent; extracted is a letter, letters joined by "," in order, or None.

    extracted None is an answer that could not be read: not correct, and to be counted apart from a wrong one.
    """

    format_ok: bool
    extracted: str | None
    correct: bool


def grade(completion: str, options: Mapping[str, str], gold: str, *, prefill: str = "") -> Grade:
    """Grade one completion against its options.

    options  2 to 26 texts under the keys A, B, ... in order
    gold     a letter, or distinct letters joined by "," in alphabetical order
    prefill  what the prompt had already put into the model's mouth; graded as part of the text
    Raises ValueError for bad options or gold, never for a completion.
    """
    _check_item(options, gold)
    text = _strip_ending(prefill + completion)
    extracted = _extract(text, tuple(options.values()))
    return Grade(_is_well_formed(text), extracted, extracted == gold)


def _check_item(options: Mapping[str, str], gold: str) -> None:
    if not isinstance(options, Mapping) or len(options) not in _KEYS:
        what = f"{len(options)} of them" if isinstance(options, Mapping) else type(options).__name__
        raise ValueError(f"options must be a mapping of 2 to 26 option texts, got {what}")
    if tuple(options) != _KEYS[len(options)]:
        raise ValueError(f"option keys {list(options)} must be A, B, ... in order; relabel the options")
    for letter, text in options.items():
        if not isinstance(text, str):
            raise ValueError(f"option {letter} is {text!r}; every option text must be a string")
    if not isinstance(gold, str) or not _is_gold(gold, len(options)):
        raise ValueError(f"gold={gold!r} must be letters of {list(options)}, distinct, sorted and joined by ','")


@lru_cache(maxsize=256)
def _is_gold(gold: str, count: int) -> bool:
    letters = set(gold.split(","))
    return gold == ",".join(sorted(letters)) and letters <= set(_KEYS[count])


def _strip_ending(text: str) -> str:
    text = text.strip()
    if not text.endswith(END_OF_TURN):
        return text
    blanked = text  # tokens as blanks: one rstrip finds where the whole ending begins
    for token in END_OF_TURN:
        blanked = blanked.replace(token, " " * len(token))
    return text[: len(blanked.rstrip())]


def _is_well_formed(text: str) -> bool:
    if not (text.startswith(THINK) and text.endswith(END_ANSWER)) or any(text.count(tag) != 1 for tag in TAGS):
        return False
    thought, _, rest = text[len(THINK) : -len(END_ANSWER)].partition(END_THINK)
    between, opened, answer = rest.partition(ANSWER)
    return bool(opened and thought.strip() and answer.strip()) and not between.strip()


def _extract(text: str, option_texts: tuple[str, ...]) -> str | None:
    _, closed, scope = text.rpartition(END_THINK)
    if not closed and THINK in text:
        return None
    payloads: set[str] = set()
    size = 0
    for piece in set(scope.split(END_ANSWER)[:-1]):  # sets: 55,000 answers that are alike are one
        _, opened, payload = piece.partition(ANSWER)
        if opened and payload not in payloads:
            payloads.add(payload)
            size += len(payload)
            if size > MAX_ANSWERS:
                return None
    found = None
    for payload in payloads:
        answer = None if any(tag in payload for tag in TAGS) else parse(payload, option_texts)
        if answer is None or found not in (None, answer):
            return None
        found = answer
    return found
