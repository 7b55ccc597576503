"""Names of persons: after a title (Mr, Dr), a label (Name:, 患者), or before one (女士). Never a bare name.

There is no recogniser of names here, so that an eponym (Wilson disease, Crohn's disease) is safe anywhere; after a
title it stays where the words that follow are a name or alias of the graph.
"""

import re
from collections.abc import Sequence
from functools import cached_property

from corl.rods.graph import Graph

_TOKEN = r"(?:[A-Z](?:[a-z\u00df-\u024f]|['’](?=[A-Z])|[A-Z](?=[a-z])|-(?=[A-Z]))+|[A-Z]\.(?=\s*[A-Z]))"
_SMALL = r"(?:(?:van|von|der|den|de|la|del|bin|al)\s+)*"
_FULL = rf"{_SMALL}{_TOKEN}(?:\s+{_SMALL}{_TOKEN}){{0,3}}"
_TITLED = re.compile(
    rf"\b(?P<label>(?:Mr|Mrs|Ms|Mx|Dr|Drs|Prof|Professor|Doctor|(?<![A-Za-z] )Miss)\b\.?\s+)(?P<name>{_FULL})"
)
_LABELLED = re.compile(
    rf"(?P<label>\b(?:(?:[Pp]atient(?:'s)?\s+)?[Nn]ame\s*(?:is\b|:)|[Pp]atient\s*:|"
    rf"(?:man|woman|boy|girl|patient|child|infant|male|female)\s+named)\s+)(?P<name>{_FULL})"
)
_BLANK = ("X", "Y", "Z", "W", "V", "U", "T", "S", "R", "Q")
_EPONYM = re.compile(
    r"[\w’'-]+\s+(?:[a-z]+\s+)?(?:disease|syndrome|sign|test|triad|law|phenomenon|lymphoma|sarcoma|tumou?r|an(?:a?e)mia|"
    r"disorder|criteria|score|scale|reflex|man(?:o?e)uvre|maneuver|procedure|fracture|contracture|thyroiditis|palsy|"
    r"cells?|bod(?:y|ies)|rings?|ulcers?|encephalopathy|dementia|chorea|ataxia|o?esophagus|nodes?|classification)\b"
)
_SENTENCE = frozenset(
    ("She", "He", "The", "This", "That", "It", "His", "Her", "They", "On", "In", "At", "Is", "Has", "Had", "Was")
    + ("Who", "And", "A", "An", "After", "Before", "There", "These", "We", "You", "What", "Which", "When")
)

_SURNAMES = (
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林罗郑梁谢宋唐许韩邓冯曹彭曾肖田董潘袁蔡蒋余杜叶程魏苏吕丁任卢姚沈钟姜崔谭陆范汪"
    "廖石金韦贾夏付方邹熊白孟秦邱侯江尹薛阎段雷龙黎史陶贺毛郝顾龚邵万覃武钱戴严莫孔汤常温康施洪"
)
_GIVEN = "[^\\W\\d_A-Za-z某先女医病症痛热血压炎癌瘤咳喘晕吐泻肿癜疹疮岁男因于为有]"
_ZH_NAME = rf"(?:欧阳|司马|上官|诸葛|[{_SURNAMES}]){_GIVEN}{{1,2}}"
_ZH_SEX = r"(?=\s*[，,、（(]?\s*(?:男|女)|\s*[，,]\s*\d{1,3}\s*岁)"
_ZH = (
    (re.compile(rf"(?P<label>患者|患儿|病人|伤者)\s*(?P<name>{_ZH_NAME}){_ZH_SEX}"), r"\g<label>"),
    (re.compile(rf"^\s*(?P<name>{_ZH_NAME})(?=\s*[，,]\s*(?:男|女))"), "患者"),
    (re.compile(rf"(?P<label>(?:患者)?姓名\s*[:：]\s*)(?P<name>{_ZH_NAME})(?![\u3400-\u9fff])"), r"\g<label>某"),
    (
        re.compile(rf"(?<![\u3400-\u9fff])(?P<name>(?:欧阳|司马|[{_SURNAMES}]){_GIVEN}{{0,2}})(?P<label>先生|女士|小姐|医生|大夫|医师)"),
        r"某\g<label>",
    ),
    (
        re.compile(rf"(?P<before>患者|病人|的|由|请|向|找|和|与|是|对|让|叫)(?P<name>(?:欧阳|司马|[{_SURNAMES}]){_GIVEN}{{0,2}})(?P<label>先生|女士|小姐|医生|大夫|医师)"),
        r"\g<before>某\g<label>",
    ),
)  # fmt: skip
_ZH_WORTH = re.compile("患者|患儿|病人|伤者|姓名|先生|女士|小姐|医生|大夫|医师|[，,]\\s*[男女]")
_EN_WORTH = re.compile(r"\b(?:Mr|Mrs|Ms|Mx|Drs?|Prof|Professor|Doctor|Miss|[Nn]ame|[Pp]atient\s*:|named)\b")


