"""Names in running text: which nodes an option's text may mean, and whether a question names a node."""

import re
import unicodedata
from collections.abc import Iterator

from corl.rods.graph import Graph

_DISAMBIGUATOR = re.compile(r"\s*[(\uff08][^()\uff08\uff09]*[)\uff09]\s*$")
LONGEST_ACRONYM = 4


def fold(text: str) -> str:
    """Case, width, accents and spacing make no difference."""
    if not text.isascii():
        parts = unicodedata.normalize("NFKD", text)
        text = unicodedata.normalize("NFKC", "".join(c for c in parts if not unicodedata.combining(c)))
    return " ".join(text.casefold().split())


def without_disambiguator(name: str) -> str:
    """`Mercury (element)` as `Mercury`; a name that is nothing but a parenthesis stays."""
    return (_DISAMBIGUATOR.sub("", name) or name) if name.endswith((")", "\uff09")) else name


def find_whole(surface: str, text: str) -> bool:
    """Whether `surface` stands in `text` as whole words; beside a Chinese character any letter is a whole word."""
    start = text.find(surface) if surface else -1
    while start >= 0:
        stop = start + len(surface)
        before = start > 0 and _joined(text[start - 1]) and _joined(surface[0])
        after = stop < len(text) and _joined(text[stop]) and _joined(surface[-1])
        if not before and not after:
            return True
        start = text.find(surface, start + 1)
    return False


def _joined(character: str) -> bool:
    return character.isalnum() and character < "\u2e80"


def is_acronym(text: str) -> bool:
    """Short and upper case: `ALL` is another word than `all`."""
    return len(text) <= LONGEST_ACRONYM and text.isascii() and text.isupper()


class Surfaces:
    """The graph's names and aliases. An option's text is looked up as written first, then folded."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._written: dict[str, dict[str, list[int]]] = {"en": {}, "zh": {}}
        self._folded: dict[str, dict[str, list[int]]] = {"en": {}, "zh": {}}
        for node in range(len(graph)):
            for lang in ("en", "zh"):
                for surface in self.of(node, lang):
                    for table, key in ((self._written, surface), (self._folded, fold(surface))):
                        nodes = table[lang].setdefault(key, [])
                        if node not in nodes:
                            nodes.append(node)

    def of(self, node: int, lang: str) -> Iterator[str]:
        """Name and aliases in a language, each also without its disambiguator."""
        graph = self._graph
        names = (graph.names_zh[node], *graph.aliases_zh[node]) if lang == "zh" else (graph.names[node],)
        for name in names if lang == "zh" else (*names, *graph.aliases_en[node]):
            if name:
                yield name
                if (short := without_disambiguator(name)) != name:
                    yield short

    def meant(self, text: str, lang: str) -> tuple[int, ...]:
        """Every node that the text may mean; none when no node has this name."""
        lang = "zh" if lang == "zh" else "en"
        text = text.strip()
        found = self._written[lang].get(text) or self._folded[lang].get(fold(text))
        return tuple(found or ())

    def named(self, node: int, lang: str, question: str, folded: str) -> list[str]:
        """The node's surfaces that the question holds; `folded` is the folded question."""
        found = []
        for surface in self.of(node, "zh" if lang == "zh" else "en"):
            if find_whole(surface, question) or (not is_acronym(surface) and find_whole(fold(surface), folded)):
                found.append(surface)
        return found

    def keys(self, node: int) -> frozenset[str]:
        """All surfaces of both languages, folded: two nodes that share one are not two answers."""
        return frozenset(fold(surface) for lang in ("en", "zh") for surface in self.of(node, lang))
