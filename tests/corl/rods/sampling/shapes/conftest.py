"""An oracle in plain sets: what a question must be, straight from its definition, and small graphs to ask it about."""

from collections import defaultdict
from itertools import combinations

import numpy as np
import pytest

from corl.config.rods import RodsSample
from corl.rods.graph import (
    RELATION_IDS,
    RELATION_NAMES,
    RELATIONS,
    TYPE_IDS,
    Graph,
    from_arrays,
    load_graph,
    relation_of,
)
from corl.rods.sampling.draws import SHAPES
from corl.rods.sampling.sources import Sources

FOR = ("treated_with_drug", "treated_by", "prevented_by")
LANGS = ("en", "zh")


class Oracle:
    """Faults of a drawn question."""

    def __init__(self, graph):
        self.graph = graph
        self.holders, self.named = {}, defaultdict(set)
        for node in range(len(graph)):
            for text in self.texts(node):
                self.named[text].add(node)
        self.any, self.strong = defaultdict(set), defaultdict(set)
        columns = (graph.heads, graph.relations, graph.tails, graph.strong_edges)
        edges = zip(*(column.tolist() for column in columns), strict=True)
        for head, relation, tail, strong in edges:
            name = RELATION_NAMES[relation]
            ends = [(head, "out", tail), (tail, "out" if RELATIONS[name].symmetric else "in", head)]
            for node, way, other in ends:
                self.any[node, name, way].add(other)
                if strong:
                    self.strong[node, name, way].add(other)

    def type(self, node):
        return int(self.graph.types[node])

    def ends(self, node, path, facts):
        reached = {node}
        for step in path:
            reached = set().union(*(facts.get((place, *step), set()) for place in reached))
        return reached

    def holds(self, entity, clue, facts):
        path, node = clue
        return node in self.ends(entity, path, facts)

    def entities(self, clues, without=-1):
        for clue in clues:
            if clue not in self.holders:
                self.holders[clue] = {e for e in range(len(self.graph)) if self.holds(e, clue, self.any)}
        return set.intersection(set(range(len(self.graph))), *(self.holders[clue] for clue in clues)) - {without}

    def right(self, draw, clues, node):
        """Whether an option is right under some of the clues."""
        found = self.entities(clues, draw["contrast"])
        if draw["asked"] is None:
            return node in found and self.type(node) == self.type(draw["entity"])
        stands = any(node in self.any.get((e, *draw["asked"]), set()) for e in found)
        return stands and not (draw["excluded"] and self.excluded(draw, node))

    def excluded(self, draw, node, facts=None):
        step, place = draw["excluded"]
        return place in (facts or self.any).get((node, *step), set())

    def relatives(self, node):
        out = set()
        for way in ("in", "out"):
            one = self.any.get((node, "has_subtype", way), set())
            out |= one | set().union(*(self.any.get((other, "has_subtype", way), set()) for other in one))
            out |= self.any.get((node, "in_drug_class", way), set())
        return out.union(*(self.named[text] for text in self.texts(node))) - {node}

    def texts(self, node):
        graph = self.graph
        listed = (graph.names[node], graph.names_zh[node], *graph.aliases_en[node], *graph.aliases_zh[node])
        return {text.casefold() for text in listed if text}

    def describe(self, draws, row):
        clues = []
        for node, steps in zip(draws.clue_nodes[row].tolist(), draws.clue_steps[row].tolist(), strict=True):
            if node >= 0:
                clues.append((tuple(relation_of(step) for step in steps if step >= 0), node))
        step = int(draws.asked_step[row])
        excluded = int(draws.excluded_step[row])
        return {
            "shape": SHAPES[draws.shape[row]],
            "entity": int(draws.entity[row]),
            "clues": clues,
            "asked": relation_of(step) if step >= 0 else None,
            "excluded": (relation_of(excluded), int(draws.excluded_node[row])) if excluded >= 0 else None,
            "contrast": int(draws.contrast[row]),
            "answer": int(draws.answer[row]),
            "distractors": draws.distractors[row].tolist(),
            "via": draws.via[row].tolist(),
            "satisfied": draws.satisfied[row].tolist(),
            "remaining": draws.remaining[row].tolist(),
        }

    def faults(self, draws, row, settings):
        draw = self.describe(draws, row)
        shape, clues, x, asked = draw["shape"], draw["clues"], draw["entity"], draw["asked"]
        answer, options = draw["answer"], [draw["answer"], *draw["distractors"]]
        found = []

        def fault(name, wrong):
            if wrong:
                found.append(name)

        fault("options", len(options) != settings.options or len(set(options)) != len(options) or min(options) < 0)
        fault("types", len({self.type(node) for node in options}) > 1)
        fault("generic", any(self.graph.generic[node] for node in [*options, *(n for _, n in clues if n != x)]))
        fault("relatives", any(a in self.relatives(b) for a, b in combinations(options, 2)))
        fault("clue is option", any(node in options for _, node in clues))
        fault("administrative", any(s[0] in ("in_specialty", "differential_of") for p, _ in clues for s in p))
        fault("holes", (draws.clue_nodes[row] >= 0).tolist() != [k < len(clues) for k in range(5)])
        fault("clue strong", not all(self.holds(x, clue, self.strong) for clue in clues))
        for path, node in clues:
            fault("degree", bool(path) and self.graph.degrees[node] > settings.clue_degree)
        same_type = {e for e in range(len(self.graph)) if self.type(e) == self.type(x)}
        for k in range(5):
            left = self.entities(clues[: k + 1])
            left = left & same_type if shape == "star" else left
            fault("remaining", draw["remaining"][k] != (len(left) if k < len(clues) else -1))
        if shape == "exception":
            found += self.exception(draw)
            return found

        everyone = self.entities(clues, draw["contrast"])
        fault("right", [self.right(draw, clues, node) for node in options] != [True] + [False] * (len(options) - 1))
        if shape == "star":
            fault("star", asked is not None or everyone & same_type != {x} or answer != x or len(clues) < 2)
        else:
            fault("gold strong", answer not in self.strong.get((x, *asked), set()))
            fault("contradicted", self.contradicted(x, asked, answer))
        for path, node in clues:
            fault("clue contradicted", len(path) == 1 and self.contradicted(x, path[0], node))
        if len(clues) > 1:
            for k, clue in enumerate(clues):
                rest = clues[:k] + clues[k + 1 :]
                count = sum(self.right(draw, rest, node) for node in options)
                if shape == "star":
                    count = len(self.entities(rest) & same_type)
                fault("redundant", count < 2)
                fault("single", sum(self.right(draw, [clue], node) for node in options) < 2)
        for node, via, bits in zip(draw["distractors"], draw["via"], draw["satisfied"], strict=True):
            found += self.distractor(draw, node, via, bits)
        if shape == "chain":
            fault("chain", len(clues) != 1 or not 1 <= len(clues[0][0]) <= 3)
        if shape == "star_tail":
            fault("tail", len(clues) < 2)
        if shape == "compare":
            b = draw["contrast"]
            shared = [self.holds(b, clue, self.any) for clue in clues]
            fault("contrast shares", sum(shared) < 2 or all(shared) or b == x or b in self.relatives(x))
            fault("contrast has", answer in self.any.get((b, *asked), set()) or self.type(b) != self.type(x))
        if shape == "constraint":
            fault("asked", asked != ("treated_with_drug", "out"))
            held = [n for n in draw["distractors"] if n in self.strong.get((x, *asked), set())]
            fault("forbidden", not any(self.excluded(draw, node, self.strong) for node in held))
            fault("forbids answer", self.excluded(draw, answer))
            fault("condition", draw["excluded"][1] == x or draw["excluded"][1] in self.relatives(x))
        return found

    def exception(self, draw):
        (relation, way), x, answer = draw["asked"], draw["entity"], draw["answer"]
        back = (relation, "in" if way == "out" else "out")
        inside = self.any.get((x, relation, way), set()).union(
            *(self.any.get((near, relation, way), set()) for near in self.relatives(x))
        )
        found = []
        if draw["clues"] != [((), x)] or not RELATIONS[relation].near_complete:
            found.append("exception")
        if not set(draw["distractors"]) <= self.strong.get((x, relation, way), set()):
            found.append("member")
        if answer in inside or inside & self.relatives(answer):
            found.append("answer is a member")
        if not self.strong.get((answer, *back), set()):
            found.append("nothing known of the answer")
        if set(draw["via"]) != {x} or set(draw["satisfied"]) != {1}:
            found.append("evidence")
        return found

    def contradicted(self, x, asked, node):
        relation, way = asked
        back = "in" if way == "out" else "out"
        if relation in FOR:
            return node in self.any.get((x, "contraindicated_in", back), set())
        if relation == "contraindicated_in":
            return any(node in self.any.get((x, name, back), set()) for name in FOR)
        return RELATIONS[relation].functional and way == "out" and len(self.any.get((x, relation, way), ())) > 1

    def distractor(self, draw, node, via, bits):
        clues, found = draw["clues"], []
        linked = node if draw["shape"] == "star" else via
        held = [self.holds(linked, clue, self.any) for clue in clues]
        if bits != sum(1 << k for k, holds in enumerate(held) if holds):
            found.append("satisfied")
        if draw["shape"] == "star":
            if via != -1:
                found.append("via")
        elif node not in self.strong.get((via, *draw["asked"]), set()):
            found.append("via")
        elif self.type(via) != self.type(draw["entity"]):
            found.append("via type")
        if all(held):
            if not (draw["excluded"] and self.excluded(draw, node, self.strong)):
                found.append("violates nothing")
        elif not any(
            not holds and (not path or self.strong.get((linked, *path[0]), set()))
            for holds, (path, _) in zip(held, clues, strict=True)
        ):
            found.append("partial completeness")
        return found


