"""Quantities: never cut at a comma, always with what they are of."""

import pytest

from corl.rods.extraction.box import BREAK
from corl.rods.extraction.literals import rarity, read_literals
from corl.rods.extraction.wikitext import NOTE


@pytest.mark.parametrize(
    ("text", "value", "unit", "population", "year"),
    [
        ("8 per 100,000", "8", "per 100000", "", ""),
        (">350,000 per year", ">350000", "per year", "", ""),
        ("1.5% (oral), none (topical)", "1.5", "%", "oral", ""),
        ("6% of babies (mouth)", "6", "%", "babies; mouth", ""),
        ("24.8 million (2015)", "24800000", "", "", "2015"),
        ("82\u201390%", "82-90", "%", "", ""),
        ("2.2\u20132.3\u00a0hours", "2.2-2.3", "hours", "", ""),
        ("~38% risk of death", "~38", "%", "risk of death", ""),
        ("<20%", "<20", "%", "", ""),
        ("1,5 %", "1.5", "%", "", ""),
        ("1 in 2,000 births", "1", "per 2000", "births", ""),
        ("3.3 per 100,000 per year (2010)", "3.3", "per 100000 per year", "", "2010"),
        ("40 \u00b5g", "40", "\u03bcg", "", ""),
        ("By age two or three", "", "", "", ""),
        ("2015", "", "", "", "2015"),
    ],
)
def test_quantities(text: str, value: str, unit: str, population: str, year: str) -> None:
    (literal,) = read_literals(text)
    assert (literal.value, literal.unit, literal.population, literal.year) == (value, unit, population, year)
    assert literal.text == text.replace("\u00a0", " ").replace("\u00b5", "\u03bc")


def test_one_literal_a_line_and_behind_each_reference() -> None:
    values = [literal.value for literal in read_literals(f"6% of glarns{NOTE} 75% of vandols{NOTE}{BREAK}1,000 moxins")]
    assert values == ["6", "75", "1000"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("Rare", "rare"), ("Very rare", "rare"), ("Uncommon", "uncommon"), ("Common", "common"), ("8 per 100,000", "rare"),
     ("1 in 30,000 people", "rare"), ("1 in 500", "uncommon"), ("6%", "common"), (">350,000 per year", ""), ("", ""),
     ("6% per year", "")],
)  # fmt: skip
def test_rarity(text: str, expected: str) -> None:
    assert rarity(read_literals(text)) == expected
