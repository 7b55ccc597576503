"""Unit conversions that a text states, made again: by the units alone, or by the molar mass of what was measured."""

import re

from corl.rods.cot.checks.quantities import NUMBER, UNIT, Unit, normalised, unit_of, value_of

# g/mol. As laboratories convert them: urea nitrogen as N2, phosphate as phosphorus.
_MOLAR_MASS = {
    "glucose": 180.16, "葡萄糖": 180.16, "血糖": 180.16, "cholesterol": 386.65, "ldl": 386.65, "hdl": 386.65,
    "胆固醇": 386.65, "triglyceride": 885.4, "甘油三酯": 885.4, "creatinine": 113.12, "肌酐": 113.12, "bun": 28.014,
    "urea nitrogen": 28.014, "尿素氮": 28.014, "calcium": 40.078, "血钙": 40.078, "钙": 40.078, "magnesium": 24.305,
    "镁": 24.305, "phosphate": 30.974, "phosphorus": 30.974, "磷": 30.974, "bilirubin": 584.66, "胆红素": 584.66,
    "uric acid": 168.11, "urate": 168.11, "尿酸": 168.11, "iron": 55.845, "铁": 55.845, "lactate": 90.08,
    "乳酸": 90.08, "ammonia": 17.031, "血氨": 17.031, "copper": 63.546, "铜": 63.546, "zinc": 65.38, "锌": 65.38,
    "cortisol": 362.46, "皮质醇": 362.46, "testosterone": 288.42, "睾酮": 288.42, "estradiol": 272.38,
    "雌二醇": 272.38, "thyroxine": 776.87, "t4": 776.87, "甲状腺素": 776.87, "t3": 650.97, "vitamin d": 400.64,
    "维生素d": 400.64, "b12": 1355.4, "folate": 441.4, "叶酸": 441.4, "lithium": 6.94, "锂": 6.94,
    "digoxin": 780.94, "地高辛": 780.94, "acetaminophen": 151.16, "paracetamol": 151.16, "对乙酰氨基酚": 151.16,
    "salicylate": 138.12, "theophylline": 180.16, "phenytoin": 252.27, "homocysteine": 135.18,
}  # fmt: skip
# mEq per mmol.
_CHARGE = {
    "sodium": 1, "potassium": 1, "chloride": 1, "bicarbonate": 1, "lithium": 1, "calcium": 2, "magnesium": 2,
    "钠": 1, "钾": 1, "氯": 1, "碳酸氢": 1, "钙": 2, "镁": 2,
}  # fmt: skip
_ANALYTES = sorted({*_MOLAR_MASS, *_CHARGE}, key=len, reverse=True)
_ANALYTE = re.compile("|".join(rf"(?<![a-z]){name}" if name.isascii() else name for name in _ANALYTES))
_NEAR = 80  # characters before a conversion within which its analyte is named

_LINK = (
    r"(?:=|≈|~|(?:is )?(?:equals|equal to|equivalent to|about|approximately|roughly)|corresponds to|converts to"
    r"|which is(?: about)?|i\.e\.,?|即|也就是|约为|等于|相当于|换算为|折合|约)"
)
_PAIR = re.compile(
    rf"(?P<a>{NUMBER}) ?(?P<from>{UNIT})"
    rf"(?: ?,? ?{_LINK} ?(?:about |~ ?|≈ ?|约)?(?P<b>{NUMBER}) ?(?P<to>{UNIT})"
    rf"| ?\( ?(?:=|≈|~|about |approximately |i\.e\.,? |即|约)? ?(?P<c>{NUMBER}) ?(?P<into>{UNIT}) ?\))"
)
_OPERATORS = tuple("+-*/^x")
_SIGNS = tuple("+*/^")
_SLACK = 0.01  # the factors of laboratories are rounded in print; those between units of one thing are exact


def conversions(text: str) -> tuple[int, list[str], int]:
    """(conversions checked, those that do not hold, as written, those that nothing here can check).

    Stated by a sign, a word or brackets: "100 mg/dL (5.6 mmol/L)". Each side may be rounded to its digits. Between
    mass and amount, or charge and amount, what was measured has to be named shortly before; otherwise the pair counts
    as unchecked. Pairs of other dimensions are no conversions.
    """
    plain = normalised(text)
    checked, wrong, unchecked = 0, [], 0
    position = 0
    while match := _PAIR.search(plain, position):
        number, unit = ("b", "to") if match["b"] else ("c", "into")
        position = match.start(number)  # the right side may begin the next conversion of a chain
        if _is_term(plain, match.start(), match.end()):
            continue
        first, second = unit_of(match["from"]), unit_of(match[unit])
        if first is None or second is None or match["from"] == match[unit]:
            continue
        factor = _factor(first, second, plain[max(0, match.start() - _NEAR) : match.start()])
        if factor is None:
            unchecked += _is_conversion(first, second)
            continue
        checked += 1
        scale, offset = factor
        slack = _SLACK if _is_conversion(first, second) else 0.001
        (a, half_a), (b, half_b) = value_of(match["a"]), value_of(match[number])
        if abs(a * scale + offset - b) > half_b * 1.001 + half_a * scale + slack * abs(b):
            wrong.append(match[0])
    return checked, wrong, unchecked


def _is_term(text: str, start: int, end: int) -> bool:
    """Whether an end of the pair belongs to a sum or product: "5 mg/kg * 20 kg = 100 mg"."""
    before, after = text[max(0, start - 4) : start].rstrip(), text[end : end + 4].lstrip()
    return before.endswith(_OPERATORS) or after.startswith(_SIGNS)


def _factor(first: Unit, second: Unit, before: str) -> tuple[float, float] | None:
    """(scale, offset) from one unit into the other; None where they are no two units of one thing."""
    if first.dimensions == second.dimensions:
        return first.size / second.size, 0.0
    names = [unit.dimensions[0][0] if len(unit.dimensions) == 1 else "" for unit in (first, second)]
    if names == ["celsius", "fahrenheit"]:
        return 1.8, 32.0
    if names == ["fahrenheit", "celsius"]:
        return 1 / 1.8, -32.0 / 1.8
    kind = _is_conversion(first, second)
    named = _ANALYTE.findall(before)
    if not kind or not named:
        return None
    analyte = named[-1]
    ratio = first.size / second.size
    a, b = (_substance(unit) for unit in (first, second))
    if {a, b} == {"mass", "amount"}:
        mass = _MOLAR_MASS.get(analyte)
        return None if mass is None else (ratio / mass if a == "mass" else ratio * mass, 0.0)
    charge = _CHARGE.get(analyte)
    if {a, b} == {"charge", "amount"} and charge is not None:
        return (ratio / charge if a == "charge" else ratio * charge, 0.0)
    return None


def _is_conversion(first: Unit, second: Unit) -> bool:
    """Two amounts of substance in one volume (or in none), counted differently."""
    rest = [tuple(d for d in unit.dimensions if d[0] == "volume") for unit in (first, second)]
    kinds = [_substance(unit) for unit in (first, second)]
    return rest[0] == rest[1] and None not in kinds and kinds[0] != kinds[1]


def _substance(unit: Unit) -> str | None:
    kinds = [name for name, power in unit.dimensions if name in ("mass", "amount", "charge") and power == 1]
    others = [name for name, _ in unit.dimensions if name not in ("mass", "amount", "charge", "volume")]
    return kinds[0] if len(kinds) == 1 and not others else None
