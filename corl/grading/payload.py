"""R4 to R8: the option that the text between the answer tags names, or None.

What the rules leave open is read as a strict human reader would: taken where no other reading exists, else null.

| payload | read as | because |
|---|---|---|
| "The answer is: B", "Therefore, the answer is B", 故选：B | null | R5 lists its lead-ins |
| "B选项", "B 项"; but "(B)项" | B; null | the suffix follows a letter, not a wrapped one |
| 选择期手术 with the option 择期手术 | that option | a lead-in ends wherever R5's pattern may: 选, 选项, 选择 |
| "A AND B", "AB, CD", "K、IBS" | null, null, K | R6 is single letters with separators or one run of letters |
| "D、E" where D is "E" and no option is E | D | no set, so R7 is asked |
| "b. text", "(B) text", "[B] text", "B – text" | B | R7 with any case, a pair around the label, any dash: text agrees |
| "A. 5.5" where A is "5" | null | the point belongs to a number |
| "B. text, which cannot be", "isn't" | null | both hold "not" |
| "C-reactive", "B12" in the tail of R7; "C", "A-B" | no option; an option | a stand-alone capital, compounds apart |
| "A. rr" where A is "Rr" and B "rr" | null | the text is that of another option, case first |
| an option text over 4,096 characters | only its letter names it | so long a payload is null |
| a payload that NFKC makes longer than 4,096 | null | the limit holds before and after |
"""

import re
from functools import lru_cache
from string import ascii_uppercase

from corl.grading.normal_form import bracket_partners, collapse, unwrap

_UPPER = frozenset(ascii_uppercase)
# The groups end where a lead-in may end.
_ENGLISH = re.compile(
    r"((?:(?:so|therefore|thus) )?(?:(?:the|my) )?(?:(?:final|correct|best|most likely) )?"
    r"(?:answer|option|choice)\b)( ?(?:is\b|:))?( ?option\b)?",
    re.ASCII | re.IGNORECASE,
)
_CHINESE = re.compile("((?:最终|正确|最佳)? ?(?:答案|选项|选择))( ?[是为:])?( ?选项)?")
_CHOOSE = re.compile("((?:应|故|因此)? ?选)( ?项)?")
_SUFFIXED_LETTER = re.compile("([A-Za-z]) ?(?:选项|项)")
_LETTERS = re.compile("[A-Z](?:[ ,;、&+和及与]+(?:and )?[A-Z])+")
_LABEL = re.compile(r"(?:\((?=.\))|\[(?=.\]))?([A-Za-z])(?: ?[.):、\]] ?| [-–—] | ?(?=(\()))")
_TAIL = re.compile(r" ?(?:[;(]|[.,](?!\d)|因为)| (?:because|since)(?![a-z])| [-–—] ", re.IGNORECASE)
# The plain strings are searched first: twenty times as fast, and few texts hold one.
_NEGATIONS = "no", "n't", "n’t", "never", "wrong", "incorrect", "unlikely", "false", "不", "非", "错"
_NEGATION = re.compile(
    r"(?<![a-z])(?:not?|cannot|never|wrong|incorrect|unlikely|false)(?![a-z])|n['’]t(?![a-z])|[不非错]"
)
_CAPITAL = re.compile("[A-Z](?<![A-Za-z0-9].)(?![A-Za-z0-9]|-[A-Za-z0-9]{2})")


class Choices:
    """Option texts in the form of payloads.

    written  texts collapsed, and those unwrapped as well
    folded   both case-folded
    """

    def __init__(self, texts: tuple[str, ...]) -> None:
        self.letters = ascii_uppercase[: len(texts)]
        collapsed = [collapse(text) for text in texts]
        self.written = collapsed, [unwrap(text) for text in collapsed]
        self.folded = [text.casefold() for text in collapsed], [text.casefold() for text in self.written[1]]

    def named(self, text: str) -> str:
        """Letters of the options with this text, as the strictest reading that has any gives them.

        Case before case-folded, and within either as written before unwrapped.
        """
        bare = unwrap(text)
        readings = zip((text, bare, text.casefold(), bare.casefold()), self.written + self.folded, strict=True)
        for wanted, texts in readings:
            if wanted and wanted in texts:
                return "".join(letter for letter, own in zip(self.letters, texts, strict=True) if own == wanted)
        return ""


choices_of = lru_cache(maxsize=256)(Choices)  # a group of rollouts shares its options


