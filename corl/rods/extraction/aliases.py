"""Other names of the nodes, and none that could mean two of them."""

import re
from collections.abc import Iterator

from corl.rods.extraction.entities import Entities
from corl.rods.extraction.store import Store
from corl.rods.extraction.titles import language, split_disambiguator

_VAGUE = re.compile(
    r"^(?:this|that|these|it|see|here|other|others|such|none|unknown|certain|some|many|various)\b", re.I
)


def aliases(store: Store, entities: Entities, kept: list[int]) -> list[tuple[str, str, str, str]]:
    """(name, alias, lang, kind), sorted. An alias that is a node's name or belongs to two nodes is left out."""
    wanted = set(kept)
    names = {entities.all[place].name.casefold(): place for place in kept}
    claims: dict[str, dict[int, tuple[str, str]]] = {}
    for place, alias, kind in _claims(store, entities, wanted):
        folded = alias.casefold()
        if place not in wanted or _VAGUE.match(alias) or not 1 < len(alias) <= 80 or not language(alias):
            continue
        if names.get(folded, place) != place or alias == entities.all[place].name:
            continue
        claims.setdefault(folded, {}).setdefault(place, (alias, kind))
    rows = [
        (entities.all[place].name, alias, language(alias), kind)
        for claimed in claims.values()
        if len(claimed) == 1
        for place, (alias, kind) in claimed.items()
        if alias.casefold() != entities.all[place].name.casefold()
    ]
    return sorted(rows)


def _claims(store: Store, entities: Entities, wanted: set[int]) -> Iterator[tuple[int, str, str]]:
    """Every (node, other name, kind) in order of trust: the first kind that claims a name stays."""
    for place in sorted(wanted):
        entity = entities.all[place]
        if entity.name != entity.key:
            yield place, entity.key, "title"
    query = "select p.key, a.alias, a.kind from alias a join page p on p.id = a.page order by a.rowid"
    for key, alias, kind in store.rows(query):
        yield entities.of_page(key), alias, kind
    titles = {entities.all[place].key: place for place in wanted}
    chain: dict[str, str] = {}
    for _ in range(2):  # a redirect, and one more hop where a page was moved twice
        for key, target, is_alias in store.rows("select key, target, alias from redirect order by rowid"):
            at = titles.get(chain.get(target, target))
            if is_alias and at is not None and key not in titles:
                chain[key] = target if target in titles else chain[target]
                yield at, split_disambiguator(key)[0], "redirect"
    query = "select target, text, alias from mention where prose = 0 and strong = 1 order by rowid"
    for target, text, acronym in store.rows(query):
        at = entities.find(target, text)
        if at is None:
            continue
        if target:
            yield at, text, "link"
        elif text.casefold() != entities.all[at].name.casefold():
            yield at, text, "spelling"
        if acronym:
            yield at, acronym, "acronym"
