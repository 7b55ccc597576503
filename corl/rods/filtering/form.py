"""The format filter: stems too short, options that say the same, quotes left open, markup left over."""

import re
import unicodedata
from collections.abc import Iterator

from corl.data.checking.words import words
from corl.data.items import Item
from corl.rods.audit.surfaces import Surfaces
from corl.rods.filtering.rows import Reason

SHORTEST_STEM = 3  # words, or Chinese characters
_MARKUP = re.compile(
    r"\[\[\s*[^\W\d]|\]\]|\{\{|\}\}|\{\||<\s*/?\s*ref\b|\|\s*thumb\b|\bthumb\s*\||'''|^==+[^=]|</?nowiki|__[A-Z]{3,}__",
    re.IGNORECASE | re.MULTILINE,
)
_LATEX = re.compile(r"\\[A-Za-z]+\s*\{")
_EDGE = " .,;:!?。，；：！？、\"'“”‘’「」"
_HYPHEN = re.compile(r"(?<=[^\W\d_])[-\u2010\u2011\u2013](?=[^\W\d_])")
_PAIRS = (("“", "”"), ("「", "」"), ("『", "』"), ("«", "»"))
_INCHES = re.compile('\\d"')


def form_reasons(item: Item, surfaces: Surfaces | None) -> Iterator[Reason]:
    """`surfaces` of a graph tell that two options are names of one thing."""
    stem = f"{item.context or ''} {item.question}"
    if len(words(stem[:4096])) < SHORTEST_STEM:
        yield Reason("short_stem", f"the question has fewer than {SHORTEST_STEM} words")
    seen: dict[str, str] = {}
    for letter, text in item.options.items():
        if (first := seen.setdefault(folded_option(text), letter)) != letter:
            yield Reason("duplicate_options", f"{first} and {letter} say the same")
    if surfaces is not None:
        yield from _same_thing(item, surfaces)
    fields = {"context": item.context or "", "question": item.question}
    for place, text in [*fields.items(), *((f"option {letter}", text) for letter, text in item.options.items())]:
        if (mark := open_quote(text)) is not None:
            yield Reason("unbalanced_quotes", f"{place}: {mark} is opened or closed once more than it should be")
        if (match := _MARKUP.search(text)) and not _LATEX.search(text):
            yield Reason("markup", f"{place}: {ascii(match[0])}")


def folded_option(text: str) -> str:
    """Case, width, edge punctuation and hyphens make no difference; signs do, and the case of a genotype."""
    # NFKC sorts runs of combining marks in quadratic time; such a text is compared as it is.
    if not text.isascii() and len(text) <= 4096:
        text = unicodedata.normalize("NFKC", text)
    text = _HYPHEN.sub(" ", " ".join(text.split()).strip(_EDGE))
    return " ".join(word if _case_counts(word) else word.casefold() for word in text.split())


def open_quote(text: str) -> str | None:
    """The kind of quotation mark that does not come in pairs; inches (5'10") are none."""
    if text.count('"') % 2 and not _INCHES.search(text):
        return '"'
    return next((opened for opened, closed in _PAIRS if text.count(opened) != text.count(closed)), None)


def _case_counts(word: str) -> bool:
    """Aa beside AA, AaBb beside aabb, h^L beside H^l: other genotypes; FEVER beside Fever: the same word."""
    plain = word.strip(".,;:()?!")
    if len(plain) < 4 or not plain.isalpha():
        return sum(map(str.isalpha, plain)) > 1
    return not (plain.islower() or plain.isupper() or plain[1:].islower())


def _same_thing(item: Item, surfaces: Surfaces) -> Iterator[Reason]:
    """Options that name one node each, and the same one; a text that may mean several proves nothing."""
    owner: dict[int, str] = {}
    for letter, text in item.options.items():
        nodes = surfaces.meant(text, item.lang)
        first = owner.setdefault(nodes[0], letter) if len(nodes) == 1 else letter
        if first != letter and folded_option(item.options[first]) != folded_option(text):
            yield Reason("same_by_alias", f"{first} and {letter} are names of one thing")
