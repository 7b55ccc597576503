"""Quantities in words: "8 per 100,000", "6% of babies (mouth)", ">350,000 per year", "24.8 million (2015)".

A literal is never cut at a comma: it stands in numbers, and behind them it qualifies.
"""

import re
from dataclasses import dataclass

from corl.rods.extraction.box import BREAK
from corl.rods.extraction.list_items import convert_variants
from corl.rods.extraction.wikitext import NOTE

MAX_LITERAL = 500


@dataclass(frozen=True, slots=True)
class Literal:
    """`value` as "8", "82-90", ">350000" or "~38", "" where the text holds no quantity; `text` is what was written."""

    text: str
    value: str = ""
    unit: str = ""
    population: str = ""
    year: str = ""


_NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:[.,]\d+)?"
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9}
_QUANTITY = re.compile(
    rf"(?P<sign>[~<>\u2248\u2264\u2265]|about |around |approximately |less than |more than |over |under |"
    rf"up to |c\. ?)?\s*"
    rf"(?<![\w.,-])(?P<low>{_NUMBER})\s*(?:(?P<lowpercent>%)?\s*(?:[\u2013\u2014-]|\bto\b)\s*(?P<high>{_NUMBER}))?\s*"
    rf"(?P<scale>thousand|million|billion)?\s*(?P<rest>.*)",
    re.I | re.S,
)
_PER = re.compile(
    rf"^(?:in|per|out of|of every|/|:)\s*(?:every\s+)?({_NUMBER}|million|thousand|hundred thousand)\b", re.I
)
_RATE = re.compile(
    r"^(?:(?:people|persons|cases|new cases|births|individuals|live births)\s+)?(?:per|a|each|/)\s*(?:year|annum|yr)\b",
    re.I,
)
_UNIT = re.compile(
    r"^(%|percent|per cent|hours?|hrs?|h\b|minutes?|mins?|seconds?|days?|weeks?|months?|years?|mg/kg|mg/dl|mg|g\b|"
    r"\u03bcg|mcg|ml|l\b|kg|mmol/l|iu|units?|people|persons|cases|births)",
    re.I,
)
_SIGNS = {"about": "~", "around": "~", "approximately": "~", "c.": "~", "\u2248": "~", "less than": "<", "under": "<",
          "up to": "\u2264", "more than": ">", "over": ">"}  # fmt: skip
_PLURALS = {"hour": "hours", "hr": "hours", "hrs": "hours", "h": "hours", "minute": "minutes", "min": "minutes",
            "mins": "minutes", "second": "seconds", "day": "days", "week": "weeks", "month": "months", "year": "years",
            "percent": "%", "per cent": "%", "mcg": "\u03bcg", "unit": "units", "persons": "people"}  # fmt: skip
_YEAR = re.compile(r"\b(1[89]\d\d|20\d\d)\b")


def read_literals(value: str) -> list[Literal]:
    """One literal for each line, and for each part that begins with a number behind a reference."""
    value = convert_variants(value).translate({0xA0: " ", 0x2009: " ", 0x202F: " ", 0xB5: "\u03bc", 0x2212: "-"})
    value = re.sub(r"\[\[(?:[^\[\]|]*\|)?([^\[\]|]*)\]\]", r"\1", value)
    parts = re.split(rf"{BREAK}|\n\s*\n|{NOTE}+\s*(?=[~<>\u2248]?\s*\d)", value)
    literals = []
    for part in parts:
        text = " ".join(part.replace(NOTE, " ").replace("''", "").replace("'''", "").split()).strip(" ,;")
        if text and any(c.isalnum() for c in text):
            literals.append(_read(text[:MAX_LITERAL]))
    return literals


def _read(text: str) -> Literal:
    found = _QUANTITY.search(text)
    if found is None:
        return Literal(text, year="")
    rest, scale = found["rest"].strip(), _SCALES.get((found["scale"] or "").lower(), 1)
    low, high = _number(found["low"]), _number(found["high"]) if found["high"] else None
    before = text[: found.start("low")].rstrip(" ~<>\u2248\u2264\u2265")
    if scale == 1 and high is None and _YEAR.fullmatch(found["low"]) and not _UNIT.match(rest):
        return Literal(text, year=found["low"])
    unit = "%" if found["lowpercent"] else ""
    if per := _PER.match(rest):
        words = {"million": "1000000", "thousand": "1000", "hundred thousand": "100000"}
        unit, rest = (
            f"per {words.get(per.group(1).lower()) or _plain(_number(per.group(1)))}",
            rest[per.end() :].strip(),
        )
        if rate := _RATE.match(rest):
            unit, rest = f"{unit} per year", rest[rate.end() :].strip()
    elif rate := _RATE.match(rest):
        unit, rest = "per year", rest[rate.end() :].strip()
    elif named := _UNIT.match(rest):
        word = named.group(1).lower()
        unit, rest = _PLURALS.get(word, word), rest[named.end() :].strip()
        if unit == "%" and (rate := _RATE.match(rest)):
            unit, rest = "% per year", rest[rate.end() :].strip()
    year = _YEAR.search(rest) or _YEAR.search(before)
    sign = _SIGNS.get((found["sign"] or "").strip().lower(), (found["sign"] or "").strip())
    value = _plain(low * scale) + (f"-{_plain(high * scale)}" if high is not None else "")
    return Literal(text, sign + value, unit, _population(rest), year.group(1) if year else "")


def _number(text: str) -> float:
    thousands = re.fullmatch(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?", text)
    return float(text.replace(",", "") if thousands else text.replace(",", "."))


def _plain(number: float) -> str:
    return str(int(number)) if number == int(number) and number < 1e15 else f"{number:.10g}"


def _population(rest: str) -> str:
    rest = _YEAR.sub("", rest.split(";")[0].split(" , ")[0])
    outside = re.match(r"^(?:of|in|among|for)?\s*(?:all\s+)?([^(),.]*)", rest, re.I)
    inside = re.search(r"\(([^()]*[A-Za-z][^()]*)\)", rest)
    words = [found.group(1).strip(" .:-") for found in (outside, inside) if found]
    return "; ".join(word for word in words if re.search(r"[A-Za-z]", word))[:80]


def rarity(literals: list[Literal]) -> str:
    """common, uncommon or rare where a frequency says so: in words, or as a share of people; else ""."""
    for literal in literals:
        words = literal.text.lower()
        if re.match(r"^(?:very |extremely |exceedingly |ultra-?)?rare\b", words):
            return "rare"
        if re.match(r"^(?:relatively |fairly )?(?:uncommon|infrequent)\b", words):
            return "uncommon"
        if re.match(r"^(?:very |relatively |fairly )?common\b", words):
            return "common"
        share = _share(literal)
        if share is not None:
            # rare as the European Union draws the line: fewer than 5 in 10,000
            return "rare" if share < 5e-4 else "uncommon" if share < 1e-2 else "common"
    return ""


def _share(literal: Literal) -> float | None:
    value = re.sub(r"[^\d.\-]", "", literal.value).split("-")[-1]
    if not value or literal.unit.endswith("per year"):
        return None
    if literal.unit == "%":
        return float(value) / 100
    per = re.fullmatch(r"per (\d+)", literal.unit)
    return float(value) / int(per.group(1)) if per and int(per.group(1)) else None
