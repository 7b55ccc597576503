"""The box of a page: which template it is, and its parameters, read by mwparserfromhell from that template alone.

The library is exact on what MediaWiki writes and slow on what nobody would: 25 kB of open links and tags cost it 22 s.
So whatever would not pair up is made plain text before it sees the box, and a box is bounded in size and depth.
"""

import re
from dataclasses import dataclass

from corl.rods.extraction.parameters import DISEASE_MARKS, DRUG_MARKS
from corl.rods.extraction.wikitext import MAX_DEPTH, NOTE, Template

BREAK = "\x1e"  # a line break or a list's bullet
MAX_BOX = 100_000  # characters, without references and comments; the longest real ones have 20,000
MAX_BARS = 5_000  # `|` in a box; each may be a parameter, and real ones have a few hundred

_KINDS = {
    "disease": "infobox medical condition|infobox medical condition (new)|infobox disease|diseasedisorder infobox|"
    "infobox condition|infobox medical condition new|medical condition (new)|infobox medical disorder",
    "symptom": "infobox symptom|symptom infobox|signsymptom infobox",
    "drug": "infobox drug|drugbox|drug box|infobox medication|infobox medicine|infobox vaccine",
    "chembox": "chembox|chembox new|infobox chemical",
    "taxobox": "taxobox|automatic taxobox|speciesbox|virusbox|infobox virus|subspeciesbox|infraspeciesbox",
}
_KIND_OF = {name: kind for kind, names in _KINDS.items() for name in names.split("|")}
# Boxes that are not read but tell what their page is about.
TOLD_TYPES = {
    "infobox anatomy": "anatomy", "infobox bone": "anatomy", "infobox muscle": "anatomy", "infobox artery": "anatomy",
    "infobox vein": "anatomy", "infobox nerve": "anatomy", "infobox brain": "anatomy", "infobox ligament": "anatomy",
    "infobox embryology": "anatomy", "infobox diagnostic": "lab_test", "infobox medical intervention": "procedure",
    "infobox interventions": "procedure", "infobox medical intervention (new)": "procedure", "infobox gene": "gene",
    "infobox protein": "protein", "infobox enzyme": "protein", "infobox nonhuman protein": "protein", "pbb": "gene",
    "infobox protein family": "protein", "infobox medical speciality": "specialty",
    "infobox medical specialty": "specialty", "infobox drug class": "drug_class",
    "infobox chemical class": "drug_class",
}  # fmt: skip
# The word for a box in other languages, Cyrillic, Armenian, Arabic, Indic, Thai, Korean and Chinese scripts among them.
_BOX_WORDS = re.compile(
    r"^(?:infobox|infoboks|infocaja|infobulle|infokasten|infokutija|infotaula|infopoint|infokast|ficha|tietolaatikko|"
    r"taxobox|chembox|drugbox|bilgi kutusu|th\u00f4ng tin|h\u1ed9p th\u00f4ng tin|kotak info|inligtingskas|info/|"
    r"\u0438\u043d\u0444\u043e\u043a\u0443\u0442\u0438\u044f|"
    r"\u0438\u043d\u0444\u043e\u043a\u0443\u0442\u0438\u0458\u0430|"
    r"\u043a\u0430\u0440\u0442\u043e\u0447\u043a\u0430|\u043a\u0430\u0440\u0442\u043a\u0430|"
    r"\u057f\u0565\u0572\u0565\u056f\u0561\u0584\u0561\u0580\u057f|"
    r"\u057f\u0565\u0572\u0565\u056f\u0561\u057f\u0578\u0582\u0583|\u0635\u0646\u062f\u0648\u0642|"
    r"\u0645\u0639\u0644\u0648\u0645\u0627\u062a|\u062c\u0639\u0628\u0647|"
    r"\u062e\u0627\u0646\u06c1 \u0645\u0639\u0644\u0648\u0645\u0627\u062a|\u062a\u0628\u0646\u064a\u0629|"
    r"\u091c\u094d\u091e\u093e\u0928\u0938\u0928\u094d\u0926\u0942\u0915|"
    r"\u092e\u093e\u0939\u093f\u0924\u0940\u091a\u094c\u0915\u091f|\u09a4\u09a5\u09cd\u09af\u099b\u0995|"
    r"\u0b24\u0b25\u0b4d\u0b5f\u0b1b\u0b15|\u0a1c\u0a3e\u0a23\u0a15\u0a3e\u0a30\u0a40\u0a21\u0a71\u0a2c\u0a3e|"
    r"\u0ba4\u0b95\u0bb5\u0bb2\u0bcd\u0b9a\u0b9f\u0bcd\u0b9f\u0bae\u0bcd|"
    r"\u0c38\u0c2e\u0c3e\u0c1a\u0c3e\u0c30\u0c2a\u0c46\u0c1f\u0c4d\u0c1f\u0c46|"
    r"\u0cae\u0cbe\u0cb9\u0cbf\u0ca4\u0cbf\u0c9a\u0ccc\u0c95|"
    r"\u0e01\u0e25\u0e48\u0e2d\u0e07\u0e02\u0e49\u0e2d\u0e21\u0e39\u0e25|\u4fe1\u606f\u6846|"
    r"\u8cc7\u8a0a\u6846|\uc815\ubcf4\uc0c1\uc790)|"
    r"(?:infobox|boks|kutusu|\uc815\ubcf4|\u4fe1\u606f\u6846|\u8cc7\u8a0a\u6846)$|"
    r"\u0438\u043d\u0444\u043e\u0440\u043c\u0430\u0446\u0438\u044f|\u10d8\u10dc\u10e4\u10dd\u10d3\u10d0\u10e4\u10d0",
    re.I,
)
# Templates with named parameters that are no box of the page.
_NO_BOX = re.compile(
    r"^(?:cite|cita|citation|multiple|double|image|quote|sidebar|medical resources|drug resources|"
    r"medical condition|use |"
    r"short description|about|for|redirect|other|hatnote|see|main|pp-|bots|update|refimprove|more|unref|"
    r"authority|portal|"
    r"taxonbar|navbox|div|col|legend|annotated|location|graph|chart|external|sister|commons|audio|ipa|lang|traducido|"
    r"reflist|listaref|control|#|default|columns|gallery|panorama|css|video|orphan|article|copy|expert|over|tone|merge)",
    re.I,
)
_NAMED = re.compile(r"\|\s{0,40}([^|={}\[\]<>\s][^|={}\[\]<>\n]{0,58}?)\s{0,40}=")
_LINK = re.compile(r"\[\[([^\[\]{}|\n\x03]{1,255})((?:\|[^\[\]]{0,800})?)\]\]")
_BROKEN_LINK = re.compile(r"\[\[([^\[\]{}|]{1,255})(?:\|([^\[\]]{0,800}))?\]\]")
_BREAK_TAG = re.compile(r"<\s*/?\s*(?:br|p|li|ul|ol|hr)\b[^<>]{0,200}>", re.I)
_ANY_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,300}>")
_EXTERNAL = re.compile(r"\[(?:https?:|ftp:)?//[^\s\[\]]{1,2000}([^\[\]]{0,500})\]")


