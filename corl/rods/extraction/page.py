"""A page of a dump: what can be told from its bytes before anything is parsed, and the page itself."""

import hashlib
import html
import re
from dataclasses import dataclass
from xml.etree import ElementTree

from corl.rods.extraction.node_types import hint_from_categories
from corl.rods.extraction.titles import file_title, title_key

MAX_PAGE = 4 << 20  # bytes; MediaWiki itself refuses pages above 2 MiB

_TITLE = re.compile(rb"<title>([^<]{0,1000})</title>")
_NAMESPACE = re.compile(rb"<ns>\s*(-?\d+)\s*</ns>")
_REDIRECT = re.compile(rb'<redirect title="([^"]{0,1000})"')
# Boxes worth a parse: those that are read, those that tell a type, and parameters that only a readable box has.
_MEDICAL = re.compile(
    rb"infobox[ _](?:medical|disease|condition|symptom|drug|medic|vaccine|virus|chemical|anatomy|bone|muscle|"
    rb"artery|vein|"
    rb"nerve|brain|ligament|embryology|diagnostic|intervention|gene\b|protein|enzyme|nonhuman)|"
    rb"diseasedisorder|drug ?box|"
    rb"chembox|taxobox|speciesbox|virusbox|\{\{\s*(?:pbb|symptom|signsymptom)\b|medicamento|"
    rb"\|\s*(?:symptoms|medication|routes_of_administration|legal_us|pregnancy_(?:au|us|category))\s*=",
    re.I,
)
_OTHER_BOX = re.compile(rb"\{\{\s*(infobox\b[^{}|<>\n]{0,100}?)\s*(?:[|}\n]|&lt;)", re.I)
# Any other template that opens on a line of its own and goes on below: the layout of a box in every language.
_BLOCK = re.compile(rb"(?:^|>)\{\{(?![Cc]it[ea])[^{}|\[\]\n]{1,200}\n\s*\|", re.M)
_REDIRECT_TEXT = re.compile(r"^\s*#\s*\w+\s*:?\s*\[\[\s*:?([^\[\]|]{1,255})(?:\|[^\[\]]*)?\]\]")
# Redirects that name a part, a sibling or a whole of their target: right for a reader, no other name of the thing.
_NOT_ALIAS = re.compile(
    r"\{\{\s*r(?:edirect)?[ _](?:to|from|with)[ _](?:section|anchor|sub-?topic|related|list|member|embedded|"
    r"part|broader|"
    r"narrower|antonym|possibilities|merge|product|school|domain|diacritic|opposite|cause|symptom|topic|book)",
    re.I,
)
_DISAMBIGUATION = re.compile(
    r"\{\{\s*(?:disambig\w*|dab|disamb|hndis|geodis|hospital disambiguation|medical disambiguation|set[ _]index|sia|"
    r"numberdis|letter-number combination disambiguation|begriffskl\u00e4rung|homonymie|desambiguaci\u00f3n|"
    r"\u6d88\u6b67\u4e49|\u6d88\u6b67\u7fa9|aimai|\u66d6\u6627\u3055\u56de\u907f|"
    r"\u043d\u0435\u043e\u0434\u043d\u043e\u0437\u043d\u0430\u0447\u043d\u043e\u0441\u0442\u044c|[^{}|"
    r"]{0,40}[ _]disambiguation|"
    r"disambiguation[ _](?!needed)[^{}|]{0,30}|[^{}|]{0,40}set index(?: article)?)\s*(?:\||\}\})",
    re.I,
)
_MAY_BE_SEVERAL = re.compile(
    rb"\{\{\s*(?:[^{}|]{0,40}disambig|dab|hndis|geodis|set[ _]index|sia|numberdis|begriffskl|homonymie|desambig|aimai|"
    + rb"|".join(w.encode() for w in ("\u6d88\u6b67", "\u66d6\u6627", "\u043d\u0435\u043e\u0434\u043d\u043e"))
    + rb"|[^{}|]{0,40}set index)",
    re.I,
)
_CATEGORY_BYTES = re.compile(rb"\[\[\s*[Cc]ategory\s*:\s*([^\[\]|<]{1,200})")
_LIST_TITLE = re.compile(r"^(?:lists? of|outline of|index of|glossary of|timeline of|comparison of)\b", re.I)
_CATEGORY = re.compile(r"\[\[\s*(?:category|categor\u00eda|kategorie|cat\u00e9gorie)\s*:\s*([^\[\]|]{1,200})", re.I)


