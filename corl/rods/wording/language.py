"""The parts a sentence is built from, and how a language puts them together.

A predicate says something of an entity x by an edge: "out": x is the edge's head and {n} its tail(s); "in": x is the
tail. Predicates are in the third person singular and take a list for {n}, so the same phrase serves as a clue ("a
disease that {predicate}"), as a question ("which drug {predicate}?") and as a statement ("Wilson disease {predicate}").
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from string import Formatter

from corl.rods.graph.schema import FINDINGS, NODE_TYPES, RELATIONS
from corl.rods.wording.marks import marks

Marks = frozenset[str]


@dataclass(frozen=True, slots=True)
class Phrase:
    """A pattern and what its own words could give away."""

    text: str
    marks: Marks


@dataclass(frozen=True, slots=True)
class Language:
    code: str
    predicates: dict[tuple[str, ...], tuple[Phrase, ...]]  # by (relation, direction) and (.., .., type at either end)
    nouns: dict[str, tuple[Phrase, ...]]  # by node type, and "thing"
    asking: dict[str, tuple[Phrase, ...]]  # "which drug", by node type, and "thing" for any of the options
    frames: dict[str, tuple[Phrase, ...]]  # whole sentences by what they are for
    join_names: Callable[[Sequence[str]], str]
    join_clauses: Callable[[Sequence[str]], str]
    relative: Callable[[str, str], str]  # (noun, clauses) -> "a disease that .."
    this: Callable[[str], str]  # noun -> "this disease"
    some: Callable[[str], str]  # noun -> "a disease"

    def predicate(self, step: tuple[str, str], near: str = "", far: str = "") -> tuple[Phrase, ...]:
        """The phrases of a step; `near` is the type of what they are said of, `far` that of {n}."""
        return self.predicates.get((*step, far)) or self.predicates.get((*step, near)) or self.predicates[step]


def phrases(texts: Iterable[str]) -> tuple[Phrase, ...]:
    return tuple(Phrase(text, marks(_without_slots(text))) for text in texts)


def choose(options: Sequence[Phrase], start: int, *avoid: Marks) -> str:
    """The first phrase from `start` on, around the end, that shares nothing with the first possible of `avoid`.

    Where every phrase shares something with each of them, the phrase that shares least with the last.
    """
    size = len(options)
    for marks_to_avoid in avoid:
        for offset in range(size):
            option = options[(start + offset) % size]
            if marks_to_avoid.isdisjoint(option.marks):
                return option.text
    if not avoid:
        return options[start % size].text
    return min((options[(start + i) % size] for i in range(size)), key=lambda o: len(o.marks & avoid[-1])).text


def type_between(first: tuple[str, str], second: tuple[str, str]) -> str:
    """The node type between two steps of a path, "thing" where the schema leaves several kinds open."""
    types = set(_far_types(first)) & set(_far_types((second[0], "out" if second[1] == "in" else "in")))
    for whole, name in (({"drug", "drug_class"}, "drug"), ({*FINDINGS, "disease"}, "finding")):
        if len(types) > 1 and types <= whole:
            return name
    return types.pop() if len(types) == 1 else "thing"


def all_steps() -> list[tuple[str, str]]:
    """(relation, direction) of every step there is; a symmetric relation has one."""
    return [(n, d) for n, rule in RELATIONS.items() for d in ("out", "in") if not (rule.symmetric and d == "in")]


def opposite(step: tuple[str, str]) -> tuple[str, str]:
    """The same edge, said of its other end."""
    relation, direction = step
    return (relation, "out") if RELATIONS[relation].symmetric or direction == "in" else (relation, "in")


def table(entries: dict[str, tuple[list[str], list[str]]]) -> dict[tuple[str, ...], tuple[Phrase, ...]]:
    """{"relation" or "relation type": (phrases out, phrases in)} as the predicates of a Language."""
    found: dict[tuple[str, ...], tuple[Phrase, ...]] = {}
    for name, (out, inward) in entries.items():
        relation, *kind = name.split()
        assert relation in RELATIONS and all(k in NODE_TYPES for k in kind), name
        for direction, texts in (("out", out), ("in", inward)):
            if texts:
                found[relation, direction, *kind] = phrases(texts)
    for relation, rule in RELATIONS.items():
        if rule.symmetric:
            found[relation, "in"] = found[relation, "out"]
    return found


def _far_types(step: tuple[str, str]) -> tuple[str, ...]:
    relation = RELATIONS[step[0]]
    both = (*relation.domain, *relation.range) if relation.symmetric else ()
    return both or (relation.range if step[1] == "out" else relation.domain)


def _without_slots(text: str) -> str:
    return " ".join(literal for literal, *_ in Formatter().parse(text))
