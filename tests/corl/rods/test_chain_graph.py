"""Every chain of the demo goes through, and holds what the embedded graph holds."""

from collections import Counter

from corl.rods.chain_graph import FINDING_RELATIONS, PER_ROLE, ROLES, chain_graph
from corl.rods.graph import load_graph

GRAPH = chain_graph()


def test_every_role_is_there_in_number() -> None:
    counts = Counter(GRAPH.roles.values())
    assert list(counts) == list(ROLES)
    assert all(PER_ROLE / 2 < count <= PER_ROLE for count in counts.values())
    assert set(GRAPH.roles) < set(chain_graph(1000).roles) and len(chain_graph(1000).roles) > 500


def test_every_name_has_every_fact_that_its_place_in_the_chain_needs() -> None:
    for name, role in GRAPH.roles.items():
        assert GRAPH.tails(name) or role == ROLES[-1], name
        assert GRAPH.heads(name) or role == ROLES[0], name


def test_every_fact_is_a_strong_one_of_the_graph() -> None:
    graph = load_graph("embedded")
    between = {"finding": FINDING_RELATIONS, "disease": ("treated_with_drug",), "drug": ("has_side_effect",)}
    for head, tail in GRAPH.edges:
        role = GRAPH.roles[head]
        assert ROLES.index(GRAPH.roles[tail]) == ROLES.index(role) + 1
        start, end = (tail, head) if role == "finding" else (head, tail)
        assert any(end in graph.tails_of(start, relation, strong=True) for relation in between[role]), (head, tail)
    assert (GRAPH.name, GRAPH.hash) == ("embedded", graph.hash)


def test_no_name_is_part_of_another_and_all_are_plain_text() -> None:
    names = sorted(GRAPH.roles)
    assert not [(a, b) for a in names for b in names if a in b and a != b]
    assert all(name.isascii() and not name.isdigit() for name in names)


def test_reach_follows_facts_forwards() -> None:
    graph = chain_graph(1000)
    drugs = {drug for disease in graph.tails("Kayser-Fleischer ring") for drug in graph.tails(disease)}
    assert graph.reach("Kayser-Fleischer ring", 1) == {"Wilson disease"}
    assert graph.reach("Kayser-Fleischer ring", 2) == drugs != set()
    assert graph.reach("Kayser-Fleischer ring", 4) == set()
