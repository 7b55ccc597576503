"""R4: the form that payloads and option texts are brought to before anything compares them."""

import re
import unicodedata

MAX_PAYLOAD = 4096

_ZERO_WIDTH = re.compile("[\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]")

# Five characters combine only once decomposed. Those beyond U+FFFF all count: most are marks or symbols anyway.
_MARKS = [char for char in map(chr, range(0x300, 0x10000)) if unicodedata.combining(char)]
_MARKS += "\u0f73\u0f75\u0f81\uff9e\uff9f"
# Unicode's Stream-Safe Text Process (UAX #15): a joiner ends every run of 30 combining marks. Sorting them is
# quadratic: NFKC of 4,096 took 73 ms. The joiner has no width and is dropped again.
_LONG_RUN = re.compile(f"[{''.join(_MARKS)}\U00010000-\U0010ffff]{{30}}")
_JOINER = "\u034f"
_LONGEST = "\ufdfa"  # the one character that NFKC makes 18

_CLOSER = {"(": ")", "[": "]", "{": "}", "【": "】", "《": "》", "「": "」"}
_CLOSERS = frozenset(_CLOSER.values())
_BRACKET = re.compile(f"[{re.escape(''.join(_CLOSER) + ''.join(_CLOSER.values()))}]")
_QUOTES = frozenset("*_`\"'$")
_LATEX = "\\boxed{", "\\text{"
_STOPS = frozenset(" .。:")
_FIRST = _QUOTES | frozenset(_CLOSER) | {"\\", " "}
_LAST = _STOPS | _QUOTES | _CLOSERS


def collapse(text: str) -> str:
    """NFKC without zero-width characters, blanks collapsed; "" when longer than MAX_PAYLOAD before or after."""
    if len(text) > MAX_PAYLOAD:
        return ""
    if not text.isascii():
        if len(text) + 17 * text.count(_LONGEST) > MAX_PAYLOAD:
            return ""
        text = unicodedata.normalize("NFKC", _LONG_RUN.sub(rf"\g<0>{_JOINER}", text))
        text = _ZERO_WIDTH.sub("", text)
        if len(text) > MAX_PAYLOAD:
            return ""
    return " ".join(text.split())


def unwrap(text: str) -> str:
    """Text without the pairs around it and the stop, colon or unmatched closing bracket after it."""
    if not text or (text[0] not in _FIRST and text[-1] not in _LAST):
        return text
    partner: dict[int, int] | None = None
    start, end = 0, len(text)
    while start < end:
        first, last = text[start], text[end - 1]
        if first == " ":
            start += 1
        elif last in _STOPS:
            end -= 1
        elif first == last and first in _QUOTES:
            start, end = start + 1, end - 1
        elif last not in _CLOSERS:
            break
        else:
            partner = bracket_partners(text) if partner is None else partner
            opening = partner.get(end - 1)
            if opening is None:
                end -= 1
            elif opening == start or text[start : opening + 1] in _LATEX:
                start, end = opening + 1, end - 1
            else:
                break
    return text[start:end]


def bracket_partners(text: str) -> dict[int, int]:
    """Index of every matched bracket -> index of its partner; each kind is matched on its own."""
    partner: dict[int, int] = {}
    opened: dict[str, list[int]] = {}
    for found in _BRACKET.finditer(text):
        bracket, index = found[0], found.start()
        if closer := _CLOSER.get(bracket):
            opened.setdefault(closer, []).append(index)
        elif waiting := opened.get(bracket):
            partner[index] = opening = waiting.pop()
            partner[opening] = index
    return partner
