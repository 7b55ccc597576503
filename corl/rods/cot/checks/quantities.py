"""Numbers with units, as clinical texts write them."""

import re
from dataclasses import dataclass
from functools import lru_cache

# Unit -> (dimension, size in the dimension's base). Mass g, volume L, amount mol, time s, length m, pressure mmHg.
_BASE = {
    "kg": ("mass", 1e3), "g": ("mass", 1.0), "mg": ("mass", 1e-3), "mcg": ("mass", 1e-6), "ug": ("mass", 1e-6),
    "ng": ("mass", 1e-9), "pg": ("mass", 1e-12), "lb": ("mass", 453.59237), "lbs": ("mass", 453.59237),
    "oz": ("mass", 28.349523),
    "l": ("volume", 1.0), "dl": ("volume", 0.1), "ml": ("volume", 1e-3), "ul": ("volume", 1e-6), "cc": ("volume", 1e-3),
    "mol": ("amount", 1.0), "mmol": ("amount", 1e-3), "umol": ("amount", 1e-6), "nmol": ("amount", 1e-9),
    "pmol": ("amount", 1e-12), "eq": ("charge", 1.0), "meq": ("charge", 1e-3), "mosm": ("osmoles", 1e-3),
    "s": ("time", 1.0), "sec": ("time", 1.0), "min": ("time", 60.0), "h": ("time", 3600.0), "hr": ("time", 3600.0),
    "hour": ("time", 3600.0), "day": ("time", 86400.0), "week": ("time", 604800.0),
    "m": ("length", 1.0), "cm": ("length", 0.01), "mm": ("length", 1e-3), "in": ("length", 0.0254),
    "inch": ("length", 0.0254), "inches": ("length", 0.0254), "ft": ("length", 0.3048),
    "mmhg": ("pressure", 1.0), "kpa": ("pressure", 7.50062), "cmh2o": ("pressure", 0.735559),
    "kcal": ("energy", 4.184), "kj": ("energy", 1.0), "%": ("share", 0.01),
    "iu": ("activity", 1.0), "u": ("activity", 1.0), "bpm": ("rate", 1.0),
    "°c": ("celsius", 1.0), "°f": ("fahrenheit", 1.0),
}  # fmt: skip
_SPELT = {
    "minutes": "min", "minute": "min", "mins": "min", "seconds": "s", "second": "s", "hours": "hour", "hrs": "h",
    "days": "day", "d": "day", "weeks": "week", "wk": "week", "grams": "g", "gram": "g", "liters": "l", "liter": "l",
    "litres": "l", "litre": "l", "pounds": "lb", "pound": "lb", "units": "u", "percent": "%", "℃": "°c", "℉": "°f",
    "kilograms": "kg", "kilogram": "kg", "milligrams": "mg", "micrograms": "mcg", "beats": "bpm", "sq": "m",
    "公斤": "kg", "千克": "kg", "毫克": "mg", "微克": "mcg", "克": "g", "毫升": "ml", "升": "l", "毫摩尔": "mmol",
    "微摩尔": "umol", "摩尔": "mol", "小时": "h", "分钟": "min", "天": "day", "周": "week", "厘米": "cm", "毫米": "mm",
    "米": "m", "磅": "lb", "摄氏度": "°c", "华氏度": "°f", "千卡": "kcal", "单位": "u",
}  # fmt: skip
_NAMES = sorted({*_BASE, *_SPELT, "°c", "° c", "°f", "° f"}, key=len, reverse=True)
_ATOM = "(?:" + "|".join(map(re.escape, _NAMES)) + r")(?![a-z])(?:\^?[23](?![\d.])|[²³])?"
UNIT = rf"{_ATOM}(?:/(?:\d+ ?)?{_ATOM}){{0,2}}"
NUMBER = r"(?<![\w.,])\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\d)|(?<![A-Za-z\d_.])\d+(?:\.\d+)?"
_PART = re.compile(rf"(\d+ ?)?({'|'.join(map(re.escape, _NAMES))})(?:\^?([23])|([²³]))?")


@dataclass(frozen=True, slots=True)
class Unit:
    """dimensions  dimension -> power, sorted; size: of one in base units"""

    dimensions: tuple[tuple[str, int], ...]
    size: float


@lru_cache(maxsize=4096)
def unit_of(text: str) -> Unit | None:
    """A unit as `UNIT` matches it, lower case ("mg/dl", "kg/m²", "mg/100 ml"); None for one that is not known."""
    dimensions: dict[str, int] = {}
    size = 1.0
    for place, part in enumerate(text.replace("° ", "°").split("/")):
        found = _PART.fullmatch(part.strip())
        if found is None:
            return None
        count, name, power, mark = found.groups()
        dimension, base = _BASE[_SPELT.get(name, name)]
        exponent = int(power or {"²": 2, "³": 3, None: 1}[mark]) * (-1 if place else 1)
        dimensions[dimension] = dimensions.get(dimension, 0) + exponent
        size *= base**exponent
        if count:
            size /= float(count)
    return Unit(tuple(sorted((name, power) for name, power in dimensions.items() if power)), size)


def value_of(number: str) -> tuple[float, float]:
    """(value, half a unit of its last shown digit) of a number as `NUMBER` matches it."""
    plain = number.replace(",", "")
    decimals = len(plain.partition(".")[2])
    return float(plain[:40]), 0.5 * 10.0**-decimals


def normalised(text: str) -> str:
    """Lower case, one spelling of micro, of the minus sign and of the signs for times, divided and about."""
    return text.lower().translate(_SIGNS)


_SIGNS = str.maketrans({
    "µ": "u", "μ": "u", "−": "-", "–": "-", "×": "*", "⋅": "*", "·": "*", "÷": "/", "≈": "≈", "≒": "≈", "～": "~",
    "（": "(", "）": ")", "＝": "=", "＋": "+", "＊": "*", "／": "/", "％": "%", "，": ", ",
    "\u00a0": " ", "\u202f": " ", "\u2009": " ",
})  # fmt: skip
