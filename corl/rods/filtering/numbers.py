"""Contacts and record numbers: mail, web addresses, telephones, medical record numbers, identity numbers."""

import re

_UNITS = r"\s?(?:mg|m[lL]|mcg|g|IU|U|mm|%)"
_RECORD = (
    r"(?:MRN|medical record (?:number|no\.?|#)|(?:hospital|patient|chart|record|case|admission) (?:number|no\.?|ID|#))"
)
_RECORD_ZH = "(?:病历|住院|门诊|病案|就诊卡|医保卡?|病例|床位?)号(?:码)?"
_PAPER = r"(?:ID|SSN|NHS|[Pp]assport|[Ii]nsurance|[Pp]olicy|[Ll]icen[cs]e|[Aa]ccount)(?:\s+(?:number|no\.?|card))?"
_BORN = r"(?:18|19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"  # in a Chinese identity number
_IS_ZH = r"\s*[为是:：]?\s*"
_CALLED = r"(?i:tel(?:ephone)?|phone|fax|mobile)\.?(?:\s+(?:number|no\.?))?\s*(?:is\b|at\b|:)?\s*"

# (what it is, what stands there then in English and in Chinese, pattern); group 1 is the label, which stays.
_RULES = tuple(
    (kind, english, chinese, re.compile(pattern))
    for kind, english, chinese, pattern in (
        ("mail", "e-mail address", "邮箱", r"()[A-Za-z0-9_.+-]{1,64}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+"),
        (
            "url",
            "web address",
            "网址",
            r"()(?:\b(?:https?|ftp)://|\bwww\.)[^\s<>\"'，。；、（）()]*[^\s<>\"'，。；、（）().,;:!?]",
        ),
        (
            "record",
            "number removed",
            "编号已删",
            rf"(\b(?i:{_RECORD})\s*(?:is\b|was\b|:|#|=)*\s*#?)[A-Z]{{0,4}}-?\d[\dA-Z-]{{3,}}(?!\w|\.\d)",
        ),
        ("record", "编号已删", "编号已删", rf"({_RECORD_ZH}{_IS_ZH})[A-Za-z]{{0,4}}-?\d[\dA-Za-z-]{{3,}}"),
        ("identity", "id number", "证件号", rf"()(?<![A-Za-z\d.])[1-9]\d{{5}}{_BORN}\d{{3}}[\dXx](?![\dA-Za-z])"),
        (
            "identity",
            "编号已删",
            "编号已删",
            rf"((?:身份证|证件|护照)(?:号码?)?{_IS_ZH})[A-Za-z]{{0,2}}\d{{7,17}}[\dXx](?![\dA-Za-z])",
        ),
        ("identity", "id number", "证件号", r"()(?<![\w.-])\d{3}-\d{2}-\d{4}(?![\w-])"),
        (
            "identity",
            "number removed",
            "编号已删",
            rf"(\b{_PAPER}\s*(?:is\b|:|#)?\s*#?)[A-Z]{{0,3}}\d[\d -]{{4,}}\d(?!\w|\.\d)",
        ),
        (
            "phone",
            "phone number",
            "号码已删",
            r"()(?<![A-Za-z\d.])(?:\+?86[- ]?)?1[3-9]\d[- ]?\d{4}[- ]?\d{4}(?![A-Za-z\d]|\.\d)",
        ),
        ("phone", "phone number", "号码已删", r"()(?<![\d.-])0\d{2,3}[- ]\d{7,8}(?![\dA-Za-z])"),
        (
            "phone",
            "phone number",
            "号码已删",
            rf"()(?<![\w.-])(?:\+?1[-. ])?(?:\(\d{{3}}\)\s?|\d{{3}}[-.])\d{{3}}[-. ]\d{{4}}(?![\w-]|{_UNITS})",
        ),
        (
            "phone",
            "phone number",
            "号码已删",
            r"()(?<![\w.-])\+\d{1,3}(?:[ .-]?\(?\d{1,4}\)?){2,5}(?<=\d\d\d\d)(?!\w|\.\d)",
        ),
        (
            "phone",
            "phone number",
            "号码已删",
            rf"(\b{_CALLED}|(?:电话|手机)(?:号码?)?{_IS_ZH})\+?\d(?:[ ().-]?\d){{6,}}(?![A-Za-z\d%])",
        ),
    )
)
_WORTH_A_LOOK = re.compile(r"@|://|\bwww\.|\d[\d ().-]{3,}\d|\d{4}")


def worth_a_look(text: str) -> bool:
    """False: `without_numbers` would find nothing."""
    return _WORTH_A_LOOK.search(text) is not None


def without_numbers(text: str, lang: str) -> tuple[str, list[str]]:
    """The text with each replaced by what it was, in words, and the kinds found."""
    found: list[str] = []
    for kind, english, chinese, pattern in _RULES:
        mark = f"（{chinese}）" if lang == "zh" or not english.isascii() else f"({english})"

        def put(match: re.Match[str], mark: str = mark) -> str:
            space = " " if match[1] and mark.isascii() and not match[1][-1].isspace() else ""
            return f"{match[1]}{space}{mark}"

        text, count = pattern.subn(put, text)
        found += [kind] * count
    return text, found
