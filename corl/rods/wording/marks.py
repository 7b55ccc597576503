"""What of a text a reader can match with another text: word beginnings, short words, pairs of Chinese characters."""

import re
import unicodedata

STEM = 5  # letters that two words must begin with to count as one stem
# Words that every sentence needs; matching one says nothing.
FUNCTION_WORDS = frozenset(
    """
    a an and are as at be but by can do for from has have how in into is it its may not of off on one or other over
    such than that the then this to under up use used was what when which who with within without you
    """.split()  # noqa: SIM905
)
_WORD = re.compile(r"[^\W_\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")
_CHINESE_RUN = re.compile("[\u3400-\u9fff\uf900-\ufaff]+")


def plain(text: str) -> str:
    """Lower case, compatibility forms and accents folded."""
    if text.isascii():
        return text.lower()
    folded = unicodedata.normalize("NFKD", text.lower())
    return "".join(c for c in folded if not unicodedata.combining(c))


def tokens(text: str) -> list[str]:
    """The words that are not Chinese, folded, in order."""
    return _WORD.findall(plain(text))


def chinese_runs(text: str) -> list[str]:
    """The unbroken runs of Chinese characters."""
    return [] if text.isascii() else _CHINESE_RUN.findall(text)


def bigrams(run: str) -> list[str]:
    """Every two neighbouring characters."""
    return [run[i : i + 2] for i in range(len(run) - 1)]


def marks(text: str) -> frozenset[str]:
    """All that a text could share with another one, generic words included; for choosing words that share nothing."""
    found = {word[:STEM] for word in tokens(text) if word not in FUNCTION_WORDS and len(word) > 2}
    for run in chinese_runs(text):
        found.update(bigrams(run))
    return frozenset(found)
