"""Text as the words that comparisons see: case, punctuation, width, spacing and HTML entities make no difference."""

import html
import re
import unicodedata

_HIDDEN = re.compile("[\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]")
# Sorting a long run of combining marks is quadratic (NFKC of 1 MB of them takes hours), and no run of this length
# between two words holds one.
_NO_WORDS = re.compile(r"\W{64,}")
# Chinese characters and kana stand alone, everything else goes by words. Ranges: kana, CJK with extension A,
# compatibility ideographs, extensions B to H.
_IDEOGRAPHS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(f"[{_IDEOGRAPHS}]|[^\\W_{_IDEOGRAPHS}]+")


def words(text: str) -> list[str]:
    """Lower-case words and single Chinese characters, in order, after NFKC; punctuation separates and is dropped."""
    if "&" in text:
        text = html.unescape(text)
    if text.isascii():
        return _WORD.findall(text.lower())
    text = _NO_WORDS.sub(" ", _HIDDEN.sub("", text))
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def comparable(text: str) -> str:
    """`words` as one text; where there are none (an option "+" or "<") the text itself without its white space."""
    return " ".join(words(text)) or "".join(text.split())
