"""Calendar dates to relative ones: the first day of an item's dates is day 1, its month month 1.

A year alone stays, and so do fractions (5/5) and durations. Dates without a year lie in that of the date before them.
A month without a day is touched only where the item tells of a person: else it is the period of a study, or an exam's.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

_MONTHS = {
    name: number
    for number, names in enumerate(
        ("january jan", "february feb", "march mar", "april apr", "may", "june jun", "july jul", "august aug",
         "september sept sep", "october oct", "november nov", "december dec"), 1
    )
    for name in names.split()
}  # fmt: skip
_NAME = (
    "(?:January|February|March|April|May|June|July|August|September|October|November|December|"
    r"(?:Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept|Sep|Oct|Nov|Dec)\b\.?)"
)
_YEAR = r"(?:18|19|20)\d\d(?!\d)"
_DAY = r"(?:3[01]|[12]\d|0?[1-9])"
_NTH = rf"{_DAY}(?:st|nd|rd|th)?"
_FORMS = (
    ("mdy", rf"\b(?P<m>{_NAME})\s+(?P<d>{_NTH})(?:\s?[-\u2013]\s?(?P<d2>{_NTH}))?\s*,?\s+(?P<y>{_YEAR})"),
    ("dmy", rf"(?<![\w/.-])(?P<d>{_NTH})\s+(?:of\s+)?(?P<m>{_NAME}),?\s+(?P<y>{_YEAR})"),
    ("my", rf"\b(?P<m>{_NAME}),?\s+(?:of\s+)?(?P<y>{_YEAR})"),
    ("ymd", rf"(?<![\w/.-])(?P<y>{_YEAR})(?P<s>[-/.])(?P<m>\d{{1,2}})(?P=s)(?P<d>\d{{1,2}})(?![\d/-])"),
    ("numbers", rf"(?<![\w/.-])(?P<m>\d{{1,2}})(?P<s>[-/.])(?P<d>\d{{1,2}})(?P=s)(?P<y>{_YEAR})"),
    (
        "short",
        r"(?<=[ (])(?P<before>(?:on|dated?|since|from|until|before|after)[ :]+)"
        r"(?P<m>\d{1,2})/(?P<d>\d{1,2})/(?P<y>\d\d)(?![\d/])",
    ),
    # "May 5" is a day; "march 5 km" and "In May 40 patients" are none.
    ("md", rf"\b(?P<m>{_NAME})\s+(?P<d>{_NTH})(?!\d|[.:/]\d|\s*(?:patients|subjects|cases|%))"),
    ("dm", rf"(?<![\w/.-])(?P<d>{_NTH})\s+(?:of\s+)?(?P<m>{_NAME})(?=[\s,.;:)]|$)"),
    (
        "zh",
        rf"(?P<y>(?<!\d){_YEAR})\s*年\s*(?P<m>\d{{1,2}})\s*月(?!经|龄)(?:份|\s*(?P<d>\d{{1,2}})\s*(?:日|号))?",
    ),
    ("zh", r"(?<![\d年月])(?P<m>\d{1,2})\s*月\s*(?P<d>\d{1,2})\s*(?:日|号)"),
)
_PATTERN = [(kind, re.compile(form)) for kind, form in _FORMS]
_PERSON = re.compile(
    r"\byear[- ]old\b|\b(?:patient|man|woman|boy|girl|infant|he|she|his|her|admitted|presents|presented|presenting|"
    r"discharged|hospitali[sz]ed|born|Mr|Mrs|Ms|Dr)\b|患者|病人|患儿|入院|出院|就诊|主诉|[男女]性?[，,]|\d\s*岁",
    re.IGNORECASE,
)
_WORTH_A_LOOK = re.compile(rf"\d\s*月|\b{_NAME}|\d[-/.]\d{{1,2}}[-/.]\d")


@dataclass(frozen=True, slots=True)
class _Found:
    """A date in a text; day None where it names a month only. `last`: of a range of days."""

    start: int
    stop: int
    chinese: bool
    year: int | None
    month: int
    day: int | None
    last: int | None
    before: str


def relative_dates(texts: Sequence[str]) -> list[tuple[str, int]]:
    """Each text with its dates made relative to the earliest of all, and how many it had."""
    everything = "\n".join(texts)
    if not _WORTH_A_LOOK.search(everything):
        return [(text, 0) for text in texts]
    of_person = _PERSON.search(everything) is not None
    found = [[each for each in _dates(text) if of_person or each.day is not None] for text in texts]
    if not any(found):
        return [(text, 0) for text in texts]
    stated = [each.year for dates in found for each in dates if each.year is not None]
    year: int = stated[0] if stated else 2000  # 2000 has a 29 February
    first_day: date | None = None
    first_month: int | None = None
    placed: list[list[tuple[_Found, int]]] = []
    for dates in found:
        row = []
        for each in dates:
            year = year if each.year is None else each.year
            month = 12 * year + each.month - 1
            first_month = month if first_month is None else min(first_month, month)
            if each.day is not None:
                day = _day(year, each.month, each.day)
                first_day = day if first_day is None else min(first_day, day)
            row.append((each, year))
        placed.append(row)
    out = []
    for text, row in zip(texts, placed, strict=True):
        parts, at = [], 0
        for each, year in row:
            parts += [text[at : each.start], each.before, _relative(each, year, first_day, first_month or 0)]
            at = each.stop
        out.append(("".join([*parts, text[at:]]), len(row)))
    return out


def _dates(text: str) -> list[_Found]:
    """From left to right; where two forms read one place, the earlier of the forms."""
    found: list[_Found] = []
    taken = bytearray(len(text))
    for kind, pattern in _PATTERN:
        for match in pattern.finditer(text):
            start, stop = match.span()
            if not any(taken[start:stop]) and (read := _read(kind, match)) is not None:
                found.append(read)
                taken[start:stop] = b"\1" * (stop - start)
    return sorted(found, key=lambda each: each.start)


def _read(kind: str, match: re.Match[str]) -> _Found | None:
    groups = match.groupdict()
    year = int(groups["y"]) if groups.get("y") else None
    if kind == "short" and year is not None:
        year += 2000 if year < 50 else 1900
    month_text = groups["m"].rstrip(".").lower()
    month = _MONTHS.get(month_text) or (int(month_text) if month_text.isdecimal() else 0)
    day, last = (_number(groups.get(key)) for key in ("d", "d2"))
    if kind in ("numbers", "short") and month > 12 and day is not None:  # day first
        month, day = day, month
    for each in (day, last):
        if each is not None and not _exists(year or 2000, month, each):
            return None
    if not 1 <= month <= 12:
        return None
    return _Found(match.start(), match.end(), kind == "zh", year, month, day, last, groups.get("before") or "")


def _relative(found: _Found, year: int, first_day: date | None, first_month: int) -> str:
    if found.day is None or first_day is None:
        number = 12 * year + found.month - 1 - first_month + 1
        return f"第{number}个月" if found.chinese else f"month {number}"
    day = (_day(year, found.month, found.day) - first_day).days + 1
    if found.chinese:
        return f"第{day}天"
    return f"day {day}" if found.last is None else f"day {day} to day {day + found.last - found.day}"


def _number(text: str | None) -> int | None:
    return int(re.sub(r"\D", "", text)) if text else None


def _day(year: int, month: int, day: int) -> date:
    """29 February of a year that was carried over is the day after the 28th."""
    return date(year, month, day) if _exists(year, month, day) else date(year, month, 28)


def _exists(year: int, month: int, day: int) -> bool:
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True
