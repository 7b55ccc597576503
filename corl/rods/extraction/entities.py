"""From title keys to things: redirects followed, spellings joined, types voted, one name each."""

from collections import Counter
from dataclasses import dataclass

from corl.rods.extraction.node_types import hint_from_name, vote
from corl.rods.extraction.store import Store
from corl.rods.extraction.titles import fold, phrase_name, split_disambiguator
from corl.rods.graph.schema import NODE_TYPES

MAX_HOPS = 5  # of redirects; more is a circle


@dataclass(slots=True)
class Entity:
    """One thing that pages name. `pages` > 0: a page of the dump is about it and its box says the type."""

    key: str
    type: str = ""
    pages: int = 0
    links: int = 0
    mentions: int = 0
    hints: tuple[str, ...] = ()
    votes: Counter[str] | None = None  # until the type is settled; most of a hundred thousand have few
    rarities: tuple[str, ...] = ()
    name: str = ""


class Entities:
    """Every key the store names, resolved. `find` gives the entity of a link or phrase, or None where there is none."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.all: list[Entity] = []
        self._of: dict[str, int] = {}  # key -> place in `all`, -1 where the page is about no single thing
        boxed, linked, phrases = self._keys()
        self._redirects = self._wanted_redirects({*linked, *phrases} - set(boxed))
        self._told = self._wanted_told()
        self._join(boxed, linked, phrases)
        self._vote()
        self._name()

    def find(self, target: str, text: str) -> int | None:
        """The place in `all` of a link's target, or of a phrase; None: a disambiguation page or nothing known."""
        place = self._of.get(target or phrase_name(text), -1)
        return place if place >= 0 else None

    def of_page(self, key: str) -> int:
        return self._of[key]

    def _keys(self) -> tuple[dict[str, str], Counter[str], Counter[str]]:
        boxed = {key: told for key, told in self._store.rows("select key, type from page order by id desc")}
        linked = Counter(
            dict(self._store.rows("select target, count(*) from mention where target != '' group by target"))
        )
        phrases: Counter[str] = Counter()
        for text, count in self._store.rows("select text, count(*) from mention where target = '' group by text"):
            phrases[phrase_name(text)] += count
        return boxed, linked, phrases

    def _wanted_redirects(self, wanted: set[str]) -> dict[str, str]:
        """key -> target of the wanted keys, and of their targets in turn; the table is read through once a hop.

        A redirect to a section is no other name of its page: a link to it stays a thing of its own.
        """
        found: dict[str, str] = {}
        for _ in range(MAX_HOPS):
            new: dict[str, str] = {}
            for key, target in self._store.rows("select key, target from redirect where alias order by rowid"):
                if key in wanted and key not in found:
                    new[key] = target
            if not new:
                break
            found.update(new)
            wanted = set(new.values())
        return found

    def resolve_title(self, key: str) -> str:
        for _ in range(MAX_HOPS):
            if key not in self._redirects:
                return key
            key = self._redirects[key]
        return ""  # a circle

    def _wanted_told(self) -> dict[str, tuple[str, str]]:
        """key -> (kind, type) of unread pages that something names; a box tells more than a category."""
        told: dict[str, tuple[str, str]] = {}
        for key, kind, its_type in self._store.rows("select key, kind, type from told order by rowid"):
            if told.get(key, ("category", ""))[0] == "category":
                told[key] = (kind, its_type)
        return told

    def _join(self, boxed: dict[str, str], linked: Counter[str], phrases: Counter[str]) -> None:
        """Put every key on its entity: exact titles first, then spellings, then phrases like one titled "X (kind)"."""
        target_of = {key: self.resolve_title(key) for key in sorted({*linked, *phrases, *boxed})}
        groups: dict[str, list[str]] = {}
        canonical = sorted({key for key in target_of.values() if key} | set(boxed))
        for key in canonical:
            if self._told.get(key, ("", ""))[0] != "unspecific" or key in boxed:
                groups.setdefault(fold(key), []).append(key)
        counts: Counter[str] = Counter()
        for source, count in (*linked.items(), *phrases.items()):
            counts[target_of[source]] += count
        place: dict[str, int] = {}
        for members in groups.values():
            owners = [key for key in members if key in boxed] or [
                min(members, key=lambda key: (key not in self._told, key not in linked, -counts[key], key))
            ]
            for key in owners:
                place[key] = len(self.all)
                self.all.append(Entity(key))
            for key in members:
                place.setdefault(key, place[owners[0]])
        by_base: dict[str, set[int]] = {}
        for entity_place, entity in enumerate(self.all):
            base, kind = split_disambiguator(entity.key)
            if kind:
                by_base.setdefault(fold(base), set()).add(entity_place)
        for key in phrases:
            if key not in boxed and key not in linked and target_of[key] == key and key in place:
                only = by_base.get(fold(key), set())
                if len(only) == 1 and self.all[place[key]].key == key:
                    place[key] = next(iter(only))
        for key, target in target_of.items():
            self._of[key] = place.get(target, -1) if target else -1
        for key, its_type in boxed.items():
            entity = self.all[self._of[key]]
            entity.type, entity.pages = its_type, entity.pages + 1
        for key, count in linked.items():
            if (at := self._of[key]) >= 0:
                self.all[at].links += count

    def _vote(self) -> None:
        for entity in self.all:
            base, kind = split_disambiguator(entity.key)
            told = self._told.get(entity.key, ("", ""))
            if not entity.type and told[0] == "box":
                entity.type = told[1]
            entity.hints = tuple(hint for hint in (hint_from_name(base, kind), told[1]) if hint)
        query = "select relations, text, target, italic, count(*) from mention where prose = 0 group by 1, 2, 3, 4"
        for relation, text, target, italic, count in self._store.rows(query):
            if (at := self.find(target, text)) is not None:
                entity = self.all[at]
                entity.mentions += count
                if kind := vote(relation, entity.hints, italic=bool(italic)):
                    entity.votes = entity.votes or Counter()
                    entity.votes[kind] += count
        for key, rarity in self._store.rows("select key, rarity from page where rarity != ''"):
            entity = self.all[self._of[key]]
            entity.rarities = tuple({*entity.rarities, rarity})
        for entity in self.all:
            votes, entity.votes = entity.votes, None
            if not entity.type and votes:
                entity.type = min(votes.items(), key=lambda item: (-item[1], NODE_TYPES.index(item[0])))[0]
            elif not entity.type and entity.hints:
                entity.type = entity.hints[0]

    def _name(self) -> None:
        """The title without its disambiguator where that names one thing only; two spelled alike keep theirs."""
        alive = set(self._of.values())
        bases = Counter(
            split_disambiguator(entity.key)[0].casefold() for place, entity in enumerate(self.all) if place in alive
        )
        for entity in self.all:
            base = split_disambiguator(entity.key)[0]
            entity.name = base if bases[base.casefold()] == 1 and len(base) > 1 else entity.key