def parse(payload: str, option_texts: tuple[str, ...]) -> str | None:
    """A letter, or letters joined by "," in order; None for everything that is not plainly an answer."""
    if not (text := collapse(payload)):
        return None
    bare = unwrap(text)
    letters = ascii_uppercase[: len(option_texts)]
    if letter := _one_letter(bare, letters):  # nearly every answer
        return letter
    rests = _without_lead_in(bare)
    bares = [bare, *map(unwrap, rests)]
    for form in bares[1:]:
        if letter := _one_letter(form, letters):
            return letter
    choices = choices_of(option_texts)
    for form in (text, *rests):
        if named := choices.named(form):
            return named if len(named) == 1 else None
    for form in bares:
        if (several := _several_letters(form)) and several <= set(letters):
            return ",".join(sorted(several))
    for form in bares:
        if letter := _labelled_text(form, choices):
            return letter
    return None


def _without_lead_in(bare: str) -> list[str]:
    """What may be left of the text without a lead-in, the longest one taken first."""
    patterns = (_ENGLISH,) if bare.isascii() else (_ENGLISH, _CHINESE, _CHOOSE)
    found = [match for pattern in patterns if (match := pattern.match(bare))]
    ends = {match.end(group) for match in found for group in range(1, 1 + match.re.groups)}
    return [bare[end:].lstrip(" ") for end in sorted(ends - {-1, len(bare)}, reverse=True)]


def _one_letter(bare: str, letters: str) -> str | None:
    if len(bare) > 1:
        if bare[-1] != "项" or not (suffixed := _SUFFIXED_LETTER.fullmatch(bare)):
            return None
        bare = suffixed[1]
    # isascii: the upper case of a dotless i is a plain I
    return bare.upper() if bare and bare.isascii() and bare.upper() in letters else None


def _several_letters(bare: str) -> set[str]:
    """The letters of a list or of a run of distinct ones, whether or not options have them; none for other text."""
    if not bare[:1].isupper():
        return set()
    if _LETTERS.fullmatch(bare):
        return set(bare) & _UPPER
    run = set(bare) if 1 < len(bare) <= 26 else set()
    return run if len(run) == len(bare) and run <= _UPPER else set()


def _labelled_text(bare: str, choices: Choices) -> str | None:
    label = _LABEL.match(bare)
    if not label or (letter := label[1].upper()) not in choices.letters:
        return None
    text = bare[label.end() :]
    index = choices.letters.index(letter)
    if label[2]:
        # A text may hold a bracket that only looks like the partner: "A (a) first, b) second)".
        if bare == unwrap(f"{bare[: label.end()]}({choices.written[0][index]})"):
            return letter
        closing = bracket_partners(text).get(0)
        if closing is None:
            return None
        text = text[1:closing] + text[closing + 1 :]
    if named := choices.named(text):
        return letter if letter in named else None
    return letter if any(_is_remark_on(text, texts[index], letter, choices) for texts in choices.written) else None


def _is_remark_on(text: str, own: str, letter: str, choices: Choices) -> bool:
    """Whether text is the option's own text and a tail that takes nothing back."""
    end = len(own)
    if not own or text[:end].casefold() != own.casefold() or not _TAIL.match(text, end):
        return False
    if letter not in choices.named(text[:end]) or set(_CAPITAL.findall(text, end)) & set(choices.letters) - {letter}:
        return False
    folded, folded_end = text.casefold(), len(own.casefold())
    if any(word in folded for word in _NEGATIONS) and _NEGATION.search(folded, folded_end):
        return False
    others = [other for key, other in zip(choices.letters, choices.folded[1], strict=True) if key != letter]
    return not any(_names(folded, other, folded_end) for other in others if other and other in folded)


def _names(text: str, other: str, end: int) -> bool:
    """Whether other stands in text, as words, and reaches beyond end."""
    at = text.find(other, max(0, end - len(other) + 1))
    while at >= 0 and (_inside_word(text, at) or _inside_word(text, at + len(other))):
        at = text.find(other, at + 1)
    return at >= 0


def _inside_word(text: str, index: int) -> bool:
    """Whether index parts a word; scripts from U+2E80 on (Chinese, Japanese) do not space their words."""
    return 0 < index < len(text) and all(char.isalnum() and char < "\u2e80" for char in text[index - 1 : index + 1])
