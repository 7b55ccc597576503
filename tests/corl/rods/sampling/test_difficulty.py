"""Scores by the formula, tiers by the cut points or by pass rates."""

import math
from dataclasses import replace

import numpy as np
import pytest

from corl.config.rods import Difficulty
from corl.curriculum.pool import Pool
from corl.data.items import Item
from corl.rods.graph import load_graph
from corl.rods.sampling.difficulty import pool_pass_rates, retier, scores, tier_from_pass_rate

GRAPH = load_graph("embedded")
SYMPTOM, TREATED = ("has_symptom", "out"), ("treated_with_drug", "out")
STAR = {
    "shape": "star",
    "entity": "Addison disease",
    "clues": [([SYMPTOM], "salt craving"), ([SYMPTOM], "weight loss")],
    "answer": "Addison disease",
    "distractors": ["gout", "Wilson disease", "acromegaly"],
    "satisfied": [0, 2, 0],
}
TAIL = STAR | {"shape": "star_tail", "asked": TREATED, "answer": "fludrocortisone"}
CHAIN = STAR | {
    "shape": "chain",
    "entity": "fludrocortisone",
    "clues": [([("treated_with_drug", "in"), SYMPTOM], "salt craving")],
    "asked": ("has_side_effect", "out"),
    "answer": "hypertension" if "hypertension" in GRAPH.ids else "high blood pressure",
    "satisfied": [1, 1, 1],
}
NAMED = STAR | {"shape": "exception", "clues": [([], "gout")], "asked": TREATED, "answer": "allopurinol"}
NONE, ZERO = np.zeros(len(GRAPH), bool), np.zeros(len(GRAPH))


def parts_of(hand_draws, *rows, rare=NONE, rarity=ZERO):
    return scores(GRAPH, Difficulty(), hand_draws(GRAPH, *rows), rare, rarity)


def test_hops_and_masks_count_from_the_farthest_clue_to_the_answer(hand_draws):
    deep = CHAIN | {"clues": [([("in_drug_class", "in"), ("treated_with_drug", "in"), SYMPTOM], "salt craving")]}
    _, parts, _ = parts_of(hand_draws, STAR, TAIL, CHAIN, deep, NAMED)
    assert parts["hops"].tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1, 0])
    assert parts["masked"].tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1, 0])


def test_closeness_is_the_best_wrong_options_share_of_two_clues_or_more(hand_draws):
    rows = [STAR, STAR | {"satisfied": [0, 0, 0]}, CHAIN, NAMED | {"satisfied": [1, 1, 1]}]
    _, parts, _ = parts_of(hand_draws, *rows)
    assert parts["closeness"].tolist() == [0.5, 0, 0, 0]


def test_obscurity_follows_the_most_telling_clue(hand_draws):
    rows = [STAR, STAR | {"clues": [([SYMPTOM], "weight loss")]}, NAMED]
    _, parts, _ = parts_of(hand_draws, *rows)
    told = {name: len(GRAPH.tails_of(name, "has_symptom", "in")) for name in ("salt craving", "weight loss")}
    assert told["weight loss"] > told["salt craving"] >= 1
    wanted = [math.log(told[name]) / math.log(len(GRAPH)) for name in ("salt craving", "weight loss")]
    assert parts["obscurity"].tolist() == pytest.approx([wanted[0], wanted[1], 0.0])


def test_rarity_is_the_answers(hand_draws):
    rarity, rare = ZERO.copy(), NONE.copy()
    rarity[GRAPH.ids["Addison disease"]] = 0.2
    _, parts, _ = parts_of(hand_draws, STAR, TAIL, rarity=rarity)
    assert parts["rarity"].tolist() == [0.2, 0]
    rare[GRAPH.ids["Addison disease"]] = True
    _, parts, _ = parts_of(hand_draws, STAR, rarity=rarity, rare=rare)
    assert parts["rarity"].tolist() == [0.5]


