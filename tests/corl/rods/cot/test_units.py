"""Unit conversions in running text, made again."""

import time

import pytest

from corl.rods.cot.checks.arithmetic import arithmetic
from corl.rods.cot.checks.units import conversions

RIGHT = [
    "a glucose of 100 mg/dL (5.6 mmol/L)",
    "creatinine 1.0 mg/dL (88.4 µmol/L)",
    "creatinine is 2 mg/dL ≈ 177 umol/L",
    "BUN 28 mg/dL (10 mmol/L)",
    "calcium 10 mg/dL (2.5 mmol/L)",
    "calcium 5 mEq/L = 2.5 mmol/L",
    "potassium 4 mEq/L = 4 mmol/L",
    "bilirubin 2 mg/dL (34 µmol/L)",
    "38.5 °C (101.3 °F)",
    "101.3°F = 38.5°C",
    "70 kg (154 lb)",
    "250 mcg equals 0.25 mg",
    "500 mg = 0.5 g",
    "hemoglobin 12 g/dL (120 g/L)",
    "2 h (120 min)",
    "血糖 5.6 mmol/L（约 100 mg/dL）",
    "肌酐 88.4 μmol/L 即 1.0 mg/dL",
    "体重70公斤（154磅）",
]
WRONG = [
    "a glucose of 100 mg/dL = 7.6 mmol/L",
    "creatinine 1.0 mg/dL (17.1 µmol/L)",
    "38 °C (102 °F)",
    "70 kg (160 lb)",
    "500 mg = 5 g",
    "hemoglobin 12 g/dL (12 g/L)",
    "calcium 5 mEq/L = 5 mmol/L",
    "血糖 5.6 mmol/L（约 200 mg/dL）",
]
NONE = [
    "500 mg (2 g daily at most)",
    "10 mg (0.1 mg/kg)",
    "5 mg/kg x 20 kg = 100 mg",
    "750 mg = 0.5 g + 250 mg",
    "potassium 4.1 mmol/L (3.5-5.0 mmol/L)",
    "500 mg or 1 g",
]


@pytest.mark.parametrize("text", RIGHT)
def test_right_ones_pass(text: str) -> None:
    assert conversions(text) == (1, [], 0)


@pytest.mark.parametrize("text", WRONG)
def test_wrong_ones_are_named(text: str) -> None:
    checked, wrong, _ = conversions(text)
    assert checked == 1 and len(wrong) == 1


@pytest.mark.parametrize("text", NONE)
def test_other_pairs_are_no_conversions(text: str) -> None:
    assert conversions(text) == (0, [], 0)


@pytest.mark.parametrize("text", [*RIGHT, *NONE])
def test_arithmetic_does_not_object_to_them(text: str) -> None:
    assert arithmetic(text)[1] == []


def test_without_the_substance_mass_and_amount_cannot_be_compared() -> None:
    assert conversions("a level of 5 mg/dL (3 mmol/L)") == (0, [], 1)
    assert conversions("calcium was low; " + "so " * 40 + "5 mg/dL (3 mmol/L)") == (0, [], 1)


def test_the_substance_named_last_counts() -> None:
    assert conversions("glucose and creatinine: 1.0 mg/dL (88.4 µmol/L)") == (1, [], 0)
    assert len(conversions("creatinine and glucose: 1.0 mg/dL (88.4 µmol/L)")[1]) == 1


@pytest.mark.parametrize("unit", ["1 mg (", "1 mg = ", "1 mg/1 mg/", "1", "5 mg/100 ", "calcium "])
def test_time_is_bounded(unit: str) -> None:
    start = time.perf_counter()
    conversions(unit * (60_000 // len(unit)))
    assert time.perf_counter() - start < 5
