"""Equations in running text, computed again."""

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corl.rods.cot.checks.arithmetic import arithmetic

RIGHT = [
    "The anion gap is 140 - 104 - 24 = 12.",
    "BMI = 70 kg / (1.75 m)^2 = 22.9 kg/m²",
    "corrected calcium = 8.0 + 0.8 x (4 - 2) = 9.6 mg/dL",
    "5 mg/kg × 70 kg = 350 mg",
    "5 mg/kg × 70 kg = 0.35 g",
    "0.5 g + 250 mg = 750 mg",
    "12 / 48 = 25%",
    "0.25 × 100 = 25 %",
    "100% - 30% = 70%",
    "3 − 1 = 12 ÷ 6 = 2",
    "140 - 128 = 12 - which is normal",
    "140-128=12 (normal 8 - 12)",
    "20/3 ≈ 7",
    "2,400 + 600 = 3,000 mL",
    "1.73 x 2 = 3.5",
    "体重70公斤×5毫克/公斤=350毫克",
    "2x3=6",
    "(220 - 40) x 0.7 = 126 bpm",
    "90 / (90 + 10) = 0.90 = 90%",
    "7.5 * 2 = 15 = 3 * 5",
    "-(3 - 5) = 2 and 5 + 7 = 12",
    "2^3 = 8, 1.5² = 2.25",
]
WRONG = [
    "140 - 104 - 24 = 14",
    "7 × 13 = 92",
    "5 mg/kg x 70 kg = 300 mg",
    "100% - 30% = 60%",
    "1/0 = 3",
    "3 + 1 = 4 = 2 + 3",
    "体重70公斤×5毫克/公斤=300毫克",
    "2x3=7",
    "20/5 ≈ 5",
    "1.73 x 2 = 3.40",
    "0.5 g + 250 mg = 700 mg",
]
NO_EQUATIONS = [
    "pH = 7.4",
    "HCO3 + 24 = 12",
    "Na - 104 - 24 = 12",
    "2 + 2 = five",
    "1.5 - 2.0 mg/dL = 133 - 177 umol/L",
    "10^-3 * 4 = 0.004",
    "2 * (3 + 4 = 9",
    "BP 130/80",
    "= = = 3",
    "",
]


@pytest.mark.parametrize("text", RIGHT)
def test_what_holds_is_checked_and_passes(text: str) -> None:
    checked, wrong = arithmetic(text)
    assert checked >= 1 and not wrong


@pytest.mark.parametrize("text", WRONG)
def test_what_does_not_hold_is_named(text: str) -> None:
    assert len(arithmetic(text)[1]) == 1


@pytest.mark.parametrize("text", NO_EQUATIONS)
def test_what_is_no_equation_of_numbers_is_left_alone(text: str) -> None:
    assert arithmetic(text) == (0, [])


def test_each_wrong_one_is_told_as_written() -> None:
    assert arithmetic("First 2 + 2 = 5. Then 3 × 3 = 9, so 9 / 3 = 4.") == (3, ["2 + 2 = 5", "9 / 3 = 4"])


TERMS = st.lists(st.tuples(st.sampled_from([" + ", " * ", "+", "*"]), st.integers(1, 99)), min_size=1, max_size=3)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(1, 99), TERMS)
def test_true_sums_and_products_pass_and_others_do_not(first: int, terms: list[tuple[str, int]]) -> None:
    text = str(first) + "".join(f"{sign}{number}" for sign, number in terms)
    value = eval(text)
    assert arithmetic(f"so {text} = {value}, then") == (1, [])
    assert len(arithmetic(f"so {text} = {value + 1}, then")[1]) == 1


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(alphabet="0123456789+-*/^=≈().,% xmgdLk²\n", max_size=80))
def test_no_text_is_too_strange(text: str) -> None:
    checked, wrong = arithmetic(text)
    assert len(wrong) <= checked


@pytest.mark.parametrize("unit", ["1+", "=", "(", "1 - ", "9^", "1 = ", "1 mg/", "5", "1,", "x1x"])
def test_time_is_bounded(unit: str) -> None:
    start = time.perf_counter()
    arithmetic(unit * (60_000 // len(unit)) + "1 = 1")
    assert time.perf_counter() - start < 5