def test_the_score_is_the_weighted_sum_and_the_cut_points_are_the_settings(hand_draws):
    draws = hand_draws(GRAPH, STAR, TAIL, CHAIN)
    rarity = np.linspace(0, 1, len(GRAPH))
    points, parts, tiers = scores(GRAPH, Difficulty(), draws, NONE, rarity)
    weights = {"hops": 0.3, "masked": 0.15, "rarity": 0.25, "closeness": 0.2, "obscurity": 0.1}
    assert points.tolist() == pytest.approx(sum(parts[name] * weight for name, weight in weights.items()).tolist())
    assert all(((values >= 0) & (values <= 1)).all() for values in [*parts.values(), points])
    cut = replace(Difficulty(), moderate_from=float(points[1]), difficult_from=float(np.nextafter(points[1], 2)))
    again = scores(GRAPH, cut, draws, NONE, rarity)[2]
    assert again[1] == 1
    exactly = replace(Difficulty(), moderate_from=0.0, difficult_from=float(points[1]))
    assert scores(GRAPH, exactly, draws, NONE, rarity)[2][1] == 2
    assert [int(p >= cut.moderate_from) + int(p >= cut.difficult_from) for p in points] == again.tolist()
    assert set(tiers.tolist()) <= {0, 1, 2}


def test_one_clue_is_never_difficult_for_being_one(hand_draws):
    """Whatever the wrong options share, a named entity with everything else at its highest stays below the cut."""
    _, _, tiers = parts_of(hand_draws, NAMED | {"satisfied": [1, 1, 1]}, rarity=ZERO + 1, rare=~NONE)
    assert tiers.tolist() == [0]


@pytest.mark.parametrize(
    "rate, tier",
    [(1, "easy"), (0.8, "easy"), (0.79, "moderate"), (0.2, "moderate"), (0.19, "difficult"), (0, "difficult")],
)
def test_tiers_from_pass_rates(rate, tier):
    assert tier_from_pass_rate(rate) == tier


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_what_is_no_rate_is_refused(rate):
    with pytest.raises(ValueError, match="pass rate"):
        tier_from_pass_rate(rate)


def item(name, tier="moderate"):
    meta = {"difficulty": {"score": 0.4, "tier": tier, "method": "formula"}, "shape": "star"}
    return Item(name, "rods:g", "en", None, "Which?", {"A": "x", "B": "y"}, "A", tier, meta)


def test_attempted_items_get_the_tier_of_their_rate():
    kept, hard = retier([item("a"), item("b")], {"b": 0.1})
    assert kept == item("a")
    assert hard.difficulty == "difficult"
    assert hard.meta["difficulty"] == {
        "score": 0.4, "tier": "difficult", "method": "pass_rate", "pass_rate": 0.1, "formula_tier": "moderate",
    }  # fmt: skip
    again = retier([hard], {"b": 0.9})[0]
    assert (again.difficulty, again.meta["difficulty"]["formula_tier"]) == ("easy", "moderate")
    assert item("b").meta["difficulty"]["tier"] == "moderate"  # the given item is left alone


def test_rates_are_read_from_the_pool_of_a_checkpoint(tmp_path):
    items = [item(name) for name in "abc"]
    pool = Pool(items)
    pool.observe("a", 0, 4, 4, 10.0)
    pool.observe("b", 0, 4, 4, 10.0)
    pool.observe("b", 3, 4, 1, 10.0)
    np.savez(tmp_path / "pool.npz", **pool.state())
    assert pool_pass_rates(tmp_path / "pool.npz") == {"a": 1.0, "b": 0.25}
    assert [one.difficulty for one in retier(items, pool_pass_rates(tmp_path / "pool.npz"))] == [
        "easy", "moderate", "moderate",
    ]  # fmt: skip


@pytest.mark.parametrize("content", [None, b"not an archive"], ids=["missing", "text"])
def test_what_is_no_pool_is_refused(tmp_path, content):
    path = tmp_path / "pool.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match="no pool"):
        pool_pass_rates(path)


def test_an_archive_without_a_log_is_refused(tmp_path):
    np.savez(tmp_path / "pool.npz", other=np.zeros(2))
    with pytest.raises(ValueError, match="no pool"):
        pool_pass_rates(tmp_path / "pool.npz")