class Sheet:
    """A small graph written line by line."""

    def __init__(self):
        self.types, self.zh, self.aliases, self.rarity, self.generic, self.edges = {}, {}, {}, {}, set(), {}

    def nodes(self, kind, *names):
        for name in names:
            self.types.setdefault(name, kind)
        return self

    def edge(self, head, relation, *tails, strong=True):
        for tail in tails:
            self.edges[head, relation, tail] = strong
        return self

    def graph(self):
        names = list(self.types)
        ids = {name: at for at, name in enumerate(names)}
        ends = [
            np.array([ids[h] for h, _, _ in self.edges], np.int64),
            np.array([RELATION_IDS[r] for _, r, _ in self.edges], np.int64),
            np.array([ids[t] for _, _, t in self.edges], np.int64),
        ]
        for (head, relation, tail), rule in ((e, RELATIONS[e[1]]) for e in self.edges):
            assert self.types[head] in rule.domain, (head, relation, tail)
            assert self.types[tail] in rule.range, (head, relation, tail)
        base = from_arrays(
            "sheet", names, list(self.types.values()), tuple(ends), strong=np.array(list(self.edges.values()), bool)
        )
        base.generic[[ids[name] for name in self.generic]] = True
        for name, listed in self.aliases.items():
            base.aliases_en[ids[name]] = tuple(listed)
        return base


