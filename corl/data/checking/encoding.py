"""Traces that a wrong decoding, a web page or a spreadsheet left in a text."""

import re

_TYPOGRAPHIC = frozenset("‘’“”–—…•")
# What the bytes 0x80-0xBF, which continue a UTF-8 character, look like when read as Latin-1 or Windows-1252.
_AS_WINDOWS = {
    byte: bytes([byte]).decode("cp1252")
    for byte in range(0x80, 0xA0)
    if byte not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)  # unassigned there
}
_BYTE_OF = {chr(byte): byte for byte in range(0x80, 0xC0)} | {char: byte for byte, char in _AS_WINDOWS.items()}
_CONTINUES = "[" + "".join(map(re.escape, _BYTE_OF)) + "]"
# Two bytes: only the leads of Latin-1 letters, Greek and Cyrillic; others precede closing quotes in real words.
_MOJIBAKE = re.compile(f"[ÂÃÎÏÐÑ]{_CONTINUES}|[à-ï]{_CONTINUES}{{2}}|[ð-ô]{_CONTINUES}{{3}}")
_GB_AS_LATIN = re.compile("[\u00a1-\u00fe]{6,}")  # GB18030 bytes read as Latin-1: no word has six such letters in a row
_TAGS = "p|br|b|i|u|em|strong|sub|sup|span|div|font|img|table|t[dhr]|[uo]l|li"
_KNOWN = (
    ("replacement character", re.compile("\ufffd|锟斤拷")),
    ("control character", re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")),
    ("private-use character", re.compile("[\ue000-\uf8ff\U000f0000-\U0010ffff]")),
    ("half of a surrogate pair", re.compile("[\ud800-\udfff]")),
    ("not a character", re.compile("[\ufdd0-\ufdef\ufffe\uffff]")),
    ("invisible character", re.compile("[\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]")),
    ("HTML entity", re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")),
    ("HTML tag", re.compile(rf"</?(?:{_TAGS})\b[^<>]{{0,200}}>", re.IGNORECASE)),
    ("escape sequence", re.compile(r"\\u[0-9a-fA-F]{4}|\\x[0-9a-fA-F]{2}|_x[0-9a-fA-F]{4}_")),
)  # fmt: skip
_SUSPECT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f&<\\_]")  # an ASCII text without one of these is in order


def artefacts(text: str) -> list[str]:
    """What is wrong with the text's encoding, each kind once with its first place, in ASCII; mostly nothing."""
    if text.isascii() and not _SUSPECT.search(text):
        return []
    found = [(kind, match[0]) for kind, pattern in _KNOWN if (match := pattern.search(text))]
    if not text.isascii():
        for match in _MOJIBAKE.finditer(text):
            if _is_utf8_misread(match[0]):
                found.append(("mojibake", match[0]))
                break
        if match := _GB_AS_LATIN.search(text):
            found.append(("mojibake", match[0]))
    return [f"{kind} {ascii(place[:20])}" for kind, place in found]


def _is_utf8_misread(run: str) -> bool:
    if len(run) == 3 and set(run[1:]) <= _TYPOGRAPHIC:  # a word's last letter and two marks, as in (café...")
        return False
    try:
        bytes([ord(run[0]), *(_BYTE_OF[char] for char in run[1:])]).decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
