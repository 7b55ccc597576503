"""The embedded teaching graph keeps its promises: see corl/rods/embedded/README.md."""

import hashlib
import re
import unicodedata
from collections import Counter
from pathlib import Path

import pytest

from corl.rods import graph as graph_package
from corl.rods.graph import FINDINGS, NODE_TYPES, RELATIONS, UNSOURCED, Edge, Tables, read_tables

ROOT = Path(__file__).resolve().parents[3]
FOLDER = Path(graph_package.__file__).resolve().parents[1] / "embedded"
PAGES = ROOT.parent / "shared" / "data" / "wiki"
FINDING_RELATIONS = ("has_symptom", "has_sign", "has_lab_finding", "has_imaging_finding")
NUMBERED = re.compile(rf"(node|entity|{'|'.join(NODE_TYPES)})?[ _-]*\d+", re.IGNORECASE)
HAN = re.compile(r"[\u4e00-\u9fff]")
GENE_CAUSE_WITHOUT_PATTERN = {  # a gene stands among the causes, but the disease as such is not handed down
    "paroxysmal nocturnal hemoglobinuria",  # acquired in the marrow
    "chronic myeloid leukemia",  # likewise
}


@pytest.fixture(scope="module")
def tables() -> Tables:
    return read_tables(FOLDER)


@pytest.fixture(scope="module")
def diseases(tables: Tables) -> list[str]:
    return [name for name, node in tables.nodes.items() if node.type == "disease"]


def edges_of(tables: Tables, *relations: str, strong: bool = False) -> list[Edge]:
    return [e for e in tables.edges.values() if e.relation in relations and (e.strong or not strong)]


def findings(tables: Tables, *, strong: bool) -> dict[str, frozenset[str]]:
    """Findings of each disease."""
    found: dict[str, set[str]] = {}
    for edge in edges_of(tables, *FINDING_RELATIONS, strong=strong):
        if tables.nodes[edge.tail].type in FINDINGS:
            found.setdefault(edge.head, set()).add(edge.tail)
    return {head: frozenset(tails) for head, tails in found.items()}


def raw_rows(name: str) -> list[list[str]]:
    return [line.split("\t") for line in (FOLDER / name).read_text(encoding="utf-8").splitlines()[1:]]


def test_as_large_as_it_says(tables: Tables, diseases: list[str]) -> None:
    assert 95 <= len(diseases) <= 110
    strong = Counter(edge.relation for edge in tables.edges.values() if edge.strong)
    assert sum(count >= 40 for count in strong.values()) >= 12
    assert set(strong) <= set(RELATIONS)


def test_every_disease_has_a_profile(tables: Tables, diseases: list[str]) -> None:
    clinical: Counter[str] = Counter()
    for edge in tables.edges.values():
        if edge.strong and edge.relation != "in_specialty":
            ends = (edge.head, edge.tail) if RELATIONS[edge.relation].symmetric else (edge.head,)
            clinical.update(end for end in ends if tables.nodes[end].type == "disease")
    assert [name for name in diseases if clinical[name] < 8] == []


def test_every_disease_shares_findings_with_two_others(tables: Tables, diseases: list[str]) -> None:
    found = findings(tables, strong=False)
    kin = {a: [b for b in diseases if a != b and len(found[a] & found[b]) >= 2] for a in diseases}
    assert [name for name in diseases if len(kin[name]) < 2] == []


def test_no_two_diseases_have_the_same_findings(tables: Tables, diseases: list[str]) -> None:
    for strong in (True, False):
        found = findings(tables, strong=strong)
        assert [n for n, c in Counter(found[name] for name in diseases).items() if c > 1] == []


def test_each_disease_has_a_finding_that_its_differential_has_not_even_weakly(tables: Tables) -> None:
    strong, known = findings(tables, strong=True), findings(tables, strong=False)
    pairs = [(e.head, e.tail) for e in edges_of(tables, "differential_of", strong=True)]
    alike = [(a, b) for pair in pairs for a, b in (pair, pair[::-1]) if not strong[a] - known[b]]
    assert alike == []


def test_names_are_terms_in_running_text(tables: Tables) -> None:
    for name, node in tables.nodes.items():
        assert name.isascii(), name
        assert not re.search(r"[.:?<>;|,()\"_]", name), name
        assert not NUMBERED.fullmatch(name), f"{name!r} is a number, not a term"
        assert name == " ".join(name.split()), name
        assert node.name_zh == unicodedata.normalize("NFC", node.name_zh), name
    assert len({name.lower() for name in tables.nodes}) == len(tables.nodes)


def test_every_node_has_a_chinese_name_of_its_own(tables: Tables) -> None:
    nodes = list(tables.nodes.values())
    assert [node.name for node in nodes if not HAN.search(node.name_zh)] == []
    assert [zh for zh, count in Counter(node.name_zh for node in nodes).items() if count > 1] == []
    assert [node.name for node in nodes if re.search(r"[@#\s?<>|;,]", node.name_zh.replace(" ", "", 2))] == []


