"""How an option names its node: so that a reader, and an audit, can tell which node is meant."""

import numpy as np

from corl.rods.graph import Graph, Ints
from corl.rods.graph.graph import Bools
from corl.rods.sampling.draws import Draws
from corl.rods.wording.surfaces import without_disambiguator


class OptionNames:
    """`texts[lang][node]`: the name without its disambiguator, where that is still the name of no other node.

    Empty where there is no name in the language, or where even the full name is another node's name or alias.
    `namesake[node]`: the first of the nodes that share a name or an alias with it, or with one that does, and so on.
    """

    __slots__ = ("texts", "namesake", "_named")

    def __init__(self, graph: Graph) -> None:
        owner: dict[str, int] = {}  # the one node that a text names; -1: several
        holder: dict[str, int] = {}  # of a text that names several, the first of them
        namesake = list(range(len(graph)))
        columns = (graph.names, graph.names_zh, graph.aliases_en, graph.aliases_zh)
        for node, (name, name_zh, aliases_en, aliases_zh) in enumerate(zip(*columns, strict=True)):
            for text in (*_names(name), *_names(name_zh), *aliases_en, *aliases_zh):
                folded = text.casefold()
                first = owner.setdefault(folded, node)
                if first != node:
                    owner[folded] = -1
                    first = holder.setdefault(folded, first)
                    one, other = _root(namesake, first), _root(namesake, node)
                    namesake[max(one, other)] = min(one, other)
        self.namesake: Ints = np.array([_root(namesake, node) for node in range(len(graph))], np.int64)
        self.texts = tuple(
            [
                next((text for text in _names(name) if owner[text.casefold()] == node), "")
                for node, name in enumerate(names)
            ]
            for names in (graph.names, graph.names_zh)
        )
        # [2, N + 1]; the last stands for -1, no node at all
        self._named = np.array([[*map(bool, texts), True] for texts in self.texts])

    def worded(self, draws: Draws) -> tuple[Bools, Bools]:
        """[n] whether all options of a question have a text, and whether all of its nodes have a name in its language.

        Nodes that only a proof in words names, such as the entity, count too. English names all nodes.
        """
        lang = draws.lang[:, None]
        options = np.column_stack([draws.answer, draws.distractors])
        told = (draws.clue_nodes, draws.entity, draws.contrast, draws.excluded_node, draws.via)
        nodes: Ints = np.column_stack([*told, options])
        chinese = np.all(self._named[1][nodes], axis=1) | (draws.lang == 0)
        optioned = np.all(self._named[lang, options], axis=1)
        return optioned, chinese


def _root(parents: list[int], node: int) -> int:
    while parents[node] != node:
        node = parents[node]
    return node


def _names(name: str) -> tuple[str, ...]:
    return (without_disambiguator(name), name) if name else ()
