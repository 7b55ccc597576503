"""Triples of many pages beside the edges that a graph has: which are new, and how strong."""

from collections.abc import Sequence
from dataclasses import dataclass

from corl.rods.graph import RELATIONS, Edge
from corl.rods.prose.passages import Passage
from corl.rods.prose.reading import Triple

Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class NewEdge:
    """An edge to add, on the word of its first page. `strong`: two pages state it."""

    key: Key
    strong: bool
    passage: Passage
    evidence: str


def merge(found: Sequence[tuple[Passage, Triple]], edges: dict[Key, Edge]) -> tuple[list[NewEdge], list[str]]:
    """New edges in order of their first mention, and what became of each triple ("S", "W", "known").

    Weak unless two pages agree, pages being told apart by title; a weak edge of the graph counts as the page it came
    from. A relation that allows one tail gets no second strong one.
    """
    pages: dict[Key, dict[str, tuple[Passage, str]]] = {}
    for passage, triple in found:
        stated = pages.setdefault((triple.head, triple.relation, triple.tail), {})
        stated.setdefault(passage.title, (passage, triple.evidence))
    taken = {(e.head, e.relation) for e in edges.values() if e.strong and RELATIONS[e.relation].functional}
    new: dict[Key, NewEdge] = {}
    for key, stated in pages.items():
        known = edges.get(key)
        titles = set(stated) | ({_title(known.source)} if known else set())
        strong = len(titles) > 1
        if strong and RELATIONS[key[1]].functional and not (known and known.strong):
            strong = key[:2] not in taken
            if strong:
                taken.add(key[:2])
        if known and (known.strong or not strong):
            continue
        passage, evidence = next(iter(stated.values()))
        new[key] = NewEdge(key, strong, passage, evidence)
    fates = []
    for _, triple in found:
        edge = new.get((triple.head, triple.relation, triple.tail))
        fates.append("known" if edge is None else "S" if edge.strong else "W")
    return list(new.values()), fates


def _title(source: str) -> str:
    return source.partition("@")[0]
