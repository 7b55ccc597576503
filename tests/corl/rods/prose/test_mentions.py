"""Names of a graph in running text."""

import pytest

from corl.rods.graph import from_tables
from corl.rods.graph.tables import Node, Tables
from corl.rods.prose.mentions import Mentions


@pytest.fixture(scope="module")
def mentions() -> Mentions:
    nodes = [
        Node("Wilson disease", "disease", "肝豆状核变性", aliases_en=("hepatolenticular degeneration", "WD")),
        Node("tremor", "symptom", "震颤"),
        Node("essential tremor", "disease", "原发性震颤"),
        Node("acute lymphoblastic leukemia", "disease", "急性淋巴细胞白血病", aliases_en=("ALL",)),
        Node("seizure", "symptom", "癫痫发作"),
        Node("Mercury (element)", "risk_factor", "汞"),
        Node("Mercury (drug)", "drug", "汞剂"),
    ]
    return Mentions(from_tables("g", Tables(nodes={node.name: node for node in nodes})))


def found(mentions: Mentions, text: str) -> list[tuple[int, ...]]:
    return [mention.nodes for mention in mentions.find(text)]


def test_the_longest_name_wins_and_none_stands_inside_another(mentions) -> None:
    assert found(mentions, "Essential tremor, not a tremor of Wilson disease.") == [(2,), (1,), (0,)]
    assert found(mentions, "原发性震颤与肝豆状核变性的震颤") == [(2,), (0,), (1,)]


def test_plural_case_and_aliases_make_no_difference(mentions) -> None:
    assert found(mentions, "SEIZURES in Hepatolenticular  degeneration") == [(4,), (0,)]


def test_parts_of_words_are_no_mentions(mentions) -> None:
    assert found(mentions, "tremorous, a Wilsonian disease") == []


def test_an_acronym_counts_where_it_is_written_so(mentions) -> None:
    assert found(mentions, "all seizures") == [(4,)] and found(mentions, "ALL and WD") == [(3,), (0,)]


def test_an_ambiguous_name_means_all_its_nodes(mentions) -> None:
    assert found(mentions, "mercury") == [(5, 6)] and mentions.nodes_named("Mercury (drug)") == (6,)
