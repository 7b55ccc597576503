"""What a question says of its entity: one clause for each kind of clue, several nodes of one kind in one list."""

from collections.abc import Sequence
from dataclasses import dataclass

from corl.rods.wording.language import Language, Marks, choose, type_between

Avoid = tuple[Marks, ...]  # see `choose`


@dataclass(frozen=True, slots=True)
class Told:
    """One clue as it will be read: the path from the entity, the node's text and, where known, its type."""

    path: tuple[tuple[str, str], ...]
    text: str
    kind: str = ""


def name_told(told: Sequence[Told]) -> str | None:
    """The entity's own name where a clue is that the entity is the node, else None."""
    return next((clue.text for clue in told if not clue.path), None)


def clauses(
    told: Sequence[Told], language: Language, *, near: str = "", start: int = 0, avoid: Avoid = ()
) -> list[str]:
    """The predicates of the entity that the clues make, in order; clues without a path make none.

    near   the entity's type, "" where unknown
    start  which of the phrasings to begin with; the n-th clause begins n further on
    """
    groups: dict[tuple[tuple[tuple[str, str], ...], str], list[str]] = {}
    for clue in told:
        if clue.path:
            # Types without a phrase of their own share a list: "fever and jaundice", a symptom and a sign.
            kind = clue.kind if (*clue.path[-1], clue.kind) in language.predicates else ""
            groups.setdefault((clue.path, kind), []).append(clue.text)
    return [
        _clause(path, language.join_names(texts), language, near=near, far=kind, start=start + i, avoid=avoid)
        for i, ((path, kind), texts) in enumerate(groups.items())
    ]


def _clause(
    path: tuple[tuple[str, str], ...],
    text: str,
    language: Language,
    *,
    near: str,
    far: str,
    start: int,
    avoid: Avoid,
) -> str:
    step, rest = path[0], path[1:]
    if not rest:
        return choose(language.predicate(step, near, far), start, *avoid).format(n=text)
    between = type_between(step, rest[0])
    inner = _clause(rest, text, language, near=between, far=far, start=start + 1, avoid=avoid)
    noun = choose(language.nouns[between], start, *avoid)
    options = language.predicate(step, near, between)
    # A description inside another reads well at the end only.
    pattern = choose([o for o in options if o.text.endswith("{n}")] or options, start, *avoid)
    return pattern.format(n=language.relative(noun, inner))
