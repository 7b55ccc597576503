"""A passage to triples: what the teacher is asked, and what of its answer stands."""

import json
import re
from dataclasses import dataclass

from corl.rods.graph import INVERSES, NODE_TYPES, RELATIONS, Graph
from corl.rods.prose.mentions import Mentions
from corl.rods.prose.passages import Passage
from corl.rods.teachers.protocol import Message

_SYSTEM = (
    "You read medical prose and write down the facts that it states, as JSON and nothing else: a list of objects "
    '{"head": NAME, "relation": RELATION, "tail": NAME, "evidence": TEXT}. Use only the names and relations listed. '
    "The evidence is the part of the text that states the fact, copied letter by letter. Leave out what the text "
    "denies, doubts or only mentions in passing, and what you know from elsewhere. No fact: []."
)
_NEGATION = re.compile(
    r"\b(?:not|no|nor|never|neither|without|unlike|rather than|rule[sd]? out|ruled out|exclud\w+|absen(?:t|ce)|lack\w*"
    r"|cannot|fail\w* to)\b|n't\b|不|无|没有|未|非|排除|而非",
    re.IGNORECASE,
)
_EXPECTS_NEGATION = frozenset({"contraindicated_in"})  # "should not be used in .."
_MOST = 50  # triples of one passage that are looked at


@dataclass(frozen=True, slots=True)
class Triple:
    """One line of an answer. `reason` "" where it stands; head and tail then are node names."""

    head: str
    relation: str
    tail: str
    evidence: str
    reason: str = ""


def candidates(passage: Passage, mentions: Mentions) -> list[int]:
    """Nodes that a triple of this passage may have: those that it names, and the page's own, in order of appearance."""
    found = [node for mention in mentions.find(passage.text) for node in mention.nodes]
    return list(dict.fromkeys([*mentions.nodes_named(passage.title), *found]))


def passage_messages(passage: Passage, nodes: list[int], graph: Graph) -> list[Message] | None:
    """What to ask of a passage; None where no two of its nodes can stand in any relation."""
    types = {NODE_TYPES[graph.types[node]] for node in nodes}
    usable = [r for r in RELATIONS.values() if types & set(r.domain) and types & set(r.range)]
    if len(nodes) < 2 or not usable:
        return None
    relations = "\n".join(f"{r.name}: {' or '.join(r.domain)} -> {' or '.join(r.range)}" for r in usable)
    names = "\n".join(f"{graph.names[node]} ({NODE_TYPES[graph.types[node]]})" for node in nodes)
    text = f"Relations:\n{relations}\n\nNames:\n{names}\n\nPage: {passage.title}\nText: {passage.text}"
    return [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": text}]


def read_answer(answer: str, passage: Passage, nodes: list[int], graph: Graph, mentions: Mentions) -> list[Triple]:
    """Every triple of an answer, checked; one with the reason "malformed" where it is no JSON list."""
    listed = _json_list(answer)
    if listed is None:
        return [Triple("", "", "", " ".join(answer.split())[:200], "malformed")]
    return [_checked(entry, passage, nodes, graph, mentions) for entry in listed[:_MOST]]


def _checked(entry: object, passage: Passage, nodes: list[int], graph: Graph, mentions: Mentions) -> Triple:
    keys = ("head", "relation", "tail", "evidence")
    values = [entry.get(key) for key in keys] if isinstance(entry, dict) else []
    if len(values) < len(keys) or not all(isinstance(value, str) for value in values):
        return Triple("", "", "", "", "malformed")
    head, relation, tail, evidence = (" ".join(str(value).split()) for value in values)

    def refuse(reason: str) -> Triple:
        return Triple(head, relation, tail, evidence, reason)

    if relation in INVERSES:
        head, relation, tail = tail, INVERSES[relation], head
    if relation not in RELATIONS:
        return refuse("unknown relation")
    if not evidence or evidence not in passage.text:
        return refuse("evidence is not in the text")
    if relation not in _EXPECTS_NEGATION and _NEGATION.search(evidence):
        return refuse("negated")
    rule, ends = RELATIONS[relation], []
    for name, allowed in ((head, rule.domain), (tail, rule.range)):
        known = mentions.nodes_named(name)
        if not known:
            return refuse(f"{name!r} is no name of the graph")
        here = [node for node in known if node in nodes]
        if not here:
            return refuse(f"{name!r} is not named in the text")
        fitting = [node for node in here if NODE_TYPES[graph.types[node]] in allowed]
        if not fitting:
            return refuse(f"{name!r} has a type that {relation} does not allow there")
        if len(fitting) > 1:
            return refuse(f"{name!r} is ambiguous")
        ends.append(fitting[0])
    if ends[0] == ends[1]:
        return refuse("both ends are one node")
    named = {node for mention in mentions.find(evidence) for node in mention.nodes}
    own = set(mentions.nodes_named(passage.title))
    if not (set(ends) <= named | own and set(ends) & named):  # "It causes fever" on the page of the disease
        return refuse("the evidence does not name both ends")
    first, second = (graph.names[end] for end in ends)
    if rule.symmetric and second < first:
        first, second = second, first
    return Triple(first, relation, second, evidence)


def _json_list(answer: str) -> list | None:
    text = answer.rpartition("</think>")[2]
    start, end = text.find("["), text.rfind("]")
    if start < 0 or end < start:
        return None
    try:
        found = json.loads(text[start : end + 1])
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list) else None