@dataclass(frozen=True, slots=True)
class Box:
    """A box that can be read: `kind` is disease, symptom, drug, chembox or taxobox; `parameters` in their order, each
    as (name to compare, value, name as written)."""

    name: str
    kind: str
    parameters: tuple[tuple[str, str, str], ...]


def choose_box(text: str, templates: list[Template]) -> tuple[Template | None, str]:
    """(the template that is the page's box, its kind); the kind is "" where the box cannot be read.

    A box is known by its name or, under any name, by four parameters that only such boxes have. A page may hold
    several; the first that can be read is the page's own.
    """
    first_heading = _heading(text)
    unread: Template | None = None
    for template in templates:
        name = template.name.lower()
        kind = _KIND_OF.get(name, "")
        if kind and template.end is None:
            return template, kind
        boxlike = bool(kind or name in TOLD_TYPES or _BOX_WORDS.search(name))
        if not boxlike and (template.depth or template.start > first_heading or _NO_BOX.search(name)):
            continue
        named = _parameter_names(text[template.start : template.end or template.start + MAX_BOX])
        if kind or not boxlike or name not in TOLD_TYPES:
            kind = kind or _kind_by_parameters(named)
        if kind and (kind in ("chembox", "taxobox") or template.end is None or _has_english(named)):
            return template, kind
        if unread is None and (boxlike or len(named) >= 4):
            unread = template
    return unread, ""