@pytest.fixture(scope="session")
def make_oracle():
    return Oracle


@pytest.fixture
def sheet():
    return Sheet()


def random_graph(seed, diseases=14):
    """A small dense graph in which everything happens: weak edges, subtypes, classes, contradictions, shared names."""
    rng = np.random.Generator(np.random.Philox(key=seed))
    sheet, counts = Sheet(), {
        "disease": diseases, "symptom": 9, "lab_finding": 4, "drug": 12, "drug_class": 4, "gene": 4, "pathogen": 3,
        "protein": 4, "lab_test": 5, "mechanism": 4, "risk_factor": 3, "specialty": 1,
    }  # fmt: skip
    names = {kind: [f"{kind} {i}" for i in range(count)] for kind, count in counts.items()}
    for kind, listed in names.items():
        sheet.nodes(kind, *listed)
    sheet.generic |= {str(rng.choice(names["symptom"])), str(rng.choice(names["drug"]))}
    plan = [
        ("disease", "has_symptom", "symptom", 4), ("disease", "has_sign", "symptom", 1),
        ("disease", "has_lab_finding", "lab_finding", 2), ("disease", "caused_by", "gene", 1),
        ("disease", "caused_by", "pathogen", 1), ("disease", "caused_by", "disease", 1),
        ("disease", "inheritance", "mechanism", 1), ("disease", "has_risk_factor", "risk_factor", 1),
        ("disease", "diagnosed_by", "lab_test", 2), ("disease", "gold_standard_test", "lab_test", 1),
        ("disease", "has_complication", "disease", 1), ("disease", "has_complication", "symptom", 1),
        ("disease", "differential_of", "disease", 1), ("disease", "in_specialty", "specialty", 1),
        ("disease", "treated_with_drug", "drug", 3), ("disease", "treated_with_drug", "drug_class", 1),
        ("disease", "treated_by", "drug", 1), ("drug", "in_drug_class", "drug_class", 1),
        ("drug", "targets", "protein", 2), ("drug", "targets", "pathogen", 1),
        ("drug", "has_side_effect", "symptom", 2), ("drug", "contraindicated_in", "disease", 2),
        ("drug", "interacts_with", "drug", 1),
    ]  # fmt: skip
    for head_kind, relation, tail_kind, per_head in plan:
        for head in names[head_kind]:
            for tail in rng.choice(names[tail_kind], size=rng.integers(0, per_head + 2)):
                known = relation == "inheritance" and any(e[:2] == (head, relation) for e in sheet.edges)
                turned = RELATIONS[relation].symmetric and (str(tail), relation, head) in sheet.edges
                if tail != head and not turned:
                    sheet.edge(head, relation, str(tail), strong=not known and bool(rng.random() < 0.85))
    tree = [str(name) for name in rng.permutation(names["disease"])[:4]]
    sheet.edge(tree[0], "has_subtype", tree[1]).edge(tree[1], "has_subtype", tree[2], strong=False)
    sheet.edge(tree[0], "has_subtype", tree[3])
    one, other = rng.choice(names["drug"], size=2, replace=False)
    sheet.aliases[str(one)] = [str(other).upper()]
    return sheet.graph()


@pytest.fixture(scope="session")
def make_random_graph():
    return random_graph


@pytest.fixture(scope="session")
def sheet_graph():
    return Sheet().nodes("disease", "a", "b").edge("a", "differential_of", "b").graph()


@pytest.fixture(scope="session")
def embedded():
    return load_graph("embedded")


def uniform_weights(graph):
    return {kind: np.arange(1.0, 1 + (graph.types == at).sum()) for kind, at in TYPE_IDS.items()}


@pytest.fixture(scope="session")
def make_sources():
    def make(graph: Graph, seed=0, **settings):
        settings.setdefault("hub_quantile", 1.0)
        return Sources(graph, RodsSample(**settings), seed, uniform_weights(graph))

    return make
