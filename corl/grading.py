"""What a completion is worth: is the format right, which option was chosen, is it the right one.

The parser never looks at gold, never guesses and never raises for a completion: whatever is not plainly an option is
null. Time is linear in the completion and independent of how hostile it is, which is why tags are found with split and
partition, brackets are paired in one pass, and everything costlier than a scan sees at most MAX_PAYLOAD characters.
"""

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from string import ascii_uppercase

MAX_PAYLOAD = 4096
# Unicode's Stream-Safe Text Format (UAX #15) ends a run of combining marks at 30. Sorting a longer one is quadratic:
# NFKC of 4,096 of them took 73 ms.
MAX_COMBINING = 30
THINK, END_THINK, ANSWER, END_ANSWER = TAGS = "<think>", "</think>", "<answer>", "</answer>"
END_OF_TURN = "<|im_end|>", "<|endoftext|>", "</s>", "<|eot_id|>", "<|end_of_text|>"

_ZERO_WIDTH = re.compile("[\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]")
_COMBINING_RUN = re.compile(rb"[^\0]{%d}" % (MAX_COMBINING + 1))

_CLOSER = {"(": ")", "[": "]", "{": "}", "【": "】", "《": "》", "「": "」"}
_BRACKET = re.compile(f"[{re.escape(''.join(_CLOSER) + ''.join(_CLOSER.values()))}]")
_QUOTES = frozenset("*_`\"'$")
_LATEX = "\\boxed{", "\\text{"

_LEAD_IN = re.compile(
    r"(?ai:(?:(?:so|therefore|thus) )?(?:(?:the|my) )?(?:(?:final|correct|best|most likely) )?"
    r"(?:answer|option|choice)\b ?(?:is\b ?:?|:)? ?(?:option\b)? ?)"
    r"|(?:最终|正确|最佳)? ?(?:答案|选项|选择) ?(?:[是为] ?:?|:)? ?(?:选项)? ?"
    r"|(?:应|故|因此)? ?选 ?项? ?"
)
_LETTER_SUFFIX = re.compile(" ?选?项$")
_SEPARATOR = re.compile("[ ,;、&+和及与]+")
_LABEL = re.compile(r"(?:[(\[](?=[A-Za-z][)\]]))?([A-Za-z])(?: ?[.):、\]] ?| [-–—] | ?(?=(\()))")
# A point or comma before a digit belongs to a number: "5.5" is not option "5" with a remark.
_TAIL = re.compile(r" ?(?:[;(]|[.,](?!\d)|因为)| (?:because|since)(?![a-z])| [-–—] ", re.IGNORECASE)
_WORD = re.compile("[a-z]+(?:['’]t)?|[不非错]")
_NEGATIONS = frozenset({"not", "cannot", "no", "never", "wrong", "incorrect", "unlikely", "false", "不", "非", "错"})
_NOT = "n't", "n’t"
# The capital of a compound ("C-reactive") names no option.
_CAPITAL = re.compile(r"(?<![A-Za-z0-9])[A-Z](?![A-Za-z0-9]|-[A-Za-z0-9]{2})")


@dataclass(frozen=True, slots=True)
class Grade:
    """format_ok and correct are independent; extracted is a letter, letters joined by "," in order, or None."""

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
    extracted = _extract(text, _choices(tuple(options.values())))
    return Grade(_is_well_formed(text), extracted, extracted == gold)


def grade_lines(lines: Iterable[str | bytes], *, source: str = "lines") -> Iterator[str]:
    """Each JSON line {completion, options, gold, prefill?} with format_ok, extracted and correct set.

    Other keys and their order are kept, blank lines skipped. Raises ValueError naming source and line number.
    """
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                graded = _grade_record(json.loads(line))
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{source} line {number}: {error}") from error
            yield graded


def grade_file(path: str | Path) -> list[str]:
    """The graded lines of a JSON lines file, without newlines; all of it is read before anything can be written."""
    with open(path, "rb") as file:
        return list(grade_lines(file, source=str(path)))


