"""Every "a op b = c" of a text, computed again."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from corl.rods.cot.checks.quantities import NUMBER, UNIT, Unit, normalised, unit_of, value_of

_TOKEN = re.compile(
    rf"(?P<number>{NUMBER})|(?P<unit>(?<=[\d\s)])(?:{UNIT}))|(?P<operator>[-+*/^²³()])"
    r"|(?P<equals>[=≈])|(?P<space>\s+)|(?P<other>[^\W\d_]+|.)",
    re.DOTALL,
)
_TIMES = re.compile(r"(?<=[\d)])x(?=[\d(])| x ?(?=[\d(])")
_LONGEST = 60  # tokens of an expression; nobody writes more, and time stays bounded
_ABOUT = 0.05  # what a text may be off that says "about"
_LEVEL = {"+": 1, "-": 1, "*": 2, "/": 2, "^": 3}


@dataclass(frozen=True, slots=True)
class _Quantity:
    """A number as written, and in base units where it has a unit."""

    raw: float
    scaled: float
    unit: str = ""


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    start: int
    end: int


def arithmetic(text: str) -> tuple[int, list[str]]:
    """(equations checked, those that do not hold, as written).

    An equation has an expression with an operator on one side and a number or an expression on the other; in a chain
    "a + b = c / d = e" each neighbour is held against the next. It holds if it does with the numbers as written or
    with their units taken to base units, at the precision shown; "≈" may be 5 % off. What is not plainly an equation
    between numbers is left alone.
    """
    plain = _TIMES.sub(" * ", normalised(text))
    if "=" not in plain and "≈" not in plain:  # most reasoning: no need to take it apart
        return 0, []
    tokens = _tokens(plain)
    checked, wrong = 0, []
    signs = [index for index, token in enumerate(tokens) if token.kind == "equals"]
    for place, sign in enumerate(signs):
        left = _before(tokens, signs[place - 1] + 1 if place else 0, sign)
        right = _after(tokens, sign + 1, signs[place + 1] if place + 1 < len(signs) else len(tokens))
        if not left or not right:
            continue
        has_operator = any(token.kind == "operator" and token.text not in "()" for token in [*left, *right])
        if not has_operator or _is_range(left):
            continue
        first, others = _evaluate(left), [_evaluate(part) for part in _readings(right)]
        others = [other for other in others if other is not None]
        if not others or (first is None and not _divides_by_zero(left)):
            continue
        checked += 1
        loose = tokens[sign].text == "≈"
        if first is None or not any(_agree(first, other, _precision(right), loose) for other in others if other):
            wrong.append(" ".join(plain[left[0].start : right[-1].end].split()))
    return checked, wrong


def _tokens(text: str) -> list[_Token]:
    found = []
    for match in _TOKEN.finditer(text):
        kind = str(match.lastgroup)
        if kind != "space":
            found.append(_Token(kind, match[0], *match.span()))
    return found


def _before(tokens: Sequence[_Token], first: int, end: int) -> list[_Token]:
    """The expression that ends at an equals sign; [] where there is none, or where its beginning is not a number's."""
    start = end
    while start > max(first, end - _LONGEST) and tokens[start - 1].kind in ("number", "unit", "operator"):
        start -= 1
    part = list(tokens[start:end])
    while part and part[0].kind == "unit":  # "5 mg: 2 + 3 = 5"
        part.pop(0)
    if not part or (part[0].kind == "operator" and part[0].text != "("):  # "HCO3 + 24 = ..": something is in front
        return []
    return part if part[-1].kind in ("number", "unit") or part[-1].text in ")²³" else []


def _after(tokens: Sequence[_Token], start: int, last: int) -> list[_Token]:
    """The number or expression that begins behind an equals sign, without what hangs over."""
    end = start
    while end < min(last, start + _LONGEST) and tokens[end].kind in ("number", "unit", "operator"):
        end += 1
    part = list(tokens[start:end])
    while part and part[-1].kind == "operator" and part[-1].text not in ")²³":
        part.pop()
    return part