class Eponyms:
    """The names and aliases of graphs that persons' names may be part of."""

    def __init__(self, graphs: Sequence[Graph] = ()) -> None:
        self._graphs = graphs

    @cached_property
    def _by_first(self) -> dict[str, list[str]]:
        """Surfaces of two words and more, or Chinese, by their first word or character."""
        found: dict[str, list[str]] = {}
        for graph in self._graphs:
            for node in range(len(graph)):
                names = [graph.names[node], *graph.aliases_en[node], graph.names_zh[node], *graph.aliases_zh[node]]
                for name in filter(None, names):
                    if not name.isascii():
                        found.setdefault(name[0], []).append(name)
                    elif name[0].isupper() and len(words := _plain(name).split()) > 1:
                        found.setdefault(words[0], []).append(" ".join(words))
        return found

    def begins(self, text: str) -> bool:
        """Whether the text goes on with a name of the graph: "Crohn's disease of the ..", not "Crohn saw ..."."""
        if _EPONYM.match(text[:120]):
            return True
        plain = _plain(text[:120])
        words = plain.split()
        if words and any(plain.startswith(name) for name in self._by_first.get(words[0], ())):
            return True
        return any(text.startswith(name) for name in self._by_first.get(text[:1], ()))


def without_names(texts: Sequence[str], eponyms: Eponyms) -> list[tuple[str, int]]:
    """Each text with its persons' names replaced, and how many; one person keeps one letter through all texts."""
    everything = "\n".join(texts)
    if not _EN_WORTH.search(everything) and not _ZH_WORTH.search(everything):
        return [(text, 0) for text in texts]
    blanks = [letter for letter in _BLANK if not re.search(rf"\b{letter}\b", everything)] or ["X"]
    letter_of: dict[str, str] = {}
    out: list[tuple[str, int]] = []

    def put(match: re.Match[str]) -> str:
        name, rest = _trimmed(match["name"])
        if name is None or not re.search(r"\w\w", name) or eponyms.begins(match.string[match.start("name") :]):
            return match[0]
        last = name.split()[-1]
        letter = letter_of.setdefault(last, blanks[min(len(letter_of), len(blanks) - 1)])
        return f"{match['label']}{letter}{rest}"

    for text in texts:
        before = text
        for pattern in (_TITLED, _LABELLED):
            text = pattern.sub(put, text)
        count = 0 if text == before else 1
        if _ZH_WORTH.search(text):
            for pattern, replacement in _ZH:

                def put_chinese(match: re.Match[str], replacement: str = replacement) -> str:
                    stays = eponyms.begins(match.string[match.start("name") :])
                    return match[0] if stays else match.expand(replacement)

                text = pattern.sub(put_chinese, text)
        out.append((text, count + (text != before and not count)))
    if not letter_of:
        return out
    again = re.compile(rf"\b(?:{'|'.join(map(re.escape, sorted(letter_of, key=len, reverse=True)))})\b")

    def put_again(match: re.Match[str]) -> str:
        return match[0] if eponyms.begins(match.string[match.start() :]) else letter_of[match[0]]

    return [(done, count + (done != text)) for text, count in out for done in [again.sub(put_again, text)]]


def _trimmed(name: str) -> tuple[str | None, str]:
    """The name without the first words of a next sentence, and those; None where nothing is left."""
    words = re.split(r"(\s+)", name)
    kept = next((k for k in range(0, len(words), 2) if words[k] in _SENTENCE), len(words))
    head = "".join(words[:kept]).rstrip()
    return (head or None), name[len(head) :]


def _plain(text: str) -> str:
    """Wilson's disease as wilson disease."""
    return re.sub(r"['’]s?\b", "", text).casefold()
