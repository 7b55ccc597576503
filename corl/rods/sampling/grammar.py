"""Which relations make clues, questions and paths, by the type of the entity they start from."""

import numpy as np

from corl.rods.graph import ADMINISTRATIVE, NODE_TYPES, RELATIONS, Ints, reverse, step_of

Step = tuple[str, str]

FINDING_STEPS: tuple[Step, ...] = (
    ("has_symptom", "out"),
    ("has_sign", "out"),
    ("has_lab_finding", "out"),
    ("has_imaging_finding", "out"),
)
# differential_of stands in neither table: two diseases that must be told apart need not share anything.
CLUES: dict[str, tuple[Step, ...]] = {
    "disease": (
        *FINDING_STEPS,
        ("caused_by", "out"),
        ("has_mechanism", "out"),
        ("has_risk_factor", "out"),
        ("has_complication", "out"),
        ("affects_anatomy", "out"),
        ("inheritance", "out"),
    ),
    "drug": (
        ("in_drug_class", "out"),
        ("targets", "out"),
        ("has_mechanism", "out"),
        ("has_side_effect", "out"),
        ("contraindicated_in", "out"),
        ("treated_with_drug", "in"),
        ("metabolised_by", "out"),
        ("interacts_with", "out"),
    ),
}
ASKED: dict[str, tuple[Step, ...]] = {
    "disease": (
        ("treated_with_drug", "out"),
        ("treated_by", "out"),
        ("diagnosed_by", "out"),
        ("gold_standard_test", "out"),
        ("caused_by", "out"),
        ("has_complication", "out"),
        ("has_mechanism", "out"),
        ("inheritance", "out"),
        ("has_risk_factor", "out"),
        ("prevented_by", "out"),
        ("affects_anatomy", "out"),
        ("has_lab_finding", "out"),
        ("has_imaging_finding", "out"),
        ("contraindicated_in", "in"),
    ),
    "drug": (
        ("in_drug_class", "out"),
        ("targets", "out"),
        ("has_mechanism", "out"),
        ("has_side_effect", "out"),
        ("contraindicated_in", "out"),
        ("treated_with_drug", "in"),
        ("metabolised_by", "out"),
    ),
}
COMPARE_ASKED: tuple[Step, ...] = (*FINDING_STEPS, ("diagnosed_by", "out"), ("gold_standard_test", "out"))
# All options but one stand in the relation: only where a list that is there is a whole list.
EXCEPTION_ASKED: tuple[tuple[str, Step], ...] = (  # type of the seed, from the entity to the options
    ("drug", ("in_drug_class", "in")),
    ("disease", ("inheritance", "in")),
    ("disease", ("caused_by", "in")),
    ("disease", ("caused_by", "out")),
)
assert all(RELATIONS[relation].near_complete for _, (relation, _) in EXCEPTION_ASKED)
assert not ADMINISTRATIVE & {relation for steps in (*CLUES.values(), *ASKED.values()) for relation, _ in steps}
# (type of the seed, from the seed to the clue, from the seed on to x, from x to the answer)
CHAINS: tuple[tuple[str, tuple[Step, ...], tuple[Step, ...], tuple[Step, ...]], ...] = (
    ("disease", CLUES["disease"], (), ASKED["disease"]),
    ("drug", (("treated_with_drug", "in"), ("targets", "out")), (), ASKED["drug"]),
    ("disease", FINDING_STEPS, (("treated_with_drug", "out"),), ASKED["drug"]),
    ("disease", FINDING_STEPS, (("caused_by", "out"),), (("targets", "in"), ("caused_by", "in"))),
    ("disease", FINDING_STEPS, (("has_complication", "out"),), ASKED["disease"]),
    ("disease", FINDING_STEPS, (("has_complication", "out"), ("treated_with_drug", "out")), ASKED["drug"]),
    ("disease", FINDING_STEPS, (("treated_with_drug", "out"), ("interacts_with", "out")), ASKED["drug"]),
    ("disease", FINDING_STEPS, (("treated_with_drug", "out"), ("in_drug_class", "out")), (("in_drug_class", "in"),)),
    ("disease", FINDING_STEPS, (("caused_by", "out"), ("targets", "in")), ASKED["drug"]),
)
# Told apart in the schema, one thing to a reader: an option that stands in a kindred relation to x is no wrong answer.
_KIN = (
    ("has_symptom", "has_sign", "has_complication"),
    ("diagnosed_by", "gold_standard_test"),
    ("caused_by", "has_risk_factor", "has_mechanism"),
    ("treated_with_drug", "treated_by", "prevented_by"),
)
_LEADER = {relation: family[0] for family in _KIN for relation in family}
SEED_TYPES = (("disease", 0.65), ("drug", 0.35))  # what the masked entity is, where the graph has both


def step_numbers(steps: tuple[Step, ...]) -> Ints:
    return np.array([step_of(*step) for step in steps], np.int64)


def by_type(table: dict[str, tuple[Step, ...]]) -> Ints:
    """[types, most steps] step numbers, -1 where a type has fewer."""
    width = max(len(steps) for steps in table.values())
    out = np.full((len(NODE_TYPES), width), -1, np.int64)
    for kind, steps in table.items():
        out[NODE_TYPES.index(kind), : len(steps)] = step_numbers(steps)
    return out


_names = tuple(RELATIONS)
KIN_RELATION: Ints = np.array([_names.index(_LEADER.get(name, name)) for name in _names])


def kin_step(steps: Ints) -> Ints:
    """The step that stands for the whole family, in the same direction."""
    return 2 * KIN_RELATION[steps // 2] + steps % 2


def back(steps: Ints) -> Ints:
    """Steps the other way round; -1 stays."""
    return np.where(steps >= 0, reverse(np.maximum(steps, 0)), -1)


CLUE_STEPS, ASKED_STEPS = by_type(CLUES), by_type(ASKED)
