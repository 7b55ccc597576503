"""Option texts: short where that names one node, whole where it would name two, none where even that does."""

from dataclasses import replace

import numpy as np

from corl.rods.graph import from_arrays
from corl.rods.sampling.naming import OptionNames

NONE = np.zeros(0, np.int64)
NAMES = ("Moss (plant)", "Moss (singer)", "Fern (plant)", "Reed", "Rush", "Sedge (grass)", "Plain")
CHINESE = ("苔（植物）", "", "蕨（植物）", "芦苇", "灯心草", "苔草", "芦苇")


def names() -> OptionNames:
    graph = from_arrays("g", NAMES, ["disease"] * 7, (NONE, NONE, NONE), names_zh=CHINESE)
    aliases = [(), (), (), ("rush",), (), ("Carex",), ()]
    return OptionNames(replace(graph, aliases_en=aliases))


def test_the_disambiguator_stays_where_the_name_needs_it() -> None:
    english, chinese = names().texts
    assert english == ["Moss (plant)", "Moss (singer)", "Fern", "Reed", "", "Sedge", "Plain"]  # Rush: an alias of Reed
    assert chinese == ["苔", "", "蕨", "", "灯心草", "苔草", ""]  # two nodes are called 芦苇


def row(graph_rows: dict) -> dict:
    return {
        "shape": "star",
        "entity": "Moss (plant)",
        "clues": [([("has_symptom", "out")], "Fern (plant)")],
    } | graph_rows


def test_questions_without_a_name_for_each_node_are_told_apart(hand_draws) -> None:
    class Ids:
        ids = {name: number for number, name in enumerate(NAMES)}

    good = {"answer": "Moss (plant)", "distractors": ["Fern (plant)", "Sedge (grass)"]}
    draws = hand_draws(
        Ids,
        row(good),
        row(good | {"lang": 1}),
        row(good | {"answer": "Rush"}),
        row(good | {"lang": 1, "contrast": "Moss (singer)"}),
        row(good | {"contrast": "Moss (singer)"}),
        row(good | {"lang": 1, "via": [1, -1]}),
        row(good | {"lang": 1, "distractors": ["Fern (plant)", "Moss (singer)"]}),
    )
    options, chinese = names().worded(draws)
    assert options.tolist() == [True, True, False, True, True, True, False]
    assert chinese.tolist() == [True, True, True, False, True, False, False]