def _heading(text: str) -> int:
    heading = re.compile(r"^==", re.M).search(text)
    return heading.start() if heading else len(text)


def _parameter_names(source: str) -> set[str]:
    return {parameter_name(name) for name in _NAMED.findall(source[:MAX_BOX])}


def _has_english(named: set[str]) -> bool:
    return bool(named & (DISEASE_MARKS | DRUG_MARKS | {"name", "drug name", "icd10", "icd-10", "image", "field"}))


def _kind_by_parameters(named: set[str]) -> str:
    disease, drug = len(named & DISEASE_MARKS), len(named & DRUG_MARKS)
    if max(disease, drug) < 4:
        return ""
    return "disease" if disease > drug else "drug"


def parameter_name(name: str) -> str:
    """`Side_Effects ` is `side effects`."""
    return " ".join(name.replace("_", " ").split()).lower()


def read_box(source: str, template: Template, kind: str) -> Box | str:
    """The box with its parameters, those of boxes inside it (`module=`) behind its own; or the reason it is refused."""
    assert template.end is not None
    if template.inner > MAX_DEPTH:
        return "box_too_deep"
    too_many = source.count("|", template.start, template.end) > MAX_BARS
    if template.end - template.start > MAX_BOX or too_many:
        return "box_too_long"
    parser = _library()
    code = parser.parse(_pair_up(source[template.start : template.end]), skip_style_tags=True)
    outer = next(iter(code.ifilter_templates(recursive=False)), None)
    if outer is None:
        return "box_unparsable"
    parameters: list[tuple[str, str, str]] = []
    _collect(outer, kind, parameters)
    return Box(template.name, kind, tuple(parameters))


def _collect(template, kind: str, parameters: list[tuple[str, str, str]]) -> None:
    inside = []
    for parameter in template.params:
        if not parameter.showkey:
            inside += _boxes_in(parameter.value, kind)
            continue
        boxes = _boxes_in(parameter.value, kind)
        inside += boxes
        if not boxes:
            written = " ".join(str(parameter.name).split())
            parameters.append((parameter_name(written), render(parameter.value).strip(), written))
    for box in inside:
        _collect(box, kind, parameters)


def _boxes_in(value, kind: str) -> list:
    def reads(name: str) -> bool:
        return name.startswith("chembox") if kind == "chembox" else _KIND_OF.get(name) == kind

    return [t for t in value.ifilter_templates(recursive=False) if reads(parameter_name(str(t.name)))]


def _pair_up(source: str) -> str:
    """The box with everything plain text that does not pair up: tags, single brackets, links cut by a line."""
    source = _BREAK_TAG.sub(BREAK, source)
    source = _ANY_TAG.sub("", source).replace("<", "&lt;")
    source = _EXTERNAL.sub(lambda m: m.group(1), source).replace("://", ": ")
    parts, at = [], 0
    for link in _BROKEN_LINK.finditer(source):
        parts.append(_plain(source[at : link.start()]))
        if whole := _LINK.fullmatch(link.group()):
            parts.append(f"[[{whole.group(1)}{' '.join(whole.group(2).split())}]]")
        else:  # a line cuts its target, so what it names is lost; what it shows is not
            parts.append(" ".join((link.group(2) or link.group(1)).split()))
        at = link.end()
    parts.append(_plain(source[at:]))
    return "".join(parts)


def _plain(text: str) -> str:
    text = text.replace("[[", "").replace("]]", "").replace("[", "(").replace("]", ")")
    return re.sub(r"(?<!\{)\{\|", "( |", text)


def _library():
    try:
        import mwparserfromhell
    except ImportError:
        raise ValueError(
            'reading boxes needs mwparserfromhell; install it with `pip install "corl[wiki]"` '
            "or `pip install mwparserfromhell`"
        ) from None
    return mwparserfromhell


def library_version() -> str:
    return str(_library().__version__)


