"""Weak edges from prose: a heading (or a lead's label) says the relation, a link names the object.

Prose is not parsed: the text is cut into sections and sentences, and a link counts where no cue of negation stands in
its sentence. Whether the object's type fits is decided later, once types are known; prose itself votes for none.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from corl.rods.extraction.titles import title_key
from corl.rods.extraction.wikitext import LABEL, NOTE, cut_templates

MAX_PROSE = 400_000  # characters read of a page


@dataclass(frozen=True, slots=True)
class ProseLink:
    """A link of a section. `relations` are tried in order: the first that the object's type fits is taken."""

    relations: tuple[str, ...]
    target: str
    shown: str
    section: str


# (pattern of a heading, relations). Of one heading only the first pattern counts.
_DIAGNOSIS = ("diagnosed_by", "has_imaging_finding", "has_lab_finding")
_RULES: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "disease": (
        (r"^differential( diagnos[ie]s)?$", ("differential_of",)),
        (r"^(signs?( and |/| & )symptoms?|symptoms?( and signs)?|characteristics|presentation|clinical (presentation|"
         r"features|manifestations)|signs|manifestations|definition and symptoms)$", ("has_symptom",)),
        (r"^(complications?)$", ("has_complication",)),
        (r"^(causes?( and (genetics|risk factors))?|etiology|aetiology|genetics)$", ("caused_by",)),
        (r"^risk factors?$", ("has_risk_factor",)),
        (r"^(pathophysiology|mechanisms?|pathogenesis)$", ("has_mechanism",)),
        (r"^(causes?|associations|mechanisms?) and diagnos[ie]s$", ("diagnosed_by", "caused_by")),
        (r"^(diagnos[ie]s|detection|laboratory|imaging)$", _DIAGNOSIS),
        (r"^(treatments?|management|treatment and (management|prognosis)|therapy)$",
         ("treated_with_drug", "treated_by")),
        (r"^(medications?|pharmacotherapy|drugs?)$", ("treated_with_drug",)),
        (r"^(prevention|prophylaxis)$", ("prevented_by",)),
        (r"^(prevention and treatment)$", ("treated_with_drug", "treated_by")),
    ),
    "drug": (
        (r"^((medical|clinical|therapeutic) uses?|uses|indications?|definition and (medical )?uses?)$",
         ("indicated_for",)),
        (r"^contra-?indications?( and (precautions|cautions))?$", ("contraindicated_in",)),
        (r"^((common |serious |rare )?(side|adverse) (effects?|reactions?)|side effects and mechanisms?|adverse drug "
         r"reactions?)$", ("has_side_effect",)),
        (r"^(drug )?interactions?$", ("interacts_with",)),
        (r"^(mechanism( of action)?|pharmacodynamics|mode of action)$", ("targets", "has_mechanism")),
        (r"^(pharmacokinetics|metabolism)$", ("metabolised_by",)),
    ),
    "pathogen": (),
}  # fmt: skip
_COMPILED = {
    kind: tuple((re.compile(pattern, re.I), relations) for pattern, relations in rules)
    for kind, rules in _RULES.items()
}
# Subsections that speak of something else than the section they stand in.
_ELSEWHERE = re.compile(
    r"classif|cost|histor|societ|cultur|epidemiolog|prognos|research|alternative|education|econom|legal|terminology|"
    r"controvers|other animals|veterinary|screening|differential|see also|brand|chemistry|overdose",
    re.I,
)
_HEADING = re.compile(r"^(={2,6})[ \t]{0,20}(.{1,200}?)[ \t]{0,20}\1[ \t\x02\x03]{0,20}$", re.M)
_LABEL = re.compile(f"{LABEL}([^{LABEL}]{{0,100}}){LABEL}")
_LINK = re.compile(r"\[\[([^\[\]|]{1,255})(?:\|([^\[\]]{0,300}))?\]\]([a-z]*)")
_FILE = re.compile(
    r"\[\[\s*(?:file|image|archivo|imagen|fichier|datei)\s*:[^\[\]]*(?:\[\[[^\[\]]*\]\][^\[\]]*){0,20}\]\]", re.I
)
_TABLE_EDGE = re.compile(r"^[ \t:]{0,20}(\{\||\|\})", re.M)
_SENTENCE = re.compile(r"(?<=[.!?])(?:\x03|\s)+(?=[A-Z\"'\[(])|\n+")
_NEGATION = re.compile(
    r"\b(?:no|not|nor|never|neither|cannot|can't|doesn't|isn't|aren't|don't|unlike|without|except|excluding|exclude[sd]?|"
    r"rather than|instead of|rul(?:e|es|ed|ing) out|absence|absent|disproven|ineffective|unrelated|similar to|compared|"
    r"differentiat\w+|distinguish\w*|formerly|previously|no longer|contraindicated|avoid(?:ed)?|lack(?:s|ing)?)\b",
    re.I,
)
# "in those with [[X]]": who is affected, not what befalls them.
_WHO = re.compile(
    r"\b(?:those|people|patients?|individuals|persons?|children|adults|women|men|history|anyone)\b"
    r"(?: \w+)? (?:with|of|who have|having)\b[^.,;]*$",
    re.I,
)
_BEFALLS = {"has_symptom", "has_complication", "has_side_effect"}
_CAUSES = re.compile(
    r"\b(?:cause[sd]?|causing|responsible for|causative agent (?:of|for|in)|etiologic(?:al)? agent of)\b", re.I
)


