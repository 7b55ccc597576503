"""The language filter: what an item says it is beside the script it is written in."""

import re
from collections.abc import Collection, Iterator

from corl.data.items import Item
from corl.rods.filtering.rows import Reason

HAN_IN_ENGLISH, HAN_IN_CHINESE = 0.1, 0.5  # most, least share of Chinese characters among them and Latin words
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_WORD = re.compile(r"[A-Za-z\u00c0-\u024f]+")
_ENGLISH = re.compile(r"(?<![A-Za-z])[A-Z]?[a-z]{4,}(?![A-Za-z])")  # HBsAg, pH and mmHg are at home in Chinese


def base(lang: str) -> str:
    """zh-CN is zh."""
    return lang.lower().replace("_", "-").split("-")[0]


def language_reasons(item: Item, asked: Collection[str]) -> Iterator[Reason]:
    """`asked`: the languages to keep, all where empty. Only "en" and "zh" can be told from the script."""
    lang = base(item.lang)
    if asked and lang not in asked:
        yield Reason("other_language", f"{item.lang} was not asked for")
        return
    if lang not in ("en", "zh"):
        return
    texts = [item.context or "", item.question, *item.options.values()]
    share = han_share(" ".join(texts))
    stem = han_share(" ".join(texts[:2]))
    if lang == "en" and max(share, stem) > HAN_IN_ENGLISH:
        yield Reason("declared_language", f"declared en, {max(share, stem):.0%} of it is Chinese")
    elif lang == "zh" and stem < HAN_IN_CHINESE:
        yield Reason("declared_language", f"declared zh, {stem:.0%} of its question is Chinese")
    chinese = [letter for letter, text in item.options.items() if _HAN.search(text)]
    english = [letter for letter, text in item.options.items() if letter not in chinese and _ENGLISH.search(text)]
    if chinese and (english or lang == "en"):
        kinds = f"{', '.join(chinese)} in Chinese" + (f", {', '.join(english)} in English" if english else "")
        yield Reason("mixed_options", f"options {kinds}")


def han_share(text: str) -> float:
    """Chinese characters among them and Latin words; 0 where there is neither."""
    han, latin = len(_HAN.findall(text)), len(_WORD.findall(text))
    return han / (han + latin) if han else 0.0
