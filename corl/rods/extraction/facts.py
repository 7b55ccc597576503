"""What one page says, before anyone knows what its links are: a plain record that a process can hand to another."""

import re
from dataclasses import dataclass, field

from corl.rods.extraction.box import TOLD_TYPES, Box, choose_box, read_box
from corl.rods.extraction.list_items import ListItem, split_list
from corl.rods.extraction.literals import Literal, rarity, read_literals
from corl.rods.extraction.node_types import BOX_TYPES, hint_from_categories
from corl.rods.extraction.page import Page, categories, is_alias, unspecific, unsupported
from corl.rods.extraction.parameters import (
    ALIASES,
    ATC,
    ATTRIBUTE_OF,
    IDENTIFIERS,
    ORGANS,
    RELATION_OF,
    RESOURCES,
    TITLES,
)
from corl.rods.extraction.sections import prose_links
from corl.rods.extraction.titles import split_disambiguator, title_key
from corl.rods.extraction.wikitext import Template, find_templates, remove_noise

_RANKS = ("regnum", "phylum", "divisio", "kingdom", "domain", "virus group", "realm", "superregnum", "unranked phylum",
          "unranked regnum")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mention:
    """The page's subject stands in one of `relations` to the thing at `target` (a title key) or named `text`.

    Several relations: prose, which takes the first that the thing's type fits. `backwards`: the thing is the head.
    """

    relations: tuple[str, ...]
    text: str
    target: str
    strong: bool
    parameter: str
    alias: str = ""
    italic: bool = False
    note: str = ""
    prose: bool = False
    backwards: bool = False


@dataclass(slots=True)
class PageFacts:
    """A page read: a box's facts where `type` is set, else why there are none (`reason`) and what it still tells."""

    title: str
    revision: str
    file: str
    type: str = ""
    reason: str = ""
    redirect: str = ""  # a target's title key
    alias: bool = False  # the redirect is another name
    told_type: str = ""  # by a box that is not read, or by the categories
    unspecific: bool = False
    rarity: str = ""
    aliases: list[tuple[str, str]] = field(default_factory=list)
    mentions: list[Mention] = field(default_factory=list)
    attributes: list[tuple[str, Literal, str]] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


def read_page(page: Page) -> PageFacts:
    facts = PageFacts(page.title, page.revision, page.file)
    if page.namespace:
        facts.reason = "other_namespace"
        return facts
    if page.redirect:
        facts.redirect, facts.alias = page.redirect, is_alias(page)
        facts.reason = "redirect"
        return facts
    text = remove_noise(page.text)
    templates = find_templates(text)
    template, kind = choose_box(text, templates)
    if reason := unspecific(page):
        facts.reason, facts.unspecific = reason, True
        return facts
    facts.told_type = hint_from_categories(categories(page.text))
    if template is None:
        facts.reason = "no_box"
    elif not kind:
        facts.told_type = TOLD_TYPES.get(template.name.lower(), facts.told_type)
        facts.reason = unsupported(template.name)
    elif template.end is None:
        facts.reason = "unbalanced_box"
    else:
        box = read_box(text, template, kind)
        if isinstance(box, str):
            facts.reason = box
        else:
            _read_facts(facts, page, box, text, templates)
    return facts


def _read_facts(facts: PageFacts, page: Page, box: Box, text: str, templates: list[Template]) -> None:
    kind = box.kind
    told = _told(box)
    if not page.titled:
        facts.title = next((name for key in TITLES if (name := _own_name(told.get(key, "")))), page.title)
    if refusal := _not_medical(box, told, page):
        facts.reason = refusal
        return
    facts.type = BOX_TYPES[kind]
    for name, value, written in _once(box):
        if not value:
            continue
        if relation := _relation(kind, name, told):
            _read_list(facts, relation, written, value)
        elif attribute := ATTRIBUTE_OF[kind].get(name):
            literals = read_literals(value)
            facts.attributes += [(attribute, literal, written) for literal in literals]
            if attribute == "frequency":
                facts.rarity = rarity(literals)
        elif name in ALIASES:
            facts.aliases += [(alias, ALIASES[name]) for alias in _names(value)]
    _read_identifiers(facts, kind, told)
    for template in templates:
        if template.name.lower() in RESOURCES and template.end is not None:
            resources = read_box(text, template, kind)
            if isinstance(resources, Box):
                _read_identifiers(facts, kind, _told(resources))
    own = split_disambiguator(facts.title)[0].casefold()
    for link in prose_links(remove_noise(page.text, keep_labels=True), facts.type):
        if own in link.target.casefold():  # the page itself, a kind of it, its history
            continue
        facts.mentions.append(
            Mention(
                link.relations, link.shown, link.target, False, f"section:{link.section}", prose=True,
                backwards=facts.type == "pathogen",
            )
        )  # fmt: skip


