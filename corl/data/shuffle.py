"""Another order of an item's options, with the gold moved along: keyed by seed, epoch and item, by nothing else.

A model that learnt letters instead of answers loses by it. Some rows keep the order of all their options: those where
an option or the question speaks of other options or of letters, and yes/no/maybe, whose order is the set's own. Whether
a row is pinned, and how it is ordered, never depends on its gold.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from hashlib import blake2b

from corl.data.items import Item

VERDICTS, IN_OPTIONS, IN_QUESTION = "verdicts", "options refer", "question refers"

_VERDICTS = frozenset(
    [*("yes", "no", "maybe", "true", "false", "unclear", "uncertain", "unknown", "not sure", "cannot say")]
    + [*("是", "否", "不是", "对", "错", "正确", "错误", "可能", "也许", "不确定")]
)
_LONGEST_REFERENCE = 300  # characters: what a longer option says of others stands within them, and time stays bounded

_NAMED = r"options?|choices?|answers?|statements?|alternatives?|responses?"
_ALL = r"all|none|any|both|either|neither|each|every"
_COUNT = rf"{_ALL}|some|most|many|one|two|three|four|more than one|a combination"
_CLAIM = r"(?:true|false|correct|incorrect|right|wrong|possible)"
_ENGLISH = (
    re.compile(rf"\b(?:{_COUNT})(?: of)?(?: the)? (?:above|below|following|foregoing|preceding|previous|others)\b"),
    # "All of these" and "none of them are true", but not "all of these symptoms".
    re.compile(rf"\b(?:{_COUNT})(?: of)? (?:these|those|them)(?= (?:is|are|above|{_NAMED})\b|$)"),
    re.compile(rf"\b(?:{_ALL}|two|three|four)(?: of)?(?: the)? (?:above |other )?(?:{_NAMED})\b"),
    re.compile(r"\b(?:other than|except|but|than|as) (?:the )?above\b|\babove[ -](?:mentioned|listed|named|said)\b"),
    re.compile(rf"^(?:the )?(?:above|below)(?: {_NAMED})?(?: (?:all|both|none))?$|\bany other option\b"),
    # "Both", "None", "All are correct": whole options; "Both kidneys" is content.
    re.compile(rf"^(?:{_ALL})(?: (?:is|are|were))?(?: (?:equally )?{_CLAIM})?$"),
    re.compile(rf"^(?:there is )?no(?: {_CLAIM})? (?:{_NAMED})$"),
)
_CHINESE = (
    re.compile("^(?:以上|上述|上面|前述|前面|以下|下述)"),
    re.compile("(?:以上|上述|前述)(?:都|均|皆|全|各|所有|任|选|答|诸|几|两|三|四|者|情况|说法|描述)"),
    re.compile("^(?:两|二|三|四|几|各|前)(?:者|项|种|个)?(?:都|均|皆)?(?:不|无)?(?:是|对|可|有|能|正确|错误|无)?$"),
    re.compile("^(?:全部?|都|均|皆|所有选?项?)(?:都|均)?(?:不|无|没有)?(?:是|对|错|可以?|有|正确|错误)?$"),
    re.compile("^(?:无|没有|不存在)(?:正确)?(?:答案|选项)$|其[他它余](?:选项|答案)"),
)


def shuffle_options(item: Item, *, seed: int, epoch: int) -> Item:
    """The item with its options in the order of (seed, epoch, id); the very same item where it is pinned.

    Every order is equally likely. `meta.shuffled` holds seed, epoch and order: the letter each option had before.
    A completion written for the item as it was (a Trace) names letters that no longer hold.
    """
    if pin_reason(item) is not None:
        return item
    order = sorted(item.options, key=lambda letter: _key(f"{seed}\0{epoch}\0{item.id}\0{letter}"))
    letters = list(item.options)
    new = dict(zip(order, letters, strict=True))
    return replace(
        item,
        options={letter: item.options[old] for letter, old in zip(letters, order, strict=True)},
        answer=",".join(sorted(new[old] for old in item.answer.split(","))),
        meta={**item.meta, "shuffled": {"seed": seed, "epoch": epoch, "order": "".join(order)}},
    )


def pin_reason(item: Item) -> str | None:
    """Why the options stay in their order, one of the three above; None where they are shuffled."""
    if all(_plain(text) in _VERDICTS for text in item.options.values()):
        return VERDICTS
    last = max(item.options)
    if any(_refers(label, text, last) for label, text in item.options.items()):
        return IN_OPTIONS
    return IN_QUESTION if _names_letter(item.question, last, _NAMED) else None


def count_pinned(items: Iterable[Item]) -> dict[str, int]:
    """How many items are pinned, by reason."""
    reasons = Counter(pin_reason(item) for item in items)
    return {reason: reasons[reason] for reason in (VERDICTS, IN_OPTIONS, IN_QUESTION) if reasons[reason]}


def _refers(label: str, text: str, last: str) -> bool:
    """Whether the option `label` speaks of others; `last` is the last letter there is."""
    plain = _plain(text)
    if any(pattern.search(plain) for pattern in (*_ENGLISH, *_CHINESE)):
        return True
    if any(pattern.search(plain) for pattern in _letter_patterns(last)) or plain.startswith(f"{label.lower()}. "):
        return True
    return _names_letter(text[:_LONGEST_REFERENCE], last, rf"{_NAMED}|same as|neither|both|either")


@cache
def _letter_patterns(last: str) -> tuple[re.Pattern[str], ...]:
    """Options made of letters ("a and b", "Both A & C", "ABD", "only B"), or that say what is true of some."""
    letters = [chr(code) for code in range(ord("a"), ord(last.lower()) + 1)]
    letter = rf"\(?[a-{letters[-1]}]\)?\.?"
    joint = r"(?: ?[,;、&+/和与及或-] ?(?:and |or )?| (?:and|or|nor|but not|not|plus|with|as well as) )"
    before = (
        rf"(?:(?:both|either|neither|only|all except|all but|except|not|none but|{_NAMED}|仅有?|只有?|选项?|除) ?)*"
    )
    run_together = rf"(?=[a-{letters[-1]}]{{2}})" + "".join(f"{each}?" for each in letters)  # each once and in order
    several = rf"{before}(?:{letter}(?:{joint}{letter})*|{run_together})"
    claim = rf" (?:is|are)(?: both| all| equally)? {_CLAIM}\b"
    chinese = "(?:项|选项|两项|二者|两者|三者)?(?:以?外)?(?:都|均|皆|全)?(?:不|无)?(?:是|对|错|可以?|有|正确|错误)?"
    return (
        re.compile(rf"^{several}(?: (?:only|alone|both|together)|{chinese})?$"),
        re.compile(rf"^{several}{claim}"),
        re.compile(rf"^\(?[a-{letters[-1]}]\)"),  # with a label of its own: "a) fever", which another letter belies
    )


def _names_letter(text: str, last: str, named: str) -> bool:
    """Whether a text names an option by its capital letter, or lists options of its own: "(A) .. (B) ..".

    "Vitamin B" and "hepatitis A and B" name none; "drug of first choice" neither.
    """
    by_name = rf"\b(?i:{named}) (?:\([A-{last}]\)|[A-{last}]\b(?![-'’+]))|选项 ?[A-{last}]|[A-{last}] ?选?项"
    return ("(A)" in text and "(B)" in text) or re.search(by_name, text) is not None


def _plain(text: str) -> str:
    """NFKC, case-folded, white space collapsed, without closing punctuation and brackets around the whole."""
    text = unicodedata.normalize("NFKC", text[:_LONGEST_REFERENCE]).casefold()
    text = " ".join(text.split()).strip(" .。,;:!*\"'")
    return text[1:-1].strip() if text.startswith("(") and text.endswith(")") and ")" not in text[:-1] else text


def _key(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
