"""Which nodes of a graph a text names: every name and alias, the longest first, by whole words."""

from dataclasses import dataclass

from corl.data.checking.words import words
from corl.rods.audit.surfaces import find_whole, is_acronym, without_disambiguator
from corl.rods.graph import Graph

_LONGEST = 16  # words of a name that are looked for; a Chinese character is a word


@dataclass(frozen=True, slots=True)
class Mention:
    """nodes: all that have this name; more than one where the name is ambiguous."""

    nodes: tuple[int, ...]
    surface: str


class Mentions:
    """The names of a graph, both languages, with their regular plurals; names of one character are left out."""

    def __init__(self, graph: Graph) -> None:
        self._nodes: dict[tuple[str, ...], list[int]] = {}
        self._written: dict[tuple[str, ...], set[str]] = {}
        self._longest: dict[str, int] = {}
        for node in range(len(graph)):
            own = (graph.names[node], graph.names_zh[node], *graph.aliases_en[node], *graph.aliases_zh[node])
            for name in own:
                for surface in dict.fromkeys((name, without_disambiguator(name))):
                    self._add(node, surface)

    def _add(self, node: int, name: str) -> None:
        key = _key(name)
        if len(name) < 2 or not 0 < len(key) <= _LONGEST:
            return
        nodes = self._nodes.setdefault(key, [])
        if node not in nodes:
            nodes.append(node)
        self._written.setdefault(key, set()).add(name)
        self._longest[key[0]] = max(self._longest.get(key[0], 0), len(key))

    def nodes_named(self, name: str) -> tuple[int, ...]:
        """Nodes with exactly this name or alias, case and plural apart."""
        return tuple(self._nodes.get(_key(name), ()))

    def find(self, text: str) -> list[Mention]:
        """Mentions from left to right, none inside another; `ALL` is found only where it is written so."""
        said = _key(text)
        found, place = [], 0
        while place < len(said):
            for size in range(min(self._longest.get(said[place], 0), len(said) - place), 0, -1):
                key = said[place : place + size]
                if key in self._nodes and self._stands(key, text):
                    found.append(Mention(tuple(self._nodes[key]), " ".join(key)))
                    place += size
                    break
            else:
                place += 1
        return found

    def _stands(self, key: tuple[str, ...], text: str) -> bool:
        names = self._written[key]
        if not all(is_acronym(name) for name in names):
            return True
        return any(find_whole(name, text) for name in names)


def _key(text: str) -> tuple[str, ...]:
    """Words, without the s of a plural."""
    return tuple(
        word[:-1] if len(word) > 3 and word.endswith("s") and word.isascii() and not word.endswith("ss") else word
        for word in words(text)
    )
