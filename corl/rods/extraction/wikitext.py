"""Wikitext up to the box: noise removed, templates sliced by their braces, both in linear time.

A page is never parsed as a whole. Comments and references go first, one scan over the brace tokens finds every template
and its partner, and only the box that is wanted is handed on (box.py).
"""

import re
from dataclasses import dataclass

LABEL, NOTE = "\x02", "\x03"  # where a comment stood (its text between two), and where a reference stood
MAX_DEPTH = 40  # of templates inside a box; real ones stay below 10

_CONTROL = dict.fromkeys(range(32)) | {ord("\t"): " ", ord("\n"): "\n", ord("\r"): None, 0x200B: None, 0xFEFF: None}
_OPENING = re.compile(r"<!--|<(ref|nowiki|math|gallery|timeline|score|source|syntaxhighlight)\b([^<>]{0,2000})>", re.I)
_BRACES = re.compile(r"\{\{|\}\}")
_NAME_END = re.compile(r"[|{}<>\[\]\n\x02\x03]")


@dataclass(frozen=True, slots=True)
class Template:
    """One template of a page. `end` is None where its braces never close; `depth` counts the templates around it,
    `inner` the levels of templates within it."""

    name: str
    start: int
    end: int | None
    depth: int
    inner: int


def remove_noise(text: str, *, keep_labels: bool = False) -> str:
    """The text without comments and without what stands between reference tags; a reference leaves a NOTE.

    `keep_labels` leaves a short comment's text between two LABELs: a lead's paragraphs are labelled that way.
    """
    text = text.translate(_CONTROL)
    parts, at, hopeless = [], 0, set[str]()
    while opening := _OPENING.search(text, at):
        parts.append(text[at : opening.start()])
        if opening.group(1) is None:
            end = text.find("-->", opening.end())
            if end < 0:  # an open comment hides the rest, as on the page itself
                return "".join(parts)
            if keep_labels and end - opening.end() < 100:
                parts.append(f"{LABEL}{text[opening.end() : end].strip()}{LABEL}")
            at = end + 3
            continue
        tag, at = opening.group(1).lower(), opening.end()
        if tag == "ref":
            parts.append(NOTE)
        if opening.group(2).rstrip().endswith("/") or tag in hopeless:
            continue
        closing = re.compile(rf"</{tag}\s*>", re.I).search(text, at)
        if closing is None:  # never look again: a thousand open tags must not cost a thousand scans
            hopeless.add(tag)
        else:
            if tag == "nowiki":
                parts.append(text[at : closing.start()].replace("{", "(").replace("}", ")").replace("[", "("))
            at = closing.end()
    parts.append(text[at:])
    return "".join(parts)


def find_templates(text: str) -> list[Template]:
    """Every template in order of its opening braces, from one pass over the braces."""
    found: list[Template] = []
    open_ones: list[list[int]] = []  # start, levels seen inside
    for token in _BRACES.finditer(text):
        if token.group() == "{{":
            open_ones.append([token.start(), 0])
        elif open_ones:
            start, inner = open_ones.pop()
            if open_ones:
                open_ones[-1][1] = max(open_ones[-1][1], inner + 1)
            if name := _name(text, start):
                found.append(Template(name, start, token.end(), len(open_ones), inner))
    for depth, (start, inner) in enumerate(open_ones):
        if name := _name(text, start):
            found.append(Template(name, start, None, depth, inner))
    return sorted(found, key=lambda template: template.start)


def _name(text: str, start: int) -> str:
    """What stands between the opening braces and the first bar, closing brace or line end; "" for no plain name."""
    head = text[start + 2 : start + 200].lstrip(" _\n\t")
    end = _NAME_END.search(head)
    if end is None or end.group() not in "|}\n" + LABEL + NOTE:
        return ""
    name = " ".join(head[: end.start()].replace("_", " ").split())
    return re.sub(r"^template ?: ?", "", name, flags=re.I)


def cut_templates(text: str) -> str:
    """The text without its templates; braces that never close go alone."""
    parts, at, starts = [], 0, list[int]()
    for token in _BRACES.finditer(text):
        if token.group() == "{{":
            starts.append(token.start())
        elif starts and (start := starts.pop()) >= at and not starts:
            parts.append(text[at:start])
            at = token.end()
    parts.append(text[at:])
    return "".join(parts).replace("{{", " ").replace("}}", " ")
