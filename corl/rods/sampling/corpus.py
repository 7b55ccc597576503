"""How often public train questions name each node: the corpus side of rarity.

Names are looked up, not searched for: English ones as runs of words, Chinese ones as substrings, each by a table keyed
by its beginning, so that the cost is that of the text and hardly of the number of names.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from corl.data.items import Item, file_sha256, read_items
from corl.rods.graph import Graph, Ints

_WORD = re.compile(r"[^\W_\u3400-\u9fff]+")
_CHINESE = re.compile(r"[\u3400-\u9fff]")
_CHINESE_HEAD = 2  # characters; a name of one character stands in too many words to say anything


def count_mentions(graph: Graph, paths: Sequence[str | Path]) -> tuple[Ints, dict[str, str]]:
    """[N] the number of questions that name each node, and the sha256 of each file.

    A question counts once, whether its context, its text or an option has the name. Raises ValueError as `read_items`.
    """
    names = NameTable(graph)
    counts = np.zeros(len(graph), np.int64)
    hashes = {}
    for path in paths:
        for item in read_items(path):
            counts[sorted(names.mentioned(_texts(item)))] += 1
        hashes[str(path)] = file_sha256(path)
    return counts, hashes


class NameTable:
    """Nodes by the words, or the Chinese characters, that a name or an alias of theirs begins with."""

    __slots__ = ("_words", "_characters")

    def __init__(self, graph: Graph) -> None:
        # first word -> {all words of a name: its nodes}, beside the lengths that occur
        self._words: dict[str, tuple[set[int], dict[tuple[str, ...], list[int]]]] = {}
        self._characters: dict[str, tuple[set[int], dict[str, list[int]]]] = {}
        columns = (graph.names, graph.names_zh, graph.aliases_en, graph.aliases_zh)
        for node, (name, name_zh, aliases_en, aliases_zh) in enumerate(zip(*columns, strict=True)):
            for text in {name: None, name_zh: None} | dict.fromkeys((*aliases_en, *aliases_zh)):
                self._add(node, text.casefold())

    def _add(self, node: int, text: str) -> None:
        if _CHINESE.search(text):
            if len(text) >= _CHINESE_HEAD:
                lengths, nodes = self._characters.setdefault(text[:_CHINESE_HEAD], (set(), {}))
                lengths.add(len(text))
                _append(nodes.setdefault(text, []), node)
        elif words := tuple(_WORD.findall(text)):
            sizes, named = self._words.setdefault(words[0], (set(), {}))
            sizes.add(len(words))
            _append(named.setdefault(words, []), node)

    def mentioned(self, texts: Iterable[str]) -> set[int]:
        """The nodes that one of the texts names."""
        found: set[int] = set()
        for text in texts:
            folded = text.casefold()
            words = tuple(_WORD.findall(folded))
            for at, word in enumerate(words):
                if entry := self._words.get(word):
                    sizes, named = entry
                    for size in sizes:
                        found.update(named.get(words[at : at + size], ()))
            if _CHINESE.search(folded):
                for at in range(len(folded) - _CHINESE_HEAD + 1):
                    if chinese := self._characters.get(folded[at : at + _CHINESE_HEAD]):
                        lengths, nodes = chinese
                        for length in lengths:
                            found.update(nodes.get(folded[at : at + length], ()))
        return found


def _append(nodes: list[int], node: int) -> None:
    if node not in nodes[-1:]:
        nodes.append(node)


def _texts(item: Item) -> list[str]:
    return [item.context or "", item.question, *item.options.values()]
