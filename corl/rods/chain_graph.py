"""Chains finding -> disease -> drug -> effect, cut out of the embedded graph for the demo's tiny model.

A name plays one role. One that is a finding of some diseases and an effect of some drugs plays the more frequent of the
two. A name that holds another one is left out, since the demo's tokenizer reads whole names.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache

from corl.rods.graph import EMBEDDED, FINDINGS, load_graph

ROLES = ("finding", "disease", "drug", "effect")
PER_ROLE = 40  # names; with hundreds a tiny model needs longer than a demo may take (bench/LOG.md)
FINDING_RELATIONS = tuple(f"has_{kind}" for kind in FINDINGS)


@dataclass(frozen=True, slots=True)
class ChainGraph:
    """The roles of the names and the facts that lead from each role to the next."""

    name: str
    hash: str  # of the graph it was cut from
    roles: dict[str, str]  # name -> role
    edges: tuple[tuple[str, str], ...]
    _tails: dict[str, list[str]] = field(init=False, repr=False)
    _heads: dict[str, list[str]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        tails: dict[str, list[str]] = {name: [] for name in self.roles}
        heads: dict[str, list[str]] = {name: [] for name in self.roles}
        for head, tail in self.edges:
            tails[head].append(tail)
            heads[tail].append(head)
        object.__setattr__(self, "_tails", tails)
        object.__setattr__(self, "_heads", heads)

    def of_role(self, role: str) -> list[str]:
        """Names of a role."""
        return [name for name, its_role in self.roles.items() if its_role == role]

    def tails(self, head: str) -> list[str]:
        """What a name leads to."""
        return self._tails[head]

    def heads(self, tail: str) -> list[str]:
        """What leads to a name."""
        return self._heads[tail]

    def reach(self, start: str, hops: int) -> set[str]:
        """Every name at the end of a path of exactly `hops` facts from `start`."""
        reached = {start}
        for _ in range(hops):
            reached = {tail for head in reached for tail in self._tails[head]}
        return reached


@cache
def chain_graph(per_role: int = PER_ROLE) -> ChainGraph:
    """The chains of the embedded graph, from its strong edges, with up to `per_role` names of each role."""
    graph = load_graph(EMBEDDED)
    diseases = [graph.names[node] for node in graph.of_type("disease").tolist()]
    shown = [
        (finding, disease)
        for disease in diseases
        for relation in FINDING_RELATIONS
        for finding in graph.tails_of(disease, relation, strong=True)
    ]
    treated = [(d, drug) for d in diseases for drug in graph.tails_of(d, "treated_with_drug", strong=True)]
    drugs = sorted({drug for _, drug in treated})
    caused = [(drug, effect) for drug in drugs for effect in graph.tails_of(drug, "has_side_effect", strong=True)]

    as_finding, as_effect = Counter(finding for finding, _ in shown), Counter(effect for _, effect in caused)
    names = {*as_finding, *as_effect, *diseases, *drugs}
    whole = {name for name in names if not any(other in name for other in names if other != name)}
    others = {*diseases, *drugs}
    effects = {n for n in whole & set(as_effect) if as_effect[n] >= as_finding[n]} - others
    findings = (whole & set(as_finding)) - effects - others

    # From the end to the start, so that a name kept leads on to one kept of the next role; the best linked ones.
    facts: list[tuple[str, str]] = []
    onward = _most_frequent((effect for _, effect in caused), effects, per_role)
    for layer, members in ((caused, whole & set(drugs)), (treated, whole & set(diseases)), (shown, findings)):
        leading = [(head, tail) for head, tail in layer if tail in onward]
        onward = _most_frequent((head for head, _ in leading), members, per_role)
        facts = [fact for fact in leading if fact[0] in onward] + facts
    edges = _through(facts, findings, effects)
    used = {name for edge in edges for name in edge}
    by_role = zip(ROLES, (findings, set(diseases), set(drugs), effects), strict=True)
    roles = {name: role for role, members in by_role for name in sorted(members & used)}
    return ChainGraph(graph.name, graph.hash, roles, tuple(edges))


def _most_frequent(names: Iterable[str], members: set[str], limit: int) -> set[str]:
    counts = Counter(name for name in names if name in members)
    return set(sorted(counts, key=lambda name: (-counts[name], name))[:limit])


def _through(facts: list[tuple[str, str]], findings: set[str], effects: set[str]) -> list[tuple[str, str]]:
    """The facts that lie on a whole chain: what ends early or starts late is left out, until nothing changes."""
    while True:
        leads, led_to = {head for head, _ in facts}, {tail for _, tail in facts}
        kept = [(h, t) for h, t in facts if (h in findings or h in led_to) and (t in effects or t in leads)]
        if len(kept) == len(facts):
            return kept
        facts = kept
