"""English: predicates, nouns and frames."""

from collections.abc import Sequence

from corl.rods.graph.schema import NODE_TYPES
from corl.rods.wording.language import Language, phrases, table

_PREDICATES = {
    "has_symptom": (
        ["presents with {n}", "is marked by {n}", "typically brings {n}"],
        ["is a symptom of {n}", "is a complaint in {n}", "is often felt in {n}"],
    ),
    "has_sign": (
        ["shows {n} on examination", "has {n} among its signs", "often comes with {n}"],
        ["is a sign of {n}", "can be found on examination in {n}", "may be seen in {n}"],
    ),
    "has_lab_finding": (
        ["has {n} among its laboratory findings", "shows {n} when samples are tested", "goes along with {n}"],
        ["is a laboratory finding in {n}", "is measured in {n}", "goes along with {n}"],
    ),
    "has_imaging_finding": (
        ["typically shows {n}", "may reveal {n}", "often shows {n}"],
        ["is an imaging finding in {n}", "may be shown by scans in {n}", "is a picture typical of {n}"],
    ),
    "diagnosed_by": (
        ["is diagnosed by {n}", "can be detected by {n}", "is looked for by {n}"],
        ["is used to diagnose {n}", "helps to detect {n}", "is a way to find {n}"],
    ),
    "gold_standard_test": (
        ["has {n} as its gold-standard test", "is confirmed most reliably by {n}", "is best proven by {n}"],
        ["is the gold-standard test for {n}", "confirms {n} most reliably", "is the best proof of {n}"],
    ),
    "caused_by": (
        ["is caused by {n}", "results from {n}", "is due to {n}"],
        ["causes {n}", "gives rise to {n}", "is what brings about {n}"],
    ),
    "caused_by gene": (
        ["is caused by mutations in {n}", "results from changes in {n}", "is due to variants of {n}"],
        ["causes {n} when mutated", "is altered in {n}", "is at fault in {n}"],
    ),
    "caused_by protein": (
        ["is caused by a fault in {n}", "results from a defect of {n}", "is due to trouble with {n}"],
        ["causes {n} when it is faulty", "is at fault in {n}", "lies at the root of {n}"],
    ),
    "caused_by anatomy": (
        ["arises from {n}", "has its cause in {n}"],
        ["is where {n} arises", "is the source of {n}"],
    ),
    "has_mechanism": (
        ["involves {n}", "rests on {n}", "is explained by {n}"],
        ["is a mechanism of {n}", "underlies {n}", "helps to explain {n}"],
    ),
    "has_mechanism drug": (
        ["works by way of {n}", "owes its effect to {n}", "acts through {n}"],
        ["is a mechanism of {n}", "is how {n} works", "explains the effect of {n}"],
    ),
    "has_mechanism drug_class": (
        ["works by way of {n}", "owes its effect to {n}", "acts through {n}"],
        ["is a mechanism of {n}", "is how {n} works", "explains the effect of {n}"],
    ),
    "affects_anatomy": (
        ["affects {n}", "mainly strikes {n}", "does harm to {n}"],
        ["is affected by {n}", "is where {n} strikes", "is harmed in {n}"],
    ),
    "has_risk_factor": (
        ["has {n} among its risk factors", "becomes more likely with {n}", "is favoured by {n}"],
        ["is a risk factor for {n}", "makes {n} more likely", "favours {n}"],
    ),
    "has_complication": (
        ["can be complicated by {n}", "may lead to {n}", "can end in {n}"],
        ["is a complication of {n}", "may follow {n}", "is a later result of {n}"],
    ),
    "differential_of": (
        ["is a differential diagnosis of {n}", "has to be told apart from {n}", "is easily confused with {n}"],
        [],
    ),
    "has_subtype": (
        ["has {n} as a subtype", "includes {n} as a form", "covers {n}"],
        ["is a subtype of {n}", "is a form of {n}", "is one kind of {n}"],
    ),
    "inheritance": (
        ["is passed on by {n}", "follows {n}", "runs in families by {n}"],
        ["is the inheritance pattern of {n}", "is how {n} is passed on", "is how {n} runs in families"],
    ),
    "treated_by": (
        ["is treated with {n}", "can be managed with {n}", "is helped by {n}"],
        ["is used in the treatment of {n}", "helps to manage {n}", "helps against {n}"],
    ),
    "treated_with_drug": (
        ["is treated with {n}", "responds to {n}", "is helped by {n}"],
        ["is used to treat {n}", "is indicated for {n}", "is given for {n}"],
    ),
    "prevented_by": (
        ["can be prevented by {n}", "becomes less likely with {n}", "is warded off by {n}"],
        ["helps to prevent {n}", "makes {n} less likely", "wards off {n}"],
    ),
    "in_drug_class": (
        ["belongs to the class {n}", "is classed under {n}", "falls under {n}"],
        ["includes {n}", "has {n} among its members", "takes in {n}"],
    ),
    "targets": (
        ["acts on {n}", "targets {n}", "is aimed at {n}"],
        ["is a target of {n}", "is acted on by {n}", "is what {n} works on"],
    ),
    "contraindicated_in": (
        ["is contraindicated in {n}", "should not be given in {n}", "must be avoided in {n}"],
        ["is a contraindication to {n}", "forbids the use of {n}", "speaks against giving {n}"],
    ),
    "has_side_effect": (
        ["has {n} among its side effects", "can produce {n} as an adverse effect", "may bring on {n}"],
        ["is a side effect of {n}", "is an adverse effect of {n}", "may be brought on by {n}"],
    ),
    "interacts_with": (
        ["interacts with {n}", "should not be combined lightly with {n}", "changes in effect when taken with {n}"],
        [],
    ),
    "metabolised_by": (
        ["is metabolised by {n}", "is broken down by {n}", "is cleared by {n}"],
        ["metabolises {n}", "breaks down {n}", "clears {n}"],
    ),
    "in_specialty": (
        ["belongs to {n}", "is cared for in {n}", "falls to {n}"],
        ["deals with {n}", "takes care of {n}", "is the field of {n}"],
    ),
}