@dataclass(frozen=True, slots=True)
class Page:
    title: str
    revision: str
    namespace: int
    redirect: str  # the target's title key; "" where the page is none, "#" where it names no article
    text: str
    file: str
    titled: bool = True  # the title is the page's own, not its file's name


@dataclass(frozen=True, slots=True)
class Glance:
    """What the bytes of a `<page>` say without a parse."""

    title: str
    namespace: int
    redirect: bool
    parse: bool  # a box may be here
    reason: str  # why there is nothing to read, "" where it must be parsed or is a redirect


def glance(raw: bytes) -> Glance:
    found = _TITLE.search(raw)
    namespace = _NAMESPACE.search(raw)
    name = html.unescape(found.group(1).decode("utf-8", "replace")) if found else ""
    space = int(namespace.group(1)) if namespace else 0
    title = " ".join(name.split())
    if space:
        return Glance(title, space, False, False, "other_namespace")
    if _REDIRECT.search(raw, 0, 4000):
        return Glance(title, space, True, False, "")
    if _MEDICAL.search(raw):
        return Glance(title, space, False, True, "")
    if box := _OTHER_BOX.search(raw):
        return Glance(title, space, False, False, unsupported(box.group(1).decode("utf-8", "replace")))
    return Glance(title, space, False, _BLOCK.search(raw, 0, 60_000) is not None, "no_box")


def unsupported(name: str) -> str:
    return f"unsupported_box:{' '.join(name.replace('_', ' ').split())}"


def parse_page(raw: bytes, file: str) -> Page | str:
    """The page of a `<page>` element, or the reason why there is none."""
    try:
        element = ElementTree.fromstring(raw)
    except ElementTree.ParseError:
        return "malformed_xml"
    text = element.findtext("revision/text") or ""
    title = " ".join((element.findtext("title") or "").split())
    if not title:
        return "no_title"
    revision = (element.findtext("revision/id") or "").strip() or hashlib.sha256(text.encode()).hexdigest()
    redirect = element.find("redirect")
    target = _redirect_target(text)
    if redirect is not None:
        named = redirect.get("title", "")
        target = target or title_key(named) or "#"
    namespace = (element.findtext("ns") or "0").strip()
    return Page(title, revision, int(namespace) if namespace.lstrip("-").isdigit() else 0, target, text, file)


def wiki_page(raw: bytes, file: str, stem: str) -> Page | str:
    """The page of a .wiki file; its title is the file's until its box says a name, its revision the bytes' SHA-256."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return "not_utf8"
    title = file_title(stem)
    if not title:
        return "no_title"
    return Page(title, hashlib.sha256(raw).hexdigest(), 0, _redirect_target(text), text, file, titled=False)


def _redirect_target(text: str) -> str:
    found = _REDIRECT_TEXT.match(text[:2000])
    return (title_key(found.group(1)) or "#") if found else ""


def is_alias(page: Page) -> bool:
    """Whether a redirect is another name of its target, and not of a section of it or of something near it."""
    return page.redirect not in ("", "#") and not _NOT_ALIAS.search(page.text[:5000])


def unspecific(page: Page) -> str:
    """disambiguation or list_page where the page is about no single thing, else ""."""
    if page.title.lower().endswith("(disambiguation)") or _DISAMBIGUATION.search(page.text):
        return "disambiguation"
    return "list_page" if _LIST_TITLE.match(page.title) else ""


def categories(text: str) -> list[str]:
    return [" ".join(name.replace("_", " ").split()) for name in _CATEGORY.findall(text)]


def unread_topic(raw: bytes, title: str) -> tuple[bool, str, str]:
    """(about no single thing, type told by its categories, reason) of a page that is not parsed."""
    if title.lower().endswith("(disambiguation)") or _MAY_BE_SEVERAL.search(raw):
        text = html.unescape(raw.decode("utf-8", "replace"))
        if reason := unspecific(Page(title, "", 0, "", text, "")):
            return True, "", reason
    if _LIST_TITLE.match(title):
        return True, "", "list_page"
    found = _CATEGORY_BYTES.findall(raw, max(0, len(raw) - 20_000))  # categories stand at a page's end
    return False, hint_from_categories([name.decode("utf-8", "replace") for name in found]), ""