def test_no_finding_bears_the_name_of_its_disease(tables: Tables) -> None:
    named = []
    for edge in edges_of(tables, *FINDING_RELATIONS, strong=True):
        disease, finding = tables.nodes[edge.head], tables.nodes[edge.tail]
        names = (disease.name, *(alias for alias in disease.aliases_en if len(alias) > 3))
        zh = (disease.name_zh, *(alias for alias in disease.aliases_zh if len(alias) > 2))
        if any(name.lower() in finding.name.lower() for name in names) or any(name in finding.name_zh for name in zh):
            named.append((edge.head, edge.tail))
    assert named == []


def test_aliases_name_one_node(tables: Tables) -> None:
    nodes = tables.nodes.values()
    aliases = Counter(alias.lower() for node in nodes for alias in (*node.aliases_en, *node.aliases_zh))
    assert [alias for alias, count in aliases.items() if count > 1] == []
    names = {node.name.lower() for node in nodes} | {node.name_zh.lower() for node in nodes}
    assert sorted(names & set(aliases)) == []
    assert all(HAN.search(alias) for node in nodes for alias in node.aliases_zh)
    assert not any(HAN.search(alias) for node in nodes for alias in node.aliases_en)


def test_no_drug_treats_what_it_is_contraindicated_in(tables: Tables) -> None:
    against = {(e.tail, e.head) for e in edges_of(tables, "contraindicated_in")}
    for_it = {(e.head, e.tail) for e in edges_of(tables, "treated_with_drug", "treated_by", "prevented_by")}
    assert sorted(against & for_it) == []


def test_first_line_stands_on_strong_drug_edges_only(tables: Tables) -> None:
    first = [edge for edge in tables.edges.values() if edge.first_line]
    assert len(first) >= 80
    assert [e for e in first if e.relation != "treated_with_drug" or not e.strong] == []


def test_functional_relations_are_single(tables: Tables) -> None:
    functional = [name for name, rule in RELATIONS.items() if rule.functional]
    tails = Counter((e.head, e.relation) for e in edges_of(tables, *functional))
    assert [head for head, count in tails.items() if count > 1] == []


def test_every_edge_and_node_stands_once() -> None:
    edges = raw_rows("edges.tsv")
    keys = [
        (*sorted((head, tail)), relation) if RELATIONS[relation].symmetric else (head, tail, relation)
        for head, relation, tail, *_ in edges
    ]
    assert [key for key, count in Counter(keys).items() if count > 1] == []
    used = {name for head, _, tail, *_ in edges for name in (head, tail)}
    assert [row[0] for row in raw_rows("nodes.tsv") if row[0] not in used] == []


def test_one_gene_means_a_stated_inheritance(tables: Tables, diseases: list[str]) -> None:
    """Where the strong causes are genes and nothing else, the pattern of inheritance is stated, and nowhere else."""
    causes: dict[str, set[str]] = {}
    for edge in edges_of(tables, "caused_by", strong=True):
        causes.setdefault(edge.head, set()).add(tables.nodes[edge.tail].type)
    genetic = {name for name in diseases if causes.get(name) == {"gene"}} - GENE_CAUSE_WITHOUT_PATTERN
    stated = {edge.head for edge in edges_of(tables, "inheritance")}
    assert len(genetic) >= 20
    assert genetic ^ stated == set()


def test_rarity_is_stated(tables: Tables, diseases: list[str]) -> None:
    rarities = Counter(tables.nodes[name].rarity for name in diseases)
    assert rarities[""] == 0
    assert rarities["rare"] >= 35
    assert not any(node.rarity for node in tables.nodes.values() if node.type != "disease")


def test_every_source_has_the_form_that_is_promised(tables: Tables) -> None:
    sources = {edge.source for edge in tables.edges.values()} - {UNSOURCED}
    assert sources
    assert [source for source in sources if not re.fullmatch(r"[A-Z][\w ]*@(\d{6,}|[0-9a-f]{16})", source)] == []


@pytest.mark.skipif(not PAGES.is_dir(), reason="the pages are not beside the checkout")
def test_sourced_facts_come_from_the_revision_they_name(tables: Tables) -> None:
    pages = {}
    for path in PAGES.glob("*.wiki"):
        text = path.read_text(encoding="utf-8")
        revision = hashlib.sha256(text.encode()).hexdigest()[:16]
        pages[f"{path.stem.removeprefix('en_mdwiki_').replace('_', ' ')}@{revision}"] = text
    for path in PAGES.glob("*.xml"):
        for page in re.findall(r"<page>.*?</page>", path.read_text(encoding="utf-8"), re.DOTALL):
            for title, revision in re.findall(r"<title>(.*?)</title>.*?<revision>\s*<id>(\d+)</id>", page, re.DOTALL):
                pages[f"{title}@{revision}"] = page
    for edge in tables.edges.values():
        if edge.source == UNSOURCED:
            continue
        assert edge.source in pages, f"no page is {edge.source}"
        text = " ".join(pages[edge.source].lower().split())
        ends = [tables.nodes[end] for end in (edge.head, edge.tail)]
        names = [name.lower() for node in ends for name in (node.name, *node.aliases_en)]
        assert any(re.search(rf"\b{re.escape(name)}\b", text) for name in names), edge