_NOUNS = {
    "disease": ["disease", "condition", "illness"],
    "symptom": ["symptom", "complaint"],
    "sign": ["sign", "feature"],
    "lab_test": ["laboratory test", "assay"],
    "lab_finding": ["laboratory finding", "test result"],
    "imaging": ["imaging study", "scan"],
    "imaging_finding": ["imaging finding", "radiological sign"],
    "drug": ["drug", "medicine", "agent"],
    "drug_class": ["drug class", "group of medicines"],
    "procedure": ["procedure", "measure"],
    "gene": ["gene"],
    "protein": ["protein", "molecule"],
    "pathogen": ["pathogen", "germ"],
    "mechanism": ["mechanism", "process"],
    "anatomy": ["body part", "structure"],
    "risk_factor": ["risk factor", "circumstance"],
    "specialty": ["specialty", "field"],
    "condition": ["condition", "problem"],
    "finding": ["finding", "feature"],
    "thing": ["thing"],
}

# Slots: {which} asks for the answer, {ask} is what the question says of it, {clues} what the clues say of the entity,
# {noun} and {a} its type, {x} its name; {b} the contrast; {out} what an option must not be. Capitals alike.
_FRAMES = {
    "intro": [
        "{A} {clues}. ",
        "Consider {a} that {clues}. ",
        "Suppose that {a} {clues}. ",
        "Picture {a} that {clues}. ",
        "This is known of {a}: it {clues}. ",
    ],
    "named": [
        "In this case {x} {clues}. ",
        "Here {x} {clues}. ",
    ],
    "star": [
        "{Which} {clues}?",
        "{A} {clues}. {Which} is it?",
        "This is known: it {clues}. {Which} fits all of this?",
        "Think of {a} that {clues}. {Which} is meant?",
        "{Which} fits this description: it {clues}?",
    ],
    "tail": [
        "{Which} {ask}?",
        "Of the options, {which} {ask}?",
        "{Which} {ask}, to the best of present knowledge?",
        "Choose what fits: {which} {ask}?",
    ],
    "compare": [
        "It may be mistaken for {b}. {Which} {ask} and helps to tell it apart from {b}?",
        "{B} shares some of this, but is not meant. {Which} {ask}, and not of {b}?",
        "Not {b}, which looks much alike, is meant. {Which} {ask}?",
        "It resembles {b}, but is not the same. {Which} {ask} and separates the two?",
    ],
    "exception": [
        "Each of the following {ask}, EXCEPT one. {Which} is the exception?",
        "All options but one have this in common: each {ask}. {Which} does not?",
        "Of every option but one it is true that it {ask}. {Which} is the odd one out?",
        "{Which} does NOT belong with the others, each of which {ask}?",
    ],
    "constraint": [
        "{Which} {ask}, leaving aside any that {out}?",
        "Leave aside whatever {out}. {Which} {ask}?",
        "{Which} {ask}, if nothing that {out} may be chosen?",
        "Rule out every option that {out}. {Which} {ask}?",
    ],
}


def article(noun: str) -> str:
    """The noun behind "a" or "an"."""
    return f"{'an' if noun[0] in 'aeio' else 'a'} {noun}"


def join_names(names: Sequence[str]) -> str:
    """a; a and b; a, b and c."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def join_clauses(clauses: Sequence[str]) -> str:
    """Commas even between two, since the clauses may hold lists of their own."""
    return clauses[0] if len(clauses) == 1 else f"{', '.join(clauses[:-1])}, and {clauses[-1]}"


ENGLISH = Language(
    code="en",
    predicates=table(_PREDICATES),
    nouns={kind: phrases(_NOUNS[kind]) for kind in (*NODE_TYPES, "finding", "thing")},
    asking={
        kind: phrases(["which of the following"] if kind == "thing" else [f"which {noun}" for noun in _NOUNS[kind]])
        for kind in (*NODE_TYPES, "thing")
    },
    frames={name: phrases(texts) for name, texts in _FRAMES.items()},
    join_names=join_names,
    join_clauses=join_clauses,
    relative=lambda noun, clauses: f"{article(noun)} that {clauses}",
    this=lambda noun: f"this {noun}",
    some=article,
)