def _grade_record(record: object) -> str:
    if not isinstance(record, dict):
        raise ValueError(f"expected a JSON object, got {type(record).__name__}")
    if missing := [key for key in ("completion", "options", "gold") if key not in record]:
        raise ValueError(f"missing {', '.join(missing)}; a line needs completion, options and gold")
    completion, prefill = record["completion"], record.get("prefill", "")
    if not isinstance(completion, str) or not isinstance(prefill, str):
        raise ValueError("completion and prefill must be strings")
    result = grade(completion, record["options"], record["gold"], prefill=prefill)
    graded = record | {"format_ok": result.format_ok, "extracted": result.extracted, "correct": result.correct}
    line = json.dumps(graded, ensure_ascii=False)
    try:
        line.encode()
    except UnicodeEncodeError:  # half a surrogate pair, legal in JSON as an escape only
        return json.dumps(graded)
    return line


def _check_item(options: Mapping[str, str], gold: str) -> None:
    if not isinstance(options, Mapping) or not 2 <= len(options) <= 26:
        raise ValueError(f"options={options!r}; give a mapping of 2 to 26 option texts")
    if tuple(options) != tuple(ascii_uppercase[: len(options)]):
        raise ValueError(f"option keys {list(options)} must be A, B, ... in order; relabel the options")
    if not all(isinstance(text, str) for text in options.values()):
        raise ValueError(f"options={options!r}; every option text must be a string")
    letters = set(gold.split(",")) if isinstance(gold, str) else set()
    if not letters or gold != ",".join(sorted(letters)) or not letters <= options.keys():
        raise ValueError(f"gold={gold!r} must be letters of {list(options)}, distinct, sorted and joined by ','")


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


@dataclass(frozen=True, slots=True)
class _Choices:
    """The options in the form payloads are brought to."""

    letters: str
    texts: tuple[tuple[str, str], ...]  # per option: collapsed, unwrapped
    letters_of: dict[tuple[int, str], str]  # (strictness, text) -> every letter that has this text


@lru_cache(maxsize=1024)  # a group of rollouts shares its options
def _choices(option_texts: tuple[str, ...]) -> _Choices:
    letters = ascii_uppercase[: len(option_texts)]
    texts = tuple((text, _unwrap(text)) for text in map(_collapse, option_texts))
    letters_of: dict[tuple[int, str], str] = {}
    for letter, forms in zip(letters, texts, strict=True):
        for key in _keys(*forms):
            letters_of[key] = letters_of.get(key, "") + letter
    return _Choices(letters, texts, letters_of)


def _keys(text: str, bare: str) -> list[tuple[int, str]]:
    """What a text can be looked up under, strictest first: case before case-folded, as written before unwrapped."""
    return [key for key in enumerate((text, bare, text.casefold(), bare.casefold())) if key[1]]


def _matching(text: str, bare: str, choices: _Choices) -> str:
    """Letters of the options with this very text, at the strictest reading that has any."""
    return next((choices.letters_of[key] for key in _keys(text, bare) if key in choices.letters_of), "")


def _extract(text: str, choices: _Choices) -> str | None:
    _, closed, scope = text.rpartition(END_THINK)
    if not closed and THINK in text:
        return None
    payloads: set[str] = set()
    size = 0
    for piece in scope.split(END_ANSWER)[:-1]:
        _, opened, payload = piece.partition(ANSWER)
        if opened and payload not in payloads:
            payloads.add(payload)
            # The limit holds for the different payloads together: 1 MB of spellings of one answer is 250 long parses.
            if (size := size + len(payload)) > MAX_PAYLOAD:
                return None
    found = {_parse(payload, choices) for payload in payloads}
    return found.pop() if len(found) == 1 else None


def _parse(payload: str, choices: _Choices) -> str | None:
    if any(tag in payload for tag in TAGS) or not (text := _collapse(payload)):
        return None
    forms = [(text, _unwrap(text))]
    if (lead_in := _LEAD_IN.match(forms[0][1])) and (rest := forms[0][1][lead_in.end() :]):
        forms.append((rest, _unwrap(rest)))
    for _, bare in forms:
        if letter := _one_letter(bare, choices):
            return letter
    for form in forms:
        if letters := _matching(*form, choices):
            return letters if len(letters) == 1 else None
    for read in (_several_letters, _labelled_text):
        for _, bare in forms:
            if answer := read(bare, choices):
                return answer
    return None