def _told(box: Box) -> dict[str, str]:
    return {name: value for name, value, _ in box.parameters if value}


def _once(box: Box) -> list[tuple[str, str, str]]:
    """Each filled parameter once: of one that is given twice the last counts, as MediaWiki has it."""
    last = {written: (name, value, written) for name, value, written in box.parameters if value}
    return list(last.values())


def _relation(kind: str, name: str, told: dict[str, str]) -> str:
    if kind == "drug" and name == "target":
        # a vaccine's target is what it prevents, an antibody's what it binds
        return "prevents" if "vaccine" in told.get("type", "").lower() else "targets"
    if kind == "drug" and re.fullmatch(r"class\d", name):
        return ""  # a combination's components, not the drug's own class
    return RELATION_OF[kind].get(name, "")


def _read_list(facts: PageFacts, relation: str, name: str, value: str) -> None:
    for item in split_list(value, subject=facts.title, dropped=facts.lost):
        text = item.text
        if relation == "metabolised_by" and not item.target:
            text = ORGANS.get(text.casefold(), text)
        if relation == "has_subtype" and not item.target and len(text.split()) < 2:
            facts.lost.append("bare_subtype")  # "acute": no name outside its page
            continue
        facts.mentions.append(_mention(relation, name, item, text))


def _mention(relation: str, name: str, item: ListItem, text: str) -> Mention:
    return Mention((relation,), text, item.target, item.whole, name, item.alias, item.italic, item.note)


def _not_medical(box: Box, told: dict[str, str], page: Page) -> str:
    """The reason why a chemical or an organism is no drug and no pathogen, "" where nothing says so."""
    if box.kind == "chembox":
        marks = {"atccode prefix", "atccode suffix", "adminroutes", "halflife", "excretion", "metabolism", "bioavail",
                 "proteinbound", "drugbank", "legal status", "pregcat", "pharmacology"}  # fmt: skip
        return "" if marks & set(told) else "not_medical:Chembox"
    if box.kind == "taxobox":
        ranks = " ".join(told.get(rank, "") for rank in _RANKS)
        about = " ".join(categories(page.text))
        parasite = re.search(
            r"nematod|platyhelminth|apicomplexa|euglenozoa|microspor|metamonad|amoebozoa|acanthocephala|arthropod",
            ranks,
            re.I,
        )
        feared = re.search(r"parasit|pathogen|infect|disease|zoono", about, re.I)
        if re.search(r"animalia|plantae|metazoa|chordata", ranks, re.I):
            return "" if parasite and feared else f"not_medical:{box.name}"
        if re.search(r"bacteri|fungi|archaea|vir|protist|chromist|amoeb|[1-7iv]", ranks, re.I) or parasite:
            return ""
        microbe = re.search(r"bacteri|fung|virus|yeast|protozoa|nematod|mycoplasma", about, re.I)
        return (
            "" if feared or microbe or box.name.lower() in ("virusbox", "infobox virus") else f"not_medical:{box.name}"
        )
    return ""


def _read_identifiers(facts: PageFacts, kind: str, told: dict[str, str]) -> None:
    for name, value in told.items():
        if identifier := IDENTIFIERS.get(name):
            text = " ".join(re.sub(r"[\x1e\x03]", " ", value).split())
            if re.fullmatch(r"[\w.\-/: ,;]{1,80}", text):
                facts.attributes.append((identifier, Literal(text), name))
    for prefix, suffix in ATC:
        if prefix in told:
            code = "".join((told[prefix] + told.get(suffix, "")).split())
            if re.fullmatch(r"[A-Z]\d{2}[A-Z0-9]{0,4}", code):
                facts.attributes.append(("atc", Literal(code), prefix))


def _own_name(value: str) -> str:
    """The subject's name from its box, as a title; "" where it is a template or not a name."""
    value = re.sub(r"[\x1e\x03]", " ", value.replace("'''", "").replace("''", ""))
    value = re.sub(r"\[\[(?:[^\[\]|]*\|)?([^\[\]]*)\]\]", r"\1", value)
    return title_key(value) if 1 < len(value.strip()) <= 120 else ""


def _names(value: str) -> list[str]:
    """Other names from a list of them; an acronym in parentheses is one more."""
    names = []
    for item in split_list(value):
        names.append(split_disambiguator(item.text)[0] if "(" in item.text else item.text)
        if item.alias:
            names.append(item.alias)
    return [name for name in names if 1 < len(name) <= 60]
