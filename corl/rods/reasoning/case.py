"""What an item's meta says of its proof, checked and in the words of its language."""

from dataclasses import dataclass
from typing import Any

from corl.data.items import Item
from corl.rods.graph.schema import RELATIONS
from corl.rods.wording import LANGUAGES, Language, Told

Step = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Wrong:
    """A wrong option: by which entity it comes to mind, which clues that shares and which it violates."""

    letter: str
    text: str
    via: str | None
    shared: tuple[Told, ...]
    violated: tuple[Told, ...]
    excluded: bool  # by the condition alone: it violates no clue


@dataclass(frozen=True, slots=True)
class Case:
    language: Language
    shape: str
    told: tuple[Told, ...]
    asked: Step | None
    entity: str | None  # the masked or named entity of the clues; None where it is the answer itself
    masked: tuple[str, ...]
    contrast: str | None
    excluded: tuple[Step, str] | None
    letter: str
    answer: str
    wrong: tuple[Wrong, ...]  # the nearest first


def read_case(item: Item) -> Case:
    """The case of an item with meta.shape.

    Raises ValueError naming the item and the key of its meta that is missing or wrong.
    """
    try:
        return _read(item, item.meta)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(
            f"item {item.id!r}: its meta holds no proof that can be read ({type(error).__name__}: {error}); "
            "make it with `corl rods sample`, or remove meta.shape to get a template"
        ) from error


def _read(item: Item, meta: dict[str, Any]) -> Case:
    code = "zh" if item.lang.lower().split("-")[0] == "zh" else "en"
    surfaces = meta.get("surfaces") or {}
    shown = {meta["option_nodes"][letter]: text for letter, text in item.options.items()}

    def text(name: str) -> str:
        if found := surfaces.get(name) or shown.get(name):
            return str(found)
        if code == "zh":
            raise ValueError(f"item {item.id!r}: meta.surfaces has no Chinese text for {name!r}; sample the item again")
        return name

    told = tuple(Told(tuple(_step(item, *s) for s in clue["path"]), text(clue["node"])) for clue in meta["clues"])
    if not told or item.answer not in item.options:
        raise ValueError(f"item {item.id!r}: it needs one right option and a clue at least; remove meta.shape")
    wrong = []
    for letter, evidence in meta["options_evidence"].items():
        via = evidence["via"]
        entry = Wrong(
            letter=letter,
            text=item.options[letter],
            via=None if via is None else text(via),
            shared=tuple(told[k] for k in evidence["shared"]),
            violated=tuple(told[k] for k in evidence["violated"]),
            excluded=bool(evidence.get("excluded")) and not evidence["violated"],
        )
        wrong.append(entry)
    wrong.sort(key=lambda w: (not w.excluded, -len(w.shared), w.letter))
    asked, excluded = meta["asked"], meta["excluded"]
    named = next((clue.text for clue in told if not clue.path), None)
    masked = tuple(text(name) for name in meta["masked"])
    if asked is not None and named is None and not masked:
        raise ValueError(f"item {item.id!r}: meta.masked names no entity between the clues and the answer")
    return Case(
        language=LANGUAGES[code],
        shape=meta["shape"],
        told=told,
        asked=None if asked is None else _step(item, asked["relation"], asked["direction"]),
        entity=None if asked is None else named or masked[0],
        masked=masked,
        contrast=None if meta["contrast"] is None else text(meta["contrast"]),
        excluded=None
        if excluded is None
        else (_step(item, excluded["relation"], excluded["direction"]), text(excluded["node"])),
        letter=item.answer,
        answer=item.options[item.answer],
        wrong=tuple(wrong),
    )


def _step(item: Item, relation: str, direction: str) -> Step:
    if relation not in RELATIONS or direction not in ("out", "in"):
        raise ValueError(f"item {item.id!r}: unknown relation {relation!r} {direction!r} in its meta")
    return relation, direction
