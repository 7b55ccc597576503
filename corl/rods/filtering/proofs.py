"""Leak and ambiguity of items made from a graph, as the independent audit judges them; leaks of the others by text."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from corl.data.checking.words import words
from corl.data.items import Item
from corl.data.shuffle import pin_reason
from corl.rods.audit.facts import Facts
from corl.rods.audit.judge import Judge
from corl.rods.audit.surfaces import Surfaces, find_whole, fold
from corl.rods.filtering.anonymise import is_made
from corl.rods.filtering.rows import Reason
from corl.rods.graph import Graph

LEAK = "leak"  # the audit's kind; all its other kinds say that the key is not proven
SHORTEST_ANSWER = 6  # letters; shorter ones stand in many texts by chance


@dataclass(slots=True)
class Proofs:
    """The judges of the graphs at hand. `unjudged` counts the made items whose graph is not among them."""

    judges: dict[str, Judge]
    unjudged: int = 0
    judged: int = 0

    @classmethod
    def of(cls, graphs: Sequence[Graph]) -> "Proofs":
        return cls({graph.hash: Judge(Facts(graph), Surfaces(graph)) for graph in graphs})

    def reasons(self, item: Item) -> tuple[list[Reason], list[Reason]]:
        """(leak, ambiguity) of a made item; both empty where its graph is not at hand."""
        graph = item.meta.get("graph")
        judge = self.judges.get(str(graph.get("hash"))) if isinstance(graph, dict) else None
        if judge is None:
            self.unjudged += 1
            return [], []
        self.judged += 1
        found = [Reason(each.kind, each.detail) for each in judge.judge(item).findings]
        return [r for r in found if r.code == LEAK], [r for r in found if r.code != LEAK]


def text_leaks(item: Item) -> Iterator[Reason]:
    """Whether the stem names the answer and none of the other options.

    No proof, the exam may want it so: such an item goes to review.
    """
    if is_made(item) or "," in item.answer:
        return
    folded = fold(f"{item.context or ''} {item.question}"[:100_000])
    answer = fold(item.options[item.answer])
    if len(answer) < (SHORTEST_ANSWER if answer.isascii() else 2) or not find_whole(answer, folded):
        return
    others = [fold(text) for letter, text in item.options.items() if letter != item.answer]
    if not any(find_whole(other, folded) for other in others if words(other)) and pin_reason(item) is None:
        yield Reason("names_answer", f"the question holds option {item.answer} as it stands, and no other option")
