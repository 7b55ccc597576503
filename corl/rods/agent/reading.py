"""A fetched page as the agent sees it: what it is, where it leads, which edges it brings. Reading is extraction's."""

import re
from dataclasses import dataclass

from corl.rods.agent.scoring import prior_of_link
from corl.rods.extraction.facts import Mention, PageFacts, read_page
from corl.rods.extraction.node_types import hint_from_name, object_types, vote
from corl.rods.extraction.page import categories, glance, parse_page, unread_topic
from corl.rods.extraction.titles import first_capital, phrase_name, split_disambiguator, title_key
from corl.rods.graph.schema import INVERSES, RELATIONS

_RARE = re.compile(r"^rare\b|\brare (?:diseases|disorders|syndromes|cancers)|orphan drugs", re.I)


@dataclass(frozen=True, slots=True)
class Link:
    """A way on: the article's key, the type prior and the slot that gave it (`infobox:symptoms`, `section:Causes`)."""

    key: str
    prior: int
    slot: str


@dataclass(frozen=True, slots=True)
class Reading:
    """`type` is set where a box was read; else `outcome` says why not. `redirect`: a key, "#" for none that counts."""

    title: str
    revision: str
    outcome: str
    type: str = ""
    rarity: str = ""
    redirect: str = ""
    links: tuple[Link, ...] = ()
    edges: tuple[tuple[str, str, str, bool], ...] = ()  # head, relation, tail, strong


def key_of(title: str) -> str:
    """One key for every way to write a title; "" for what names no article."""
    return title_key(title)


def read(raw: bytes, title: str) -> Reading:
    """Read a `<page>` element; `title` is what was asked for, where the page itself says none."""
    seen = glance(raw)
    if seen.reason and not seen.parse and not seen.redirect:
        if seen.namespace:
            return Reading(seen.title or title, "", "other_namespace")
        _, _, named = unread_topic(raw, seen.title)
        return Reading(seen.title or title, _revision(raw), named or seen.reason)
    page = parse_page(raw, "")
    if isinstance(page, str):
        return Reading(seen.title or title, "", page)
    facts = read_page(page)
    if facts.redirect:
        # a redirect to a section, or one that is tagged as no other name, leads the reader on and names nothing
        return Reading(page.title, page.revision, "redirect", redirect=facts.redirect)
    if not facts.type:
        return Reading(page.title, page.revision, facts.reason)
    told = "rare" if any(_RARE.search(name) for name in categories(page.text)) else ""
    return Reading(
        page.title, page.revision, "entity", facts.type, facts.rarity or told, "", _links(facts), _edges(facts)
    )  # fmt: skip


def _revision(raw: bytes) -> str:
    found = re.search(rb"<revision>\s*<id>\s*(\d+)\s*</id>", raw)
    return found.group(1).decode() if found else ""


def _links(facts: PageFacts) -> tuple[Link, ...]:
    """Each article once, by its best slot, infobox links before section links, in the order of the page."""
    own = key_of(facts.title)
    best: dict[str, Link] = {}
    for mention in sorted(facts.mentions, key=lambda mention: mention.prose):
        if not mention.target or mention.target == own:
            continue
        slot = mention.parameter if mention.prose else f"infobox:{mention.parameter}"
        link = Link(mention.target, prior_of_link(_kind(mention), infobox=not mention.prose), slot)
        if mention.target not in best or link.prior > best[mention.target].prior:
            best[mention.target] = link
    return tuple(best.values())


def _kind(mention: Mention) -> str:
    """The type that slot and title speak for."""
    hint = hint_from_name(*split_disambiguator(mention.target))
    if mention.backwards:
        return hint or "disease"
    kinds = (vote(relation, (hint,) if hint else (), italic=mention.italic) for relation in mention.relations)
    return next((kind for kind in kinds if kind), "")


def _edges(facts: PageFacts) -> tuple[tuple[str, str, str, bool], ...]:
    """The edges that the page states, each once and in the graph's own direction, before anything is resolved."""
    own = key_of(facts.title) or first_capital(facts.title)
    found: dict[tuple[str, str, str], bool] = {}
    for mention in facts.mentions:
        kind, tail = _kind(mention), mention.target or phrase_name(mention.text)
        fits = (relation for relation in mention.relations if kind in object_types(relation))
        relation = mention.relations[0] if mention.backwards else next(fits, "")
        if not relation or tail == own:
            continue
        head = own
        if mention.backwards or relation in INVERSES:
            head, tail = tail, head
        relation = INVERSES.get(relation, relation)
        if RELATIONS[relation].symmetric:
            head, tail = min(head, tail), max(head, tail)
        found[head, relation, tail] = found.get((head, relation, tail), False) or mention.strong
    return tuple((*edge, strong) for edge, strong in found.items())
