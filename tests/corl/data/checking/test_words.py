import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corl.data.checking.words import comparable, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A 25-year-old man's PULSE is 80/min.", "a 25 year old man s pulse is 80 min"),
        ("  \tFever,\n  rash;(pain)  ", "fever rash pain"),
        ("ＦＥＶＥＲ　３８", "fever 38"),
        ("ﬁbrosis Straße Ⅳ", "fibrosis strasse iv"),
        ("fe\u00adver fe\u200bver", "fever fever"),
        ("pain &amp; fever &lt;38&#176;C", "pain fever 38 c"),
        ("cafe\u0301", "café"),
        ("下列，关于β受体", "下 列 关 于 β 受 体"),
        ("血压120/80mmHg。", "血 压 120 80mmhg"),
        ("a_b", "a b"),
        ("?! …", ""),
    ],
)  # fmt: skip
def test_what_makes_no_difference(text: str, expected: str) -> None:
    assert words(text) == expected.split()


@given(st.text(), st.sampled_from([" ", ". ", "\n\n", "!? ", " \u2014 "]))
def test_words_come_one_by_one_whatever_stands_between(text: str, between: str) -> None:
    found = words(text)
    assert words(between.join(found)) == [w for word in found for w in words(word)]
    assert all(word == word.strip() and word for word in found)


@given(st.text(alphabet=st.characters(categories=["Lu", "Ll", "Nd", "Zs", "Po"], max_codepoint=0x24F)))
def test_decomposed_and_upper_case_text_reads_the_same(text: str) -> None:
    assert words(unicodedata.normalize("NFD", text)) == words(text)


def test_symbols_alone_are_compared_as_they_are() -> None:
    assert comparable(" + ") == "+" != comparable("-") and comparable("Fever!") == comparable("fever") == "fever"


@pytest.mark.parametrize(
    "text", ["\u0301" * 10**6, "a\u0301" * 300_000, "\ufdfa" * 100_000, "&" * 10**6, "字" * 300_000]
)
def test_a_megabyte_of_anything_is_read_at_once(text: str) -> None:
    started = time.process_time()
    words(text)
    assert time.process_time() - started < 5