def prose_links(text: str, kind: str) -> Iterator[ProseLink]:
    """The links of the sections that speak of a relation; `text` is the page with labels kept, `kind` its type.

    A subsection without a rule of its own continues its section. In "Contraindications" a negation is expected.
    """
    rules = _COMPILED.get("disease" if kind == "symptom" else kind)
    if rules is None:
        return
    text = _cut_tables(_FILE.sub("", cut_templates(text[:MAX_PROSE])))
    if kind == "pathogen":
        yield from _caused(text)
        return
    for name, above, body in _sections(text):
        relations = _rule(rules, name) or (() if not above or _ELSEWHERE.search(name) else _rule(rules, above))
        if not relations:
            continue
        sentences = [sentence for sentence in _SENTENCE.split(body) if sentence.strip(" \n" + NOTE)]
        if name.lower().startswith("definition"):
            sentences = sentences[1:] if len(sentences) > 1 else []  # "X is a kind of Y": Y is no symptom
        for sentence in sentences:
            if relations != ("contraindicated_in",) and _NEGATION.search(_LINK.sub(r"\1", sentence)):
                continue
            for link in _LINK.finditer(sentence):
                if relations[0] in _BEFALLS and _WHO.search(sentence[max(0, link.start() - 60) : link.start()]):
                    continue
                if key := title_key(link.group(1)):
                    yield ProseLink(relations, key, _shown(link), name)


def _sections(text: str) -> Iterator[tuple[str, str, str]]:
    """(heading or label, the second-level heading it stands under, its text); the lead by its labels."""
    marks = list(_HEADING.finditer(text))
    lead = text[: marks[0].start()] if marks else text
    labels = list(_LABEL.finditer(lead))
    ends = [label.start() for label in labels[1:]] + [len(lead)]
    for label, end in zip(labels, ends, strict=bool(labels)):
        yield label.group(1).strip(), "", lead[label.end() : end]
    above = ""
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    for mark, end in zip(marks, ends, strict=bool(marks)):
        name = re.sub(r"'{2,}|\[\[(?:[^\[\]|]*\|)?|\]\]|" + NOTE, "", _LABEL.sub("", mark.group(2))).strip()
        body = _LABEL.sub(" ", text[mark.end() : end])
        if len(mark.group(1)) == 2:
            above = name
            yield name, "", body
        else:
            yield name, above, body


def _cut_tables(text: str) -> str:
    """The text without its tables; one that never closes is text."""
    parts, at, starts = [], 0, list[int]()
    for edge in _TABLE_EDGE.finditer(text):
        if edge.group(1) == "{|":
            starts.append(edge.start())
        elif starts and (start := starts.pop()) >= at and not starts:
            parts.append(text[at:start])
            at = edge.end()
    return "".join([*parts, text[at:]])


def _rule(rules: tuple[tuple[re.Pattern[str], tuple[str, ...]], ...], name: str) -> tuple[str, ...]:
    return next((relations for pattern, relations in rules if pattern.search(name)), ())


def _caused(text: str) -> Iterator[ProseLink]:
    """What a pathogen's lead says it causes; read backwards, as the disease's cause."""
    heading = _HEADING.search(text)
    lead = _LABEL.sub(" ", text[: heading.start()] if heading else text)
    for sentence in _SENTENCE.split(lead):
        cue = _CAUSES.search(sentence)
        if cue is None or _NEGATION.search(_LINK.sub(r"\1", sentence)):
            continue
        for link in _LINK.finditer(sentence, cue.end()):
            if key := title_key(link.group(1)):
                yield ProseLink(("caused_by",), key, _shown(link), "lead")


def _shown(link: re.Match[str]) -> str:
    return " ".join(((link.group(2) or link.group(1)) + link.group(3)).replace("''", "").split())
