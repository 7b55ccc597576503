"""What the graph may hold: a closed list of node types and of relations, each with its domain and range.

A relation points from `domain` to `range`. `symmetric` ones hold both ways though a file names them once.
An `inverse` is a second name for the same fact read backwards; files may use it, the graph stores the first name only.
"""

from dataclasses import dataclass

NODE_TYPES = (
    "disease",
    "symptom",
    "sign",
    "lab_test",
    "lab_finding",
    "imaging",
    "imaging_finding",
    "drug",
    "drug_class",
    "procedure",
    "gene",
    "protein",
    "pathogen",
    "mechanism",
    "anatomy",
    "risk_factor",
    "specialty",
    "condition",  # a complication, comorbidity or state that has no profile of its own
)
FINDINGS = ("symptom", "sign", "lab_finding", "imaging_finding")
RARITIES = ("common", "uncommon", "rare")


@dataclass(frozen=True, slots=True)
class Relation:
    """One relation. `functional`: a head has one tail at most (so two are a contradiction).

    `near_complete`: a head that names any tail names all of them, so a tail that is missing there is false. Everywhere
    else the graph is open: what it does not say may still be true.
    """

    name: str
    domain: tuple[str, ...]
    range: tuple[str, ...]
    symmetric: bool = False
    functional: bool = False
    near_complete: bool = False
    inverse: str | None = None


_DISEASE = ("disease",)
_DRUG = ("drug", "drug_class")
# A page that describes a symptom often carries a disease's box (fever, jaundice), so both stand wherever one does.
_MANIFESTATION = ("symptom", "sign", "disease")
_OUTCOME = ("symptom", "sign", "disease", "lab_finding", "condition")
_CAUSE = (
    "gene",
    "protein",
    "pathogen",
    "mechanism",
    "risk_factor",
    "condition",
    "disease",
    "drug",
    "drug_class",
    "anatomy",
)
_CONDITION = ("disease", "symptom", "sign", "risk_factor", "condition")
_TEST = ("lab_test", "imaging", "procedure")

RELATIONS = {
    relation.name: relation
    for relation in (
        Relation("has_symptom", _DISEASE, _MANIFESTATION),
        Relation("has_sign", _DISEASE, _MANIFESTATION),
        Relation("has_lab_finding", _DISEASE, ("lab_finding",)),
        Relation("has_imaging_finding", _DISEASE, ("imaging_finding",)),
        Relation("diagnosed_by", _DISEASE, _TEST),
        Relation("gold_standard_test", _DISEASE, _TEST, functional=True),
        Relation("caused_by", _DISEASE, _CAUSE, near_complete=True),
        Relation("has_mechanism", (*_DISEASE, *_DRUG), ("mechanism",)),
        Relation("affects_anatomy", _DISEASE, ("anatomy",)),
        Relation("has_risk_factor", _DISEASE, (*_CAUSE, "symptom", "sign")),
        Relation("has_complication", _DISEASE, _OUTCOME),
        Relation("differential_of", _DISEASE, _DISEASE, symmetric=True),
        Relation("has_subtype", _DISEASE, _DISEASE, inverse="is_a"),
        Relation("inheritance", _DISEASE, ("mechanism",), functional=True, near_complete=True),
        Relation("treated_by", _DISEASE, ("procedure", "drug_class", "drug")),
        Relation("treated_with_drug", _CONDITION, _DRUG, inverse="indicated_for"),
        Relation("prevented_by", _DISEASE, (*_DRUG, "procedure", "risk_factor"), inverse="prevents"),
        Relation("in_drug_class", ("drug",), ("drug_class",), near_complete=True),
        Relation("targets", _DRUG, ("protein", "gene", "pathogen", "anatomy")),
        Relation("contraindicated_in", _DRUG, _CONDITION),
        Relation("has_side_effect", _DRUG, _OUTCOME),
        Relation("interacts_with", _DRUG, (*_DRUG, "protein"), symmetric=True),
        Relation("metabolised_by", _DRUG, ("protein", "anatomy")),
        Relation("in_specialty", _DISEASE, ("specialty",)),
    )
}
INVERSES = {relation.inverse: relation.name for relation in RELATIONS.values() if relation.inverse}
# Says where a disease belongs, not what it does: no clue, and no clinical fact.
ADMINISTRATIVE = frozenset({"in_specialty"})
