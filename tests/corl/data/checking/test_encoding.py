import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corl.data.checking.encoding import artefacts


@pytest.mark.parametrize(
    "text", ["café", "naïve", "β-blocker", "37 °C", "±2 µg", "don’t", "“fever”", "≥ 5", "Ménière – x", "Ангина"]
)
@pytest.mark.parametrize("read_as", ["cp1252", "latin-1"])
def test_utf8_read_as_something_else_is_found_and_the_text_itself_is_not(text: str, read_as: str) -> None:
    assert artefacts(text) == []
    try:
        misread = text.encode().decode(read_as)
    except UnicodeDecodeError:
        pytest.skip("has bytes that this code page leaves out")
    kinds = [found.split()[0] for found in artefacts(f"before {misread} after")]
    assert "mojibake" in kinds or "control" in kinds, misread


@pytest.mark.parametrize("text", ["患者男性发热三天", "下列哪项正确"])
def test_chinese_read_as_something_else_is_found(text: str) -> None:
    assert artefacts(text) == []
    assert artefacts(text.encode("gb18030").decode("latin-1"))
    assert artefacts(text.encode().decode("latin-1"))
    assert artefacts(text.encode("gb18030").decode("utf-8", "replace"))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("a \ufffd b", "replacement character"), ("锟斤拷", "replacement character"), ("a\x07", "control character"),
        ("a\x85b", "control character"), ("\x00", "control character"), ("\ue123", "private-use character"),
        ("x\ud83d", "half of a surrogate pair"), ("\ufffe", "not a character"), ("a\u200bb", "invisible character"),
        ("\u202eabc", "invisible character"), ("soft\u00adhyphen", "invisible character"),
        ("a &amp; b", "HTML entity"),
        ("5 &#60; 6", "HTML entity"), ("&#x3b1;", "HTML entity"),
        ("CO<sub>2</sub>", "HTML tag"), ("a<br/>b", "HTML tag"),
        ("\\u00e9", "escape sequence"), ("\\xa0", "escape sequence"), ("a_x000D_", "escape sequence"),
        ("â€™s", "mojibake"), ("Ã©", "mojibake"), ("5 Âµg", "mojibake"),
    ],
)  # fmt: skip
def test_each_kind_is_named_with_its_place_in_ascii(text: str, kind: str) -> None:
    found = artefacts(text)
    assert found and found[0].startswith(kind) and all(line.isascii() for line in found)


@pytest.mark.parametrize(
    "text",
    [
        "p<0.05 and q>3", "a < b > c", "A&E; R&D", "AT&T", "5 > 3;", "CAFÉ»", "(café…”", "Behçet’s", "déjà…”",
        "Sjögren’s",
        "line\nbreak\tand\r\nmore", "x\u00a0y", "C:\\users", "\\alpha", "👍🏽 ok", "e\u0301", "Ｆｕｌｌ",
        "São Tomé", "αβγ", "ПРИВЕТ",
        "naïveté", "Ærøskøbing", "Übergrößenträger",
    ],
)  # fmt: skip
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert artefacts(text) == []


@given(st.text(alphabet=st.characters(codec="ascii", exclude_categories=["Cc"], exclude_characters="&<\\_")))
def test_plain_ascii_never_has_any(text: str) -> None:
    assert artefacts(text) == []


@given(st.text())
def test_it_never_raises(text: str) -> None:
    assert all(line.isascii() for line in artefacts(text))


@pytest.mark.parametrize("text", ["&" + "a" * 10**6, "<p" * 500_000, "Ã" * 10**6, "ï" * 10**6, "_x00" * 250_000])
def test_a_megabyte_of_anything_takes_no_time(text: str) -> None:
    started = time.process_time()
    artefacts(text)
    assert time.process_time() - started < 2
