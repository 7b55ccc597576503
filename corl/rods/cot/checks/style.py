"""What reasoning to imitate must not look like: told the answer, in another language, too long, going in circles."""

import re
from collections.abc import Sequence

from corl.data.checking.words import words

# Phrases of someone who was handed the answer or is talking to a reviewer. "The correct answer is B" is no such.
_LEAKS = (
    re.compile(
        r"\b(?:the|this|that|our|my) (?:given|provided|stated|supplied|labell?ed|gold|reference|expected|annotated"
        r"|known|official) (?:correct |right |final )?(?:answer|label|solution|option)\b"
    ),
    re.compile(
        r"\b(?:answer key|gold(?:en)? (?:standard )?(?:answer|label)|ground[- ]truth|as labell?ed"
        r"|the label (?:is|says|gives))\b"
    ),
    re.compile(
        r"\b(?:we|i) (?:are|am|were|was|have been) (?:told|given|informed)\b.{0,40}\b(?:answer|correct|option)\b"
    ),
    re.compile(r"\b(?:answer|option [a-z]) (?:is|was|has been) (?:given|provided|supplied|known|told|labell?ed)\b"),
    re.compile(r"\b(?:according to|as|per) the (?:key|label|hint|prompt|instructions?|reviewer|feedback)\b"),
    re.compile(
        r"\b(?:the|your|this) (?:reviewer|feedback (?:says|notes)|hint (?:says|is)|system prompt|user (?:says|asks))\b"
    ),
    re.compile(r"\b(?:my|your) (?:previous|earlier|first|last|prior) (?:attempt|response|reply|answer|message)\b"),
    re.compile(r"\bthe (?:previous|earlier|prior) (?:attempt|reply|answer|message)\b"),
    re.compile(
        r"\bsince the (?:correct )?answer (?:must|should|has to) be\b|\bwork(?:ing)? backwards? from the answer\b"
    ),
    re.compile("(?:正确)?答案(?:已经?|已被)?(?:给出|告知|给定|提供|标注|标明|已知)|已知(?:正确)?答案"),
    re.compile("(?:根据|按照|依照|参照|既然|由于)(?:所?给定?|已给出?|提供|标注|已知|参考|标准)的?(?:正确)?(?:答案|标签|选项)"),
    re.compile("(?:参考|标准|给定|所给|标注)(?:的)?(?:正确)?答案|题目(?:中)?(?:已经?)?(?:给出|给定|标明)了?(?:正确)?答案"),
    re.compile("(?:上一?次|之前|前一次)的?(?:回答|尝试|答复)|(?:根据|按照)?(?:反馈|提示语|提示词|审阅者)(?:指出|要求|所说)"),
)  # fmt: skip

_MARKERS = re.compile(
    r"\b(?:assum(?:e|es|ed|ing|ption)|presum(?:e|ed|ably|ing)|likely|unlikely|probabl[ey]|possib(?:le|ly)|uncertain(?:ty)?"
    r"|may|might|could be|suggests?|suspect(?:ed)?|not certain|cannot be excluded|if (?:we|so)|provided that"
    r"|tentative(?:ly)?|hypothes[ie]s|appears?|seems?)\b"
    "|假设|假定|可能|也许|或许|推测|不确定|倾向于|提示|考虑为|疑似|尚不能|似乎|不能排除|暂定|初步"
)
_CJK = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_LATIN_WORD = re.compile("[^\\W\\d_\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]{2,}")
_ENGLISH_MOST, _CHINESE_LEAST = 0.05, 0.4


def leak_phrases(text: str) -> list[str]:
    """Phrases that tell that the writer knew the answer, or was answering a reviewer; each pattern's first."""
    plain = " ".join(text.lower().split()).replace("\u2019", "'")
    return [match[0] for pattern in _LEAKS if (match := pattern.search(plain))]


def in_language(text: str, lang: str) -> bool | None:
    """Whether a text is written in the language ("en", "zh", also "zh-CN"); None for one that is not known here.

    By the share of Chinese characters among these and Latin words: names of drugs and genes stay Latin in Chinese.
    """
    chinese, latin = len(_CJK.findall(text)), len(_LATIN_WORD.findall(text))
    share = chinese / max(1, chinese + latin)
    base = lang.lower().split("-")[0]
    if base == "zh":
        return share >= _CHINESE_LEAST
    return share <= _ENGLISH_MOST if base == "en" else None


def has_marker(text: str) -> bool:
    """Whether the text says somewhere what it assumes or is not certain of."""
    return _MARKERS.search(text.lower()) is not None


def word_count(text: str) -> int:
    """Words, a Chinese character being one."""
    return len(words(text))


def repetition(text: str) -> float:
    """Share of runs of four words (of eight Chinese characters, about as much) that stood before; 0 for short texts."""
    said = words(text)
    chinese = sum(len(word) == 1 and _CJK.match(word) is not None for word in said)
    size = 8 if chinese > len(said) / 2 else 4
    runs = [tuple(said[k : k + size]) for k in range(len(said) - size + 1)]
    return 1 - len(set(runs)) / len(runs) if len(runs) >= 20 else 0.0


def find_names(text: str, names: Sequence[str]) -> bool:
    """Whether one of the names stands in the text, as a whole where it is Latin; case makes no difference."""
    plain = " ".join(text.casefold().split())
    for name in names:
        wanted = " ".join(name.casefold().split())
        start = plain.find(wanted) if wanted else -1
        while start >= 0:
            before, after = plain[start - 1 : start], plain[start + len(wanted) : start + len(wanted) + 1]
            whole = not (_joins(before, wanted[0]) or _joins(wanted[-1], after.removeprefix("s")))
            if whole:
                return True
            start = plain.find(wanted, start + 1)
    return False


def _joins(a: str, b: str) -> bool:
    """Whether two neighbours are letters of one word; Chinese characters are never."""
    return bool(a and b) and a.isalnum() and b.isalnum() and not _CJK.match(a) and not _CJK.match(b)
