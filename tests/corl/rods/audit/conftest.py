"""A small graph with invented names, and a sound file of questions over it, made without the sampler.

Every group has five diseases, any two of which share a finding, so two findings single out a disease among four.
"""

import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from corl.rods.audit import AuditReport, audit_file
from corl.rods.graph import Graph, from_tables
from corl.rods.graph.tables import Edge, Node, Tables, read_tables

GROUPS, ROLES = 6, "ABCDX"
Record = dict[str, Any]


class Naming:
    """Words of six letters that share no start, Chinese names that share no character pair."""

    ONSETS = tuple("bdfgklmnprstvz")
    NUCLEI = tuple("aeiou")

    def __init__(self) -> None:
        self.made: dict[str, str] = {}

    def __call__(self, key: str) -> str:
        if key not in self.made:
            number = (len(self.made) * 2657) % 4900  # an odd stride through all pairs of syllables
            parts = [self.ONSETS[number % 14] + self.NUCLEI[number // 14 % 5]]
            parts += [self.ONSETS[number // 70 % 14] + self.NUCLEI[number // 980 % 5]]
            self.made[key] = "".join(parts) + "xqol"[len(self.made) % 3 :][:2]
        return self.made[key]

    def chinese(self, key: str) -> str:
        number = list(self.made).index(key)
        return chr(0x5F00 + 2 * number) + chr(0x5F01 + 2 * number)


def tables(name: Naming) -> Tables:
    made = Tables()

    def node(key: str, kind: str, rarity: str = "") -> str:
        word = name(key)
        if word not in made.nodes:
            made.nodes[word] = Node(word, kind, name.chinese(key), rarity, aliases_en=(word[::-1] + "ine",))
        return word

    def edge(head: str, relation: str, tail: str, strong: bool = True) -> None:
        key = (head, relation, tail)
        made.edges[key] = Edge(*key, strong)

    for g in range(GROUPS):
        for role in ROLES:
            disease = node(f"{role}{g}", "disease", "rare" if g % 3 else "common")
            drug, second = node(f"t{role}{g}", "drug"), node(f"u{role}{g}", "drug")
            edge(disease, "treated_with_drug", drug)
            edge(disease, "treated_with_drug", second)
            edge(disease, "has_lab_finding", node(f"l{role}{g}", "lab_finding"))
            edge(disease, "has_symptom", node(f"s{role}{g}", "symptom"))
            edge(drug, "has_side_effect", node(f"e{role}{g}", "symptom"))
            edge(drug, "in_drug_class", node(f"k{g}", "drug_class"))
            edge(second, "in_drug_class", node(f"n{g}", "drug_class"))
            edge(second, "contraindicated_in", node(f"r{g}", "risk_factor"))
        for first, second in combinations(ROLES, 2):
            finding = node(f"f{first}{second}{g}", "sign")
            edge(name(f"{first}{g}"), "has_sign", finding)
            edge(name(f"{second}{g}"), "has_sign", finding)
        for finding, holders in (("p", "ABDX"), ("q", "ABCX"), ("r", "ACD")):  # A against B: p and q shared, r not
            for role in holders:
                edge(name(f"{role}{g}"), "has_symptom", node(f"c{finding}{g}", "symptom"))
    return made


class Maker:
    """Questions by name; the right one is put where `letter` says."""

    def __init__(self, name: Naming, graph: Graph) -> None:
        self.name, self.graph, self.items = name, graph, []

    def add(self, shape: str, hops: int, clues: list[Record], options: list[str], kind: str, **more: Any) -> None:
        number = len(self.items)
        lang = "zh" if number % 4 == 3 else "en"
        named = [clue["node"] for clue in clues] + [more[k] for k in ("contrast",) if k in more]
        named += [more["excluded"]["node"]] if "excluded" in more else []
        shown = [self.graph.name_in(self.graph.ids[n], lang) for n in named]
        texts = [self.graph.name_in(self.graph.ids[self.name(key)], lang) for key in options]
        at = number * 3 % 4
        texts.insert(at, texts.pop(0))
        asked = more.get("asked")
        verb = f"{asked['relation']} {asked['direction']}" if asked else "it"
        listed = "、".join(shown) if lang == "zh" else "; ".join(shown)
        stem = f"现象{listed}。{shape}？" if lang == "zh" else f"{listed}. {verb} {shape}?"
        self.items.append(
            {
                "id": f"rods:small:{number:04d}",
                "source": "rods:small",
                "lang": lang,
                "context": None,
                "question": stem.replace("_", " "),
                "options": dict(zip("ABCD", texts, strict=True)),
                "answer": "ABCD"[at],
                "difficulty": None,
                "meta": {
                    "shape": shape,
                    "hops": hops,
                    "clues": clues,
                    "asked": None,
                    "excluded": None,
                    "contrast": None,
                    "answer_type": kind,
                    "proof": {"right": "whatever"},
                    "option_nodes": {},
                    "rare": True,
                    "graph": {"name": "small", "hash": self.graph.hash},
                    **more,
                },
            }
        )


def make_items(name: Naming, graph: Graph) -> list[Record]:
    maker = Maker(name, graph)

    def sign(first: str, second: str, g: int) -> Record:
        return {"path": [["has_sign", "out"]], "node": name(f"f{''.join(sorted(first + second))}{g}")}

    for g in range(GROUPS):
        a, b, c, d, x = ROLES[g % 5 :] + ROLES[: g % 5]
        drugs = {"relation": "treated_with_drug", "direction": "out"}
        maker.add("star", 1, [sign(a, b, g), sign(a, c, g)], [f"{r}{g}" for r in (a, b, c, d)], "disease")
        maker.add(
            "star_tail", 2, [sign(b, a, g), sign(b, c, g)], [f"t{r}{g}" for r in (b, a, c, d)], "drug", asked=drugs
        )
        path = [["treated_with_drug", "in"], ["has_symptom", "out"]]
        effect = {"relation": "has_side_effect", "direction": "out"}
        clue = {"path": path, "node": name(f"s{c}{g}")}
        maker.add("chain", 3, [clue], [f"e{r}{g}" for r in (c, a, b, x)], "symptom", asked=effect)
        clues = [{"path": [["has_symptom", "out"]], "node": name(f"c{k}{g}")} for k in "pqr"]
        lab = {"relation": "has_lab_finding", "direction": "out"}
        options = [f"l{r}{g}" for r in "ACDX"]
        maker.add("compare", 2, clues, options, "lab_finding", asked=lab, contrast=name(f"B{g}"))
        members = {"relation": "in_drug_class", "direction": "in"}
        other = (g + 1) % GROUPS
        options = [f"t{ROLES[other % 5]}{other}", *(f"t{r}{g}" for r in (a, b, c))]
        maker.add("exception", 1, [{"path": [], "node": name(f"k{g}")}], options, "drug", asked=members)
        barred = {"relation": "contraindicated_in", "direction": "out", "node": name(f"r{g}")}
        named = [{"path": [], "node": name(f"{x}{g}")}]
        options = [f"t{x}{g}", f"u{x}{g}", f"t{a}{g}", f"u{b}{g}"]
        maker.add("constraint", 2, named, options, "drug", asked=drugs, excluded=barred)
    return maker.items


def write_graph(made: Tables, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    nodes = ["name\ttype\tname_zh\trarity\tgeneric"]
    nodes += [f"{n.name}\t{n.type}\t{n.name_zh}\t{n.rarity}\t{int(n.generic)}" for n in made.nodes.values()]
    aliases = ["name\talias\tlang"]
    aliases += [f"{n.name}\t{alias}\ten" for n in made.nodes.values() for alias in n.aliases_en]
    edges = ["head\trelation\ttail\tstrength\tsource"]
    edges += [f"{e.head}\t{e.relation}\t{e.tail}\t{'S' if e.strong else 'W'}\tunsourced" for e in made.edges.values()]
    for file, lines in (("nodes", nodes), ("aliases", aliases), ("edges", edges)):
        (folder / f"{file}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


class World:
    """The graph, which a test may change, and the items, which it may too; `audit` reads both from files."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.name = folder, Naming()
        self.tables = tables(self.name)
        self.items = make_items(self.name, from_tables("small", self.tables))

    def of(self, shape: str, number: int = 0) -> Record:
        """The n-th item of a shape, to be changed in place."""
        return [item for item in self.items if item["meta"]["shape"] == shape][number]

    def add_edge(self, head: str, relation: str, tail: str, strength: str = "S") -> None:
        key = (self.name(head), relation, self.name(tail))
        self.tables.edges[key] = Edge(*key, strength == "S")

    def write(self) -> tuple[Path, Path]:
        """(items, graph folder); the items name the graph as it is now."""
        graph = write_graph(self.tables, self.folder / "small")
        digest = from_tables("small", read_tables(graph)).hash
        for item in self.items:
            if "graph" in item["meta"]:
                item["meta"]["graph"] = {"name": "small", "hash": digest}
        file = self.folder / "items.jsonl"
        file.write_text("".join(json.dumps(item, ensure_ascii=False) + "\n" for item in self.items), encoding="utf-8")
        return file, graph

    def audit(self) -> AuditReport:
        file, graph = self.write()
        return audit_file(file, str(graph))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def kinds() -> Callable[[AuditReport, str], set[str]]:
    """The kinds of finding that an item has."""
    return lambda report, item_id: {finding.kind for finding in report.findings if finding.id == item_id}
