import pytest

from corl.data.importing.values import (
    by_letter,
    from_text,
    gold_letters,
    language,
    letter_at,
    looks_spanish,
    structured,
    whole,
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('{"A": "x"}', {"A": "x"}),
        ("{'A': 'x', 'B': None}", {"A": "x", "B": None}),
        (" ['x', \"it's\"] ", ["x", "it's"]),
        ("[1, 2", "[1, 2"),
        ("{" * 10_000, "{" * 10_000),
        ("text", "text"),
        (3, 3),
    ],
)
def test_structured(value, expected):
    assert structured(value) == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"B": "y", "A": "x"}, ["x", "y"]),
        ({"A": "x", "C": "z"}, ["x", None, "z"]),
        ({"A": "x", "B": "y", "C": None}, ["x", "y"]),  # a null is no option, a blank text is one without text
        ({"A": "x", "B": ""}, ["x", ""]),
        ([{"letter": "B", "content": "y"}, {"letter": "A", "content": "x"}], ["x", "y"]),
        ([{"key": "A", "value": "x"}, {"key": "B", "value": "y"}], ["x", "y"]),
        ("{'A': 'x', 'B': 'y'}", ["x", "y"]),
        (None, []),
        (float("nan"), []),
        ("", []),
        ({}, []),
        ([], []),
        ({"a": "x"}, None),
        ({1: "x"}, None),
        ([{"letter": "A", "content": "x"}, {"letter": "A", "content": "y"}], None),
        ([{"letter": ["A"], "content": "x"}], None),
        (["x", "y"], None),
        ("x", None),
        (4, None),
    ],
)
def test_by_letter(options, expected):
    assert by_letter(options) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A 甲\nB 乙\nC 丙", ["甲", "乙", "丙"]),
        ("A 甲\r\nB 乙丙 丁", ["甲", "乙丙 丁"]),
        ("A. x\nB. y\n", ["x", "y"]),
        ("（A）x\n（B）y", ["x", "y"]),
        ("Ａ．x\nＢ．y", ["x", "y"]),
        ("A、甲\nB：乙", ["甲", "乙"]),
        ("A甲\nB乙", ["甲", "乙"]),
        ("A B细胞\nB T细胞", ["B细胞", "T细胞"]),
        ("A 甲\n  更多\nB 乙", ["甲\n更多", "乙"]),
        ("A 甲\nA 又\nB 乙", ["甲\nA 又", "乙"]),
        ("A 甲\nC 丙", ["甲", None, "丙"]),
        ("A 甲\nB \nC 丙", ["甲", "", "丙"]),
        ("A. a rash B. fever C. vitamin B12", ["a rash", "fever", "vitamin B12"]),
        ("(A) x; (B) y; (C) z", ["x", "y", "z"]),
        ("A: x, B: y", ["x", "y"]),
        ("A. x    B. y\nC. z    D. w", ["x", "y", "z", "w"]),
        ("A. hepatitis B. virus B. fever", []),  # which B is the label cannot be told
        ("B. x C. y", []),
        ("first\nsecond", []),
        ("A. x", []),
        ("", []),
    ],
)
def test_from_text(text, expected):
    assert from_text(text) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("A", "A"),
        (" b ", "B"),
        ("CAB", "A,B,C"),
        ("A, C", "A,C"),
        ("Ｃ、Ａ", "A,C"),
        ("A/B", "A,B"),
        (["C", "A"], "A,C"),
        ("['B']", "B"),
        ("A或B", "A或B"),
        ("甲", "甲"),
        ("NA", "NA"),
        ("N/A", "N/A"),
        ("None", "None"),
        ("bad", "bad"),
        ("", ""),
        (None, None),
        (2, 2),
        ([], []),
    ],
)
def test_gold_letters(value, expected):
    assert gold_letters(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(2, 2), (2.0, 2), ("2", 2), ("2.0", 2), (" -1 ", -1), (2.5, None), ("2.5", None), (True, None), (None, None)],
)
def test_whole(value, expected):
    assert whole(value) == expected


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "nan", "A", "1e3", "9" * 20, [1], ""])
def test_whole_refuses(value):
    assert whole(value) is None


def test_letter_at():
    assert [letter_at(index, 4) for index in (0, 3, 4, -1, None)] == ["A", "D", None, None, None]


def test_languages():
    assert language("患者男，50岁，CT 示肺部阴影") == "zh"
    assert language("The drug 阿司匹林 is given for what?") == "en"
    assert language(None, "", 3) == "en"
    assert looks_spanish(["¿Cuál es?", "Señale la falsa", "Which is Ménière's?", "x"])
    assert not looks_spanish(["Ménière's disease is", "Which?", "What?", "Guillain"])
    assert not looks_spanish([None, 3])