def _collapse(text: str) -> str:
    """NFKC without zero-width characters, blanks collapsed; "" for text no script writes."""
    if not text.isascii():
        text = _ZERO_WIDTH.sub("", text)
        if _COMBINING_RUN.search(bytes(map(unicodedata.combining, text))):
            return ""
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.split())


def _unwrap(text: str) -> str:
    """Text without the wrappers around it and the stop, colon or stray closing bracket after it."""
    partner = _bracket_partners(text)
    start, end = 0, len(text)
    while start < end:
        first, last = text[start], text[end - 1]
        if first == " ":
            start += 1
        elif last in " .。:" or (last in _CLOSER.values() and end - 1 not in partner):
            end -= 1
        elif partner.get(start) == end - 1 or (first == last and first in _QUOTES):
            start, end = start + 1, end - 1
        elif text.startswith(_LATEX, start) and partner.get(brace := text.index("{", start)) == end - 1:
            start, end = brace + 1, end - 1
        else:
            break
    return text[start:end]


def _bracket_partners(text: str) -> dict[int, int]:
    """Index of every matched bracket -> index of its partner; each kind is matched on its own."""
    partner: dict[int, int] = {}
    opened: dict[str, list[int]] = {closer: [] for closer in _CLOSER.values()}
    for found in _BRACKET.finditer(text):
        bracket, index = found[0], found.start()
        if bracket in _CLOSER:
            opened[_CLOSER[bracket]].append(index)
        elif opened[bracket]:
            partner[index] = opened[bracket].pop()
            partner[partner[index]] = index
    return partner


def _one_letter(bare: str, choices: _Choices) -> str | None:
    if len(bare) > 1 and bare.endswith("项"):
        bare = _unwrap(_LETTER_SUFFIX.sub("", bare))
    # isascii: the upper case of a dotless i is a plain I
    return bare.upper() if len(bare) == 1 and bare.isascii() and bare.upper() in choices.letters else None


def _several_letters(bare: str, choices: _Choices) -> str | None:
    first, *inner = _SEPARATOR.split(bare)
    runs = [first, *(run for run in inner[:-1] if run.lower() != "and"), *inner[-1:]]
    if "OR" in inner[:-1] or not all(run and len(set(run)) == len(run) for run in runs):
        return None
    letters = set().union(*runs)
    return ",".join(sorted(letters)) if letters <= set(choices.letters) else None


def _labelled_text(bare: str, choices: _Choices) -> str | None:
    label = _LABEL.match(bare)
    if not label or (letter := label[1].upper()) not in choices.letters:
        return None
    text = bare[label.end() :]
    if label[2]:
        closing = _bracket_partners(text).get(0)
        if closing is None:
            return None
        text = text[1:closing] + text[closing + 1 :]
    if named := _matching(text, _unwrap(text), choices):
        return letter if letter in named else None
    own_texts = choices.texts[choices.letters.index(letter)]
    return letter if any(_is_remark_on(text, own, letter, choices) for own in own_texts) else None


def _is_remark_on(text: str, own: str, letter: str, choices: _Choices) -> bool:
    """Whether text is the option's own text and a tail that takes nothing back."""
    end = len(own)
    if not own or text[:end].casefold() != own.casefold() or not _TAIL.match(text, end):
        return False
    if set(_CAPITAL.findall(text, end)) & set(choices.letters) - {letter}:
        return False
    folded, folded_end = text.casefold(), len(own.casefold())
    words = _WORD.findall(folded, folded_end)
    if not _NEGATIONS.isdisjoint(words) or any(word.endswith(_NOT) for word in words):
        return False
    others = [other.casefold() for key, (_, other) in zip(choices.letters, choices.texts, strict=True) if key != letter]
    return not any(_names(folded, other, folded_end) for other in others if other)


def _names(text: str, other: str, end: int) -> bool:
    """Whether other stands in text, as words, and reaches beyond end."""
    at = text.find(other, max(0, end - len(other) + 1))
    while at >= 0 and (_inside_word(text, at) or _inside_word(text, at + len(other))):
        at = text.find(other, at + 1)
    return at >= 0


def _inside_word(text: str, index: int) -> bool:
    """Whether index parts a word; scripts from U+2E80 on (Chinese, Japanese) do not space their words."""
    return 0 < index < len(text) and all(char.isalnum() and char < "\u2e80" for char in text[index - 1 : index + 1])
