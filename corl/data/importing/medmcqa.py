"""MedMCQA: {question, opa .. opd, cop, subject_name, topic_name, choice_type, id}; `cop` counts from 1 or from 0.

The original files count from 1, the hub's from 0, and nothing in a row tells which: only a whole file does, by the
last option of the one count (4) or the first of the other (0). The test file has no `cop`, the hub's there -1.
`choice_type` "multi" does not make a row multi-answer: every row has one gold.
"""

from collections.abc import Iterator

from corl.data.importing.layout import Layout, Part
from corl.data.importing.rows import Row
from corl.data.importing.values import letter_at, whole

_STEM_AND_OPTIONS = frozenset({"question", "opa", "opb", "opc", "opd"})
LAYOUT = Layout(
    name="medmcqa",
    columns=(_STEM_AND_OPTIONS | {"cop"}, _STEM_AND_OPTIONS | {"subject_name"}),
    wanted="rows with question, opa, opb, opc, opd, cop",
)


def read(parts: list[Part], *, cop_base: int | None = None) -> Iterator[Row]:
    # Told for all files before the first row is taken, so that nothing is read twice.
    bases = [_base(part) if cop_base is None else cop_base for part in parts]
    for part, base in zip(parts, bases, strict=True):
        for place, row in zip(part.places(), part.rows, strict=True):
            cop = whole(row.get("cop"))
            kept = {key: row[key] for key in ("subject_name", "topic_name", "choice_type") if row.get(key)}
            yield Row(
                place=place,
                native_id=row.get("id"),
                question=row.get("question"),
                options=[row.get(key) for key in ("opa", "opb", "opc", "opd")],
                answer=letter_at(None if cop is None else cop - base, 4) or row.get("cop"),
                meta=kept | ({"split": part.split} if part.split else {}),
            )


def _base(part: Part) -> int:
    """0 or 1 for a file whose golds tell, and for one without golds, where it makes no difference."""
    cops = {whole(row.get("cop")) for row in part.rows} - {None, -1}
    if cops and (0 in cops) == (4 in cops):
        found = "both a cop of 0 and one of 4" if 0 in cops else "no cop of 0 and none of 4"
        raise ValueError(f"{part.name} has {found}, so it cannot be told what cop counts from; say --cop-base 0 or 1")
    return int(4 in cops)
