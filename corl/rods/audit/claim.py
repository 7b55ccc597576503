"""What an item says of itself, as far as the audit believes it: shape, clues and what is asked; never the proof."""

from dataclasses import dataclass
from typing import Any

from corl.rods.audit.facts import Facts, Step
from corl.rods.graph import NODE_TYPES, RELATIONS

MAX_STEPS = 3  # and one that is asked: four hops
# (fewest, most) clues; a sole clue of star, star_tail or compare would be a chain under another name, and a contrast
# that shares two clues and violates one needs three.
CLUES = {
    "chain": (1, 1),
    "star": (2, 5),
    "star_tail": (2, 5),
    "compare": (3, 5),
    "exception": (1, 1),
    "constraint": (1, 5),
}
SHAPES = tuple(CLUES)


class Unclaimed(Exception):
    """The item's meta does not say what a shape must say; `kind` is the finding."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Clue:
    """Holds of an entity from which the path ends at the node; an empty path: the entity is the node."""

    path: tuple[Step, ...]
    node: int


@dataclass(frozen=True, slots=True)
class Claim:
    shape: str
    hops: Any
    clues: tuple[Clue, ...]
    asked: Step | None  # None: the answer is the entity itself
    excluded: tuple[Step, int] | None  # an edge that the answer must not have
    contrast: int | None
    answer_type: str

    @property
    def named(self) -> list[int]:
        """Nodes the question must name."""
        also = [self.excluded[1]] if self.excluded else []
        return [clue.node for clue in self.clues] + also + ([self.contrast] if self.contrast is not None else [])


def read_claim(meta: dict[str, Any], facts: Facts) -> Claim:
    """The item's claim. Raises Unclaimed where it is none, or lacks what its shape needs."""
    shape, answer_type = meta.get("shape"), meta.get("answer_type")
    if not isinstance(shape, str) or shape not in CLUES:
        raise Unclaimed("meta", f"shape is {shape!r}; one of {', '.join(SHAPES)}")
    if not isinstance(answer_type, str) or answer_type not in NODE_TYPES:
        raise Unclaimed("answer_type", f"{answer_type!r} is no node type")
    claim = Claim(
        shape=shape,
        hops=meta.get("hops"),
        clues=_clues(meta.get("clues"), facts),
        asked=_asked(meta.get("asked")),
        excluded=_excluded(meta.get("excluded"), facts),
        contrast=None if meta.get("contrast") is None else _node(meta["contrast"], facts, "contrast"),
        answer_type=answer_type,
    )
    _check_shape(claim)
    return claim


def _clues(value: Any, facts: Facts) -> tuple[Clue, ...]:
    if not isinstance(value, list) or not value:
        raise Unclaimed("clues", "there are none")
    clues = []
    for number, entry in enumerate(value, 1):
        if not isinstance(entry, dict) or not isinstance(entry.get("path"), list):
            raise Unclaimed("clues", f"clue {number} is no path and node")
        path = tuple(_step(step, f"clue {number}") for step in entry["path"])
        clues.append(Clue(path, _node(entry.get("node"), facts, f"clue {number}")))
    return tuple(clues)


def _asked(value: Any) -> Step | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise Unclaimed("meta", "asked is no relation and direction")
    return _step([value.get("relation"), value.get("direction")], "asked")


def _excluded(value: Any, facts: Facts) -> tuple[Step, int] | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise Unclaimed("meta", "excluded is no relation, direction and node")
    step = _step([value.get("relation"), value.get("direction")], "excluded")
    return step, _node(value.get("node"), facts, "excluded")


def _step(value: Any, where: str) -> Step:
    if not isinstance(value, list) or len(value) != 2:
        raise Unclaimed("clues", f"{where}: a step is no [relation, direction]")
    relation, direction = value
    if not isinstance(relation, str) or relation not in RELATIONS:
        raise Unclaimed("clues", f"{where}: unknown relation {relation!r}")
    if direction not in ("out", "in"):
        raise Unclaimed("clues", f"{where}: direction is {direction!r}, not out or in")
    return relation, direction


def _node(value: Any, facts: Facts, where: str) -> int:
    if not isinstance(value, str) or value not in facts.graph.ids:
        raise Unclaimed("clues", f"{where}: {value!r} is no node of the graph")
    return facts.graph.ids[value]


def _check_shape(claim: Claim) -> None:
    fewest, most = CLUES[claim.shape]
    count = len(claim.clues)
    if not fewest <= count <= most:
        between = f"{fewest}" if fewest == most else f"{fewest} to {most}"
        raise Unclaimed("clues", f"{claim.shape} has {count} clues; it needs {between}")
    for role, present, shapes in (
        ("asked", claim.asked is not None, [shape for shape in SHAPES if shape != "star"]),
        ("excluded", claim.excluded is not None, ["constraint"]),
        ("contrast", claim.contrast is not None, ["compare"]),
    ):
        if present != (claim.shape in shapes):
            raise Unclaimed("meta", f"{claim.shape} with {role}" if present else f"{claim.shape} without {role}")
    lengths = [len(clue.path) for clue in claim.clues]
    if max(lengths) > MAX_STEPS:
        raise Unclaimed("clues", f"a path of {max(lengths)} steps; {MAX_STEPS} at most")
    entity_named = claim.shape == "exception" or (claim.shape == "constraint" and count == 1)
    if entity_named != (0 in lengths):
        which = "names its entity by an empty path" if entity_named else "has no empty path: that names the entity"
        raise Unclaimed("clues", f"{claim.shape} with {count} clues {which}")
