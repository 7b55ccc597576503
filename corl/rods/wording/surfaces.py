"""Node names as they stand in running text."""

import re
from collections.abc import Iterator

from corl.rods.graph.graph import Graph
from corl.rods.graph.schema import NODE_TYPES
from corl.rods.wording.language import Marks
from corl.rods.wording.marks import marks

_TITLE_WORD = re.compile(r"[A-Z][a-z]+(-[a-z]+)*[,;:]?$")
_DISAMBIGUATOR = re.compile(r"\s*[(\uff08][^()\uff08\uff09]*[)\uff09]\s*$")
# Symbols and Latin binomials keep their capitals whatever the rest of the graph does.
_KEEP_CASE = frozenset({"gene", "protein", "pathogen"})
_EPONYM_HEADS = frozenset(
    """
    disease syndrome sign phenomenon disorder tumor tumour lymphoma sarcoma thyroiditis anomaly palsy law node nodes
    test reflex triad contracture cell cells body bodies ring rings encephalopathy arteritis chorea ataxia
    """.split()  # noqa: SIM905
)
# Endings of ordinary English and Greek-Latin words, and some words whole; a capital there is a title's, not a name's.
_ORDINARY = re.compile(
    r"(al|ic|ous|ary|ive|ed|ing|ia|itis|osis|asis|emia|aemia|oma|ism|ac|tion|sion|ory|able|ible|oid|less|ness|cyte)$"
    r"|^(liver|kidney|heart|lung|brain|bone|skin|eye|blood|nerve|muscle|joint|bladder|bowel|stomach|thyroid|ulcer|cancer"
    r"|fever|storage|stress|dry|red|white|motor|valve|airway|immune|tumor|tumour|short|long|stiff|giant|hand|foot)$"
)


class Surfaces:
    """How each node of a graph is written in a sentence; made on demand and kept."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._texts: dict[tuple[int, str], tuple[tuple[str, Marks], ...]] = {}
        self._titled: bool | None = None
        self._cased: tuple[frozenset[str], frozenset[str]] | None = None

    def text(self, node: int, lang: str, *avoid: Marks) -> str:
        """The name or an alias: the first that shares nothing with the first of `avoid` for which there is one.

        Where there is none, the name.
        """
        texts = self._texts.get((node, lang))
        if texts is None:
            texts = self._texts[node, lang] = tuple((text, marks(text)) for text in self._candidates(node, lang))
        if len(texts) > 1:
            for marks_to_avoid in avoid:
                for text, its_marks in texts:
                    if marks_to_avoid.isdisjoint(its_marks):
                        return text
        return texts[0][0]

    def _candidates(self, node: int, lang: str) -> Iterator[str]:
        graph = self._graph
        if lang == "zh":
            for text in (graph.names_zh[node] or graph.names[node], *graph.aliases_zh[node]):
                yield without_disambiguator(text)
            return
        kind = NODE_TYPES[graph.types[node]]
        for text in (graph.names[node], *graph.aliases_en[node]):
            text = without_disambiguator(text)
            if kind not in _KEEP_CASE and self._is_titled():
                text = self._in_sentence(text)
            if kind == "anatomy" and not text.startswith("the "):
                text = f"the {text}"
            yield text

    def _is_titled(self) -> bool:
        """Whether this graph's names begin with a capital as titles do, so that a capital says nothing."""
        if self._titled is None:
            names = [n for n, kind in zip(self._graph.names, self._graph.types.tolist(), strict=True)
                     if NODE_TYPES[kind] not in _KEEP_CASE and n[:1].isalpha()]  # fmt: skip
            capital = sum(name[0].isupper() for name in names)
            self._titled = 2 * capital > len(names)
        return self._titled

    def _in_sentence(self, text: str) -> str:
        """The text with its first letter lowered, unless its first word is a name, a symbol or an acronym."""
        first, _, rest = text.partition(" ")
        if not _TITLE_WORD.match(first):
            return text
        lower, capital = self._casing()
        word, second = first.lower(), rest.partition(" ")[0]
        if word not in lower and (word in capital or self._is_eponym(word, second)):
            return text
        return text[0].lower() + text[1:]

    @staticmethod
    def _is_eponym(word: str, second: str) -> bool:
        return second in _EPONYM_HEADS and not _ORDINARY.search(word)

    def _casing(self) -> tuple[frozenset[str], frozenset[str]]:
        """Words that the graph writes in lower case somewhere, and words that it capitalises inside a name."""
        if self._cased is None:
            lower: set[str] = set()
            capital: set[str] = set()
            for name, aliases in zip(self._graph.names, self._graph.aliases_en, strict=True):
                for text in (name, *aliases):
                    words = text.split()
                    if words and words[0][0].islower():
                        lower.add(words[0])
                    for word in words[1:]:
                        (capital if word[0].isupper() else lower).add(word.lower())
            self._cased = frozenset(lower), frozenset(capital)
        return self._cased


def without_disambiguator(text: str) -> str:
    """The name without a parenthesis at its end, unless that is all there is."""
    return text if "(" not in text and "\uff08" not in text else _DISAMBIGUATOR.sub("", text) or text