_LISTS = {
    "plainlist", "plain list", "ubl", "unbulleted list", "ublist", "hlist", "flatlist", "flat list", "cslist", "csv",
    "collapsible list", "indented plainlist", "bulleted list", "blist", "comma separated entries", "unbulleted", "ul",
    "br separated entries", "startplainlist", "plainlist/sandbox", "hlist-comma", "ordered list",
}  # fmt: skip
_WRAPPERS = {
    "nowrap", "small", "smaller", "nobold", "big", "no wrap", "nobr", "longitem", "abbr", "tooltip", "lang", "langx",
    "transliteration", "lang-la", "lang-grc", "noitalic", "em", "strong", "nobreak", "center", "resize", "larger",
    "font", "color", "unlinked", "ill", "interlanguage link", "link-interwiki", "chem", "chem2", "su", "sup", "sub",
}  # fmt: skip
_QUANTITIES = {"val", "convert", "cvt", "circa", "c.", "ca", "approx", "approximately", "~", "gaps"}
_LAST = {"lang", "langx", "font", "color", "resize", "transliteration"}
_CHARACTERS = {
    "!": "|", "=": "=", "ndash": "\u2013", "en dash": "\u2013", "snd": " \u2013 ", "spnd": " \u2013 ", "nbsp": " ",
    "break": BREAK, "br": BREAK, "clear": BREAK, "*": BREAK, "middot": "\u00b7", "dot": "\u00b7", "alpha": "\u03b1",
    "beta": "\u03b2", "gamma": "\u03b3", "micro": "\u03bc", "mu": "\u03bc",
}  # fmt: skip


_CODES = {"icd10", "icd9", "icd11", "icd10cm", "icdo", "omim", "omim2", "atc", "icd-10", "icd-9"}


def _code(values: list[str], *, joined: bool) -> str:
    """{{ICD10|F|84|0|f|80}} is F84.0, other codes are their template's first value."""
    if not joined or len(values) < 2:
        return "".join(values[:1])
    return values[0] + values[1] + (f".{values[2]}" if len(values) > 2 and values[2] else "")


def render(value) -> str:
    """A parameter's value as text with `[[target|shown]]` links; list templates and bullets become BREAKs."""
    parts = []
    for node in value.nodes:
        kind = type(node).__name__
        if kind == "Text":
            parts.append(str(node.value))
        elif kind == "Wikilink":
            shown = render(node.text) if node.text is not None else ""
            parts.append(f"[[{node.title}|{shown}]]" if shown.strip() else f"[[{node.title}]]")
        elif kind == "HTMLEntity":
            parts.append(node.normalize())
        elif kind == "Tag":
            mark = str(node.wiki_markup or "")
            parts.append(BREAK if mark in ("*", "#", ":", ";", "----") or str(node.tag) == "br" else render_tag(node))
        elif kind == "Template":
            parts.append(_render_template(node))
        elif kind == "ExternalLink" and node.title is not None or kind == "Heading":
            parts.append(render(node.title))
    return "".join(parts)


def render_tag(node) -> str:
    return render(node.contents) if node.contents is not None else ""


def _render_template(node) -> str:
    name = parameter_name(str(node.name))
    positional = [p for p in node.params if not p.showkey or str(p.name).strip().isdigit()]
    if name in _CHARACTERS:
        return _CHARACTERS[name]
    if name in _LISTS or name.startswith(("plainlist", "flatlist")):
        return BREAK + BREAK.join(render(p.value) for p in positional) + BREAK
    if name in _QUANTITIES:
        values = [render(p.value).strip() for p in positional]
        unit = next((render(p.value).strip() for p in node.params if str(p.name).strip() in ("u", "ul")), "")
        if name in ("convert", "cvt"):
            if len(values) > 3 and values[1] in ("-", "\u2013", "to", "and", "or"):
                return f"{values[0]}\u2013{values[2]} {values[3]}"
            return " ".join(values[:2])
        if len(values) > 1 and name == "val" and re.fullmatch(r"[\d.]+", values[1]):
            return f"{values[0]} \u00b1{values[1]} {unit}".strip()
        return f"{values[0]} {unit}".strip() if values else ""
    if name in _CODES:
        values = [render(p.value).strip() for p in positional]
        return _code(values, joined=name.startswith("icd10") or name == "icd-10") + " "
    if name in _WRAPPERS and positional:
        return render(positional[-1 if name in _LAST else 0].value)
    return NOTE if name in ("r", "rp", "sfn", "refn", "efn", "cn", "citation needed", "fact", "sfnp", "ref") else ""
