"""Names as they stand in a sentence."""

import numpy as np
import pytest

from corl.rods.graph import from_tables
from corl.rods.graph.tables import Node, Tables
from corl.rods.wording import Surfaces, marks
from corl.rods.wording.surfaces import without_disambiguator


def surfaces(*nodes):
    graph = from_tables("g", Tables(nodes={node.name: node for node in nodes}))
    assert np.array_equal(graph.ids[nodes[0].name], 0)
    return graph, Surfaces(graph)


TITLED = [
    ("Abdominal pain", "symptom", "abdominal pain"),
    ("Kayser-Fleischer ring", "sign", "Kayser-Fleischer ring"),
    ("X-ray", "imaging", "X-ray"),
    ("HIV infection", "disease", "HIV infection"),
    ("Wilson's disease", "disease", "Wilson's disease"),
    ("Crohn disease", "disease", "Crohn disease"),
    ("Celiac disease", "disease", "celiac disease"),
    ("Kidney disease", "disease", "kidney disease"),  # the graph writes kidney small elsewhere,
    ("Chronic kidney failure", "disease", "chronic kidney failure"),
    ("Prion disease", "disease", "prion disease"),  # as is prion
    ("Sporadic prion change", "sign", "sporadic prion change"),
    ("Raynaud attack", "sign", "Raynaud attack"),  # and it capitalises Raynaud
    ("Secondary Raynaud change", "sign", "secondary Raynaud change"),
    ("Escherichia coli", "pathogen", "Escherichia coli"),
    ("BRCA1", "gene", "BRCA1"),
    ("Penicillamine", "drug", "penicillamine"),
    ("pH", "lab_test", "pH"),
    ("T wave inversion", "sign", "T wave inversion"),
    ("Candida (fungus)", "pathogen", "Candida"),
    ("Mercury (element)", "risk_factor", "mercury"),
    ("Liver", "anatomy", "the liver"),
    ("Hodgkin lymphoma", "disease", "Hodgkin lymphoma"),
]


@pytest.mark.parametrize("name, kind, wanted", TITLED, ids=[name for name, *_ in TITLED])
def test_titles_lose_their_capital_unless_it_is_a_names(name, kind, wanted):
    graph, made = surfaces(*(Node(n, k) for n, k, _ in TITLED))
    assert made.text(graph.ids[name], "en") == wanted


def test_a_graph_in_plain_case_is_left_alone():
    graph, made = surfaces(Node("Whipple triad of signs", "sign"), Node("fever", "symptom"), Node("gout", "disease"))
    assert made.text(0, "en") == "Whipple triad of signs"


def test_an_alias_stands_in_where_the_name_shares_a_word():
    node = Node("liver failure", "disease", aliases_en=("hepatic insufficiency", "failing organ"), name_zh="肝衰竭")
    graph, made = surfaces(node, Node("gout", "disease"))
    assert made.text(0, "en") == "liver failure"
    assert made.text(0, "en", marks("liver flap")) == "hepatic insufficiency"
    assert made.text(0, "en", marks("liver, hepatic, failing"), marks("liver hepatic")) == "failing organ"
    assert made.text(0, "en", marks("liver failing hepatic")) == "liver failure"
    assert made.text(0, "zh", marks("liver")) == "肝衰竭"


def test_without_a_chinese_name_the_english_one_stands():
    graph, made = surfaces(Node("gout", "disease"))
    assert made.text(0, "zh") == "gout"


@pytest.mark.parametrize(
    "text, short",
    [("Candida (fungus)", "Candida"), ("汞（元素）", "汞"), ("(only)", "(only)"), ("a (b) c", "a (b) c"), ("", "")],
)
def test_disambiguators_go(text, short):
    assert without_disambiguator(text) == short