def _is_range(part: list[_Token]) -> bool:
    """ "3.5 - 5.0 mmol/L = ..": the smaller number first, with nothing else, is from .. to, not minus."""
    plain = [token for token in part if token.kind != "unit"]
    if [token.kind for token in plain] != ["number", "operator", "number"] or plain[1].text != "-":
        return False
    return value_of(plain[0].text)[0] < value_of(plain[2].text)[0]


def _readings(part: list[_Token]) -> list[list[_Token]]:
    """All of it, and its first number alone: "= 12 - 3 points above" is one, "= 5 + 7" the other."""
    head = 1 if part[0].text == "-" else 0
    end = head + 1
    if end < len(part) and part[end].kind == "unit":
        end += 1
    alone = part[:end]
    return [alone] if len(alone) == len(part) else [part, alone]


def _precision(part: list[_Token]) -> float:
    """Half a unit of the last digit shown by the last side's first number."""
    return next((value_of(token.text)[1] for token in part if token.kind == "number"), 0.5)


def _agree(left: _Quantity, right: _Quantity, shown: float, loose: bool) -> bool:
    ratio = right.scaled / right.raw if right.raw else 1.0
    pairs = [(left.raw, right.raw, shown), (left.scaled, right.scaled, shown * abs(ratio))]
    if right.unit == "%":  # 12 / 48 = 25 %, 0.25 * 100 = 25 %
        pairs += [(left.raw, right.raw / 100, shown / 100), (left.scaled, right.raw, shown)]
    return any(
        abs(a - b) <= step * 1.001 + abs(b) * 1e-9 or (loose and abs(a - b) <= _ABOUT * abs(b)) for a, b, step in pairs
    )


def _divides_by_zero(part: list[_Token]) -> bool:
    return any(
        a.text == "/" and b.kind == "number" and value_of(b.text)[0] == 0
        for a, b in zip(part, part[1:], strict=False)
    )  # fmt: skip


def _evaluate(part: Sequence[_Token]) -> _Quantity | None:
    """The value of an expression; None for what is none, for a division by zero and for monstrous powers."""
    raws: list[float] = []
    scaleds: list[float] = []
    waiting: list[str] = []
    unit = ""
    before = ""  # "value" behind a number or a closing bracket

    def reduce() -> bool:
        operator = waiting.pop()
        if operator == "(" or len(raws) < 2:
            return False
        for stack in (raws, scaleds):
            b, a = stack.pop(), stack.pop()
            value = _apply(operator, a, b)
            if value is None:
                return False
            stack.append(value)
        return True

    for token in part:
        if token.kind == "number":
            if before == "value":
                return None
            raws.append(value_of(token.text)[0])
            scaleds.append(raws[-1])
            before = "value"
        elif token.kind == "unit":
            known: Unit | None = unit_of(token.text)
            if before != "value" or known is None:
                return None
            scaleds[-1] *= known.size
            unit = token.text
        elif token.text in "²³":
            if before != "value":
                return None
            power = {"²": 2.0, "³": 3.0}[token.text]
            for stack in (raws, scaleds):
                value = _apply("^", stack.pop(), power)
                if value is None:
                    return None
                stack.append(value)
        elif token.text == "(":
            if before == "value":
                return None
            waiting.append("(")
        elif token.text == ")":
            if before != "value":
                return None
            while waiting and waiting[-1] != "(":
                if not reduce():
                    return None
            if not waiting:
                return None
            waiting.pop()
        elif before != "value":
            if token.text != "-" or (waiting and waiting[-1] != "("):
                return None
            raws.append(0.0)  # a sign
            scaleds.append(0.0)
            waiting.append("-")
        else:
            while waiting and waiting[-1] != "(" and _LEVEL[waiting[-1]] >= _LEVEL[token.text]:
                if not reduce():
                    return None
            waiting.append(token.text)
            before = "operator"
    while waiting:
        if not reduce():
            return None
    return _Quantity(raws[0], scaleds[0], unit) if len(raws) == 1 and before == "value" else None


def _apply(operator: str, a: float, b: float) -> float | None:
    if operator == "+":
        return a + b
    if operator == "-":
        return a - b
    if operator == "*":
        return a * b
    if operator == "/":
        return a / b if b else None
    return a**b if abs(b) <= 12 and abs(a) < 1e12 and (a > 0 or b == int(b)) and (a or b > 0) else None
