"""Anonymisation: dates, names of persons, contacts and numbers of an item, in words that say what stood there.

Two repairs come first: Unicode composition (NFC), and a quotation mark that a table left at the edge of a field.

Questions made from a graph hold no persons and are left alone.
"""

import unicodedata
from dataclasses import dataclass, replace
from typing import Any

from corl.data.items import Item
from corl.rods.filtering.dates import relative_dates
from corl.rods.filtering.form import open_quote
from corl.rods.filtering.language import base
from corl.rods.filtering.names import Eponyms, without_names
from corl.rods.filtering.numbers import without_numbers, worth_a_look

_PASSES = 4  # what a replacement leaves beside another text may be read anew


@dataclass(frozen=True, slots=True)
class Change:
    """What was done to a field. `to` is the text now: the one before holds what had to go."""

    field: str
    rules: tuple[str, ...]
    to: str


def rewrite(item: Item, eponyms: Eponyms) -> tuple[Item, tuple[Change, ...]]:
    """The item repaired and anonymised; the very same item where nothing changes. Twice is once."""
    names = ["context", "question", *(f"option {letter}" for letter in item.options)]
    before = [item.context or "", item.question, *item.options.values()]
    composed = [_composed(text) for text in before]
    texts = [_without_stray_quote(text) for text in composed]
    rules: list[list[str]] = [
        (["nfc"] if text != was else []) + (["stray_quote"] if now != text else [])
        for text, was, now in zip(composed, before, texts, strict=True)
    ]
    if not is_made(item):
        for _ in range(_PASSES):
            done = _anonymised(texts, base(item.lang), eponyms)
            if [text for text, _ in done] == texts:
                break
            for k, (_, found) in enumerate(done):
                rules[k] += found
            texts = [text for text, _ in done]
    if texts == before:
        return item, ()
    changes = [
        Change(name, tuple(dict.fromkeys(found)), text)
        for name, text, was, found in zip(names, texts, before, rules, strict=True)
        if text != was
    ]
    context = None if item.context is None else texts[0]
    options = dict(zip(item.options, texts[2:], strict=True))
    return replace(item, context=context, question=texts[1], options=options), tuple(changes)


def is_made(item: Item) -> bool:
    """Made from a graph, by `corl rods sample`."""
    return isinstance(item.meta.get("shape"), str)


def change_record(item: Item, changes: tuple[Change, ...]) -> dict[str, Any]:
    return {"id": item.id, "changes": [{"field": c.field, "rules": list(c.rules), "to": c.to} for c in changes]}


def _anonymised(texts: list[str], lang: str, eponyms: Eponyms) -> list[tuple[str, list[str]]]:
    rules: list[list[str]] = [[] for _ in texts]
    numbered = list(texts)
    for k, text in enumerate(texts):
        if worth_a_look(text):
            numbered[k], rules[k] = without_numbers(text, lang)
    dated = relative_dates(numbered)
    named = without_names([text for text, _ in dated], eponyms)
    return [
        (text, [*found, *(["date"] if dates else []), *(["name"] if names else [])])
        for (text, names), (_, dates), found in zip(named, dated, rules, strict=True)
    ]


def _composed(text: str) -> str:
    # NFC sorts runs of combining marks in quadratic time; a text with such a run is left as it is.
    if text.isascii() or (len(text) > 4096 and _long_run(text)):
        return text
    return unicodedata.normalize("NFC", text)


def _without_stray_quote(text: str) -> str:
    """Without the one quotation mark at an edge that a table left there; others are for the format filter to find."""
    if '"' not in text or open_quote(text) != '"':
        return text
    if text.rstrip().endswith('"'):
        text = text.rstrip()[:-1].rstrip()
    elif text.lstrip().startswith('"'):
        text = text.lstrip()[1:].lstrip()
    return text


def _long_run(text: str) -> bool:
    run = 0
    for character in text:
        run = run + 1 if unicodedata.combining(character) else 0
        if run > 64:
            return True
    return False
