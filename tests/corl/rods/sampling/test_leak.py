"""What gives an answer away by its look, and what does not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corl.rods.graph import from_tables, load_graph
from corl.rods.graph.tables import Node, Tables
from corl.rods.sampling.leak import Leaks


def graph_of(*nodes):
    return from_tables("g", Tables(nodes={node.name: node for node in nodes}))


def leak(first, second):
    """Whether two nodes give each other away; asserts that the order makes no difference."""
    graph = graph_of(first, second)
    told = Leaks(graph).pairs(np.array([0, 1]), np.array([1, 0])).tolist()
    assert told[0] == told[1]
    return told[0]


def named(name, *aliases, zh="", aliases_zh=()):
    return Node(name, "disease", name_zh=zh, aliases_en=tuple(aliases), aliases_zh=tuple(aliases_zh))


TOLD = [
    ("stem", named("candida"), named("oral candidiasis")),
    ("stem of an alias", named("fungus", "Candida albicans"), named("thrush", "candidiasis")),
    ("british spelling", named("haemin"), named("pigment", "hemin")),
    ("word inside a word", named("splenomegaly"), named("hepatosplenomegaly")),
    ("runs of four", named("pancytopenia"), named("thrombocytopenia")),
    ("short name whole", named("iron"), named("iron overload")),
    ("short name among others", named("low TB load"), named("TB")),
    ("acronym and initials", named("positive PNH clone"), named("paroxysmal nocturnal hemoglobinuria")),
    ("initials inside", named("old human immunodeficiency virus load"), named("a state", "HIV")),
    ("two acronyms", named("IGA deposits"), named("nephropathy with IGA")),
    ("hyphenated initials", named("X of MEN"), named("multiple endocrine-neoplasia")),
    ("chinese pair", named("aa", zh="肝豆状核"), named("bb", zh="豆状病变")),
    (
        "chinese alias",
        named("aa", zh="甲", aliases_zh=("震颤麻痹",)),
        named("bb", zh="帕金森", aliases_zh=("麻痹综合征",)),
    ),
    ("latin in a chinese name", named("aa", zh="HLA-B27阳性"), named("bb", zh="HLA抗原病")),
    ("short chinese name whole", named("aa", zh="胃炎"), named("bb", zh="慢性胃炎")),
    ("longer than a prefix", named("hypertensive crisis"), named("hypertension")),
    ("accents", named("Sjögren"), named("sjogrens")),
]
SILENT = [
    ("generic words", named("acute chronic disease of blood"), named("acute deficiency syndrome, blood type")),
    ("generic prefix", named("hyperkalemia"), named("hyperthyroidism")),
    ("four letters", named("cold hand"), named("cold sore".replace("cold", "cola"))),
    ("small words", named("pain in the arm"), named("state of the art")),
    ("common ending", named("neutropenia"), named("osteopenia")),
    ("chinese generic", named("aa", zh="慢性肾炎"), named("bb", zh="慢性肝病")),
    ("chinese single", named("aa", zh="胃痛"), named("bb", zh="胃癌")),
    ("lower case is no acronym", named("met need"), named("much early trouble")),
]


@pytest.mark.parametrize("first, second", [row[1:] for row in TOLD], ids=[row[0] for row in TOLD])
def test_told(first, second):
    assert leak(first, second)


@pytest.mark.parametrize("first, second", [row[1:] for row in SILENT], ids=[row[0] for row in SILENT])
def test_silent(first, second):
    assert not leak(first, second)


def test_a_disambiguator_is_not_in_the_text():
    assert not leak(named("Mercury (planetary)"), named("planetary motion"))


def test_a_node_gives_itself_away_and_nothing_gives_nothing_away():
    leaks = Leaks(graph_of(named("gout"), named("lupus")))
    assert leaks.pairs(np.array([0, -1, 0, -1]), np.array([0, 0, -1, -1])).tolist() == [True, False, False, False]


def test_every_named_node_counts(hand_draws):
    graph = graph_of(
        named("tremor"), named("copper"), named("copperitis"), *[Node(f"{c}ache", "disease") for c in "bcd"],
        Node("calm", "drug"),
    )  # fmt: skip
    base = {"shape": "star", "entity": "copperitis", "answer": "copperitis", "distractors": ["bache", "cache", "dache"]}
    step = ("has_symptom", "out")
    clean = base | {"clues": [([step], "tremor")]}
    rows = [
        clean,
        base | {"clues": [([step], "tremor"), ([step], "copper")]},
        clean | {"contrast": "copper"},
        clean | {"excluded": (("contraindicated_in", "out"), "copper")},
    ]
    draws = hand_draws(graph, *rows)
    leaks = Leaks(graph)
    assert leaks.leaking(draws).tolist() == [False, True, True, True]


def test_an_answer_of_generic_words_alone_leaks(hand_draws):
    graph = graph_of(named("acute disease"), named("tremor"), *[named(n) for n in ("gout", "mumps", "lupus")])
    row = {"shape": "star", "entity": "acute disease", "clues": [([("has_symptom", "out")], "tremor")]}
    row |= {"answer": "acute disease", "distractors": ["gout", "mumps", "lupus"]}
    assert Leaks(graph).leaking(hand_draws(graph, row)).all()
    other = row | {"entity": "gout", "answer": "gout", "distractors": ["acute disease", "mumps", "lupus"]}
    assert not Leaks(graph).leaking(hand_draws(graph, other)).any()


def test_a_whole_text_is_looked_at_too():
    leaks = Leaks(graph_of(named("Wilson disease", "hepatolenticular degeneration", zh="肝豆状核变性"), named("gout")))
    assert leaks.in_text("Which disease lies behind hepatolenticular change?", 0)
    assert leaks.in_text("它与豆状核有关？", 0)
    assert not leaks.in_text("Which disease comes with tremor?", 0)
    assert leaks.in_text("Is it gout?", 1)
    inside = Leaks(graph_of(named("selalike rash")))
    assert inside.in_text("Not gout, which looks much alike, is meant.", 0)
    assert not inside.in_text("Not gout, which is close to it, is meant.", 0)
    spelled = Leaks(graph_of(named("immune low platelets", "ITP")))
    assert not spelled.in_text("Which illness turns purple?", 0)
    assert spelled.in_text("Is ITP meant?", 0)


words = st.text("abcdeHIVS -(）病症状核豆0é", max_size=12)
nodes = st.builds(
    lambda name, zh, aliases, more: named(f"n{name}", *aliases, zh=zh, aliases_zh=more),
    words, words, st.lists(words, max_size=3), st.lists(words, max_size=2),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(nodes, min_size=2, max_size=5, unique_by=lambda node: node.name))
def test_any_names_are_read_and_order_never_matters(made):
    graph = graph_of(*made)
    one, other = np.divmod(np.arange(len(made) ** 2), len(made))
    leaks = Leaks(graph)
    told = leaks.pairs(one, other).reshape(len(made), -1)
    assert (told == told.T).all() and told.diagonal().all()
    assert (told == Leaks(graph).pairs(other, one).reshape(len(made), -1).T).all()


def test_real_facts_of_the_embedded_graph():
    graph = load_graph("embedded")
    leaks = Leaks(graph)

    def told(a, b):
        return bool(leaks.pairs(np.array([graph.ids[a]]), np.array([graph.ids[b]]))[0])

    assert told("tuberculosis", "Mycobacterium tuberculosis")
    assert told("liver", "liver disease")
    assert not told("Kayser-Fleischer ring", "Wilson disease")
    assert not told("salt craving", "Addison disease")
    assert not told("weight loss", "tuberculosis")
