"""The choice of wrong options: valid, close, and telling nothing of the answer."""

import numpy as np
import pytest

from corl.config.rods import Shapes
from corl.rods.graph import load_graph
from corl.rods.sampling.draws import SHAPES, Draws
from corl.rods.sampling.options import FEATURES, Pool, choose, gold_ranks, option_features
from corl.rods.sampling.shapes import draw_questions


def pool_of(nodes, cover, closeness=None):
    nodes, cover = np.array(nodes), np.array(cover)
    close = np.zeros(nodes.shape) if closeness is None else np.array(closeness, float)
    return Pool(nodes, nodes + 100, cover, cover, close)


@pytest.fixture
def drugs(sheet):
    for i in range(12):
        sheet.nodes("drug", "d" * (i + 1))
    return sheet


def pick(sources, pool, required, count=None, answers=None):
    size = len(pool.nodes) if count is None else count
    rows = np.arange(size)
    answers = np.zeros(size, np.int64) if answers is None else answers
    if count is not None:
        pool = pool.take(np.zeros(count, np.int64))
    return choose(sources, "test", rows, np.zeros(size, np.int64), answers, pool, np.full(size, required))


def test_cover_is_complete(drugs, make_sources):
    """One candidate alone gives bit 2, and only one pair of the others gives bits 0 and 1."""
    sources = make_sources(drugs.graph())
    pool = pool_of([[1, 2, 3, 4, 5, 6, 7, 8]], [[4, 0, 0, 0, 1, 0, 2, 0]])
    chosen, valid = pick(sources, pool, 7, 200)
    assert valid.all()
    assert (np.sort(chosen.nodes, 1) == [1, 5, 7]).all()
    assert (chosen.via == chosen.nodes + 100).all()
    assert (np.sort(chosen.satisfied, 1) == [1, 2, 4]).all()
    chosen, valid = pick(sources, pool, 8, 20)
    assert not valid.any()
    chosen, valid = pick(sources, pool, 0, 200)
    assert valid.all()
    assert len(np.unique(chosen.nodes)) == 8


def test_too_few_candidates(drugs, make_sources):
    sources = make_sources(drugs.graph())
    _, valid = pick(sources, pool_of([[1, 2, 3, -1], [1, 2, -1, -1], [-1, -1, -1, -1]], np.zeros((3, 4), int)), 0)
    assert valid.tolist() == [True, False, False]


def test_no_two_alike(drugs, make_sources):
    drugs.aliases["dd"] = ["DDD"]
    sources = make_sources(drugs.graph())
    chosen, valid = pick(sources, pool_of([[1, 2, 3, 4]], [[0, 0, 0, 0]]), 0, 100)
    taken = chosen.nodes[valid]
    assert len(taken)
    assert not ((taken == 1).any(1) & (taken == 2).any(1)).any()
    assert not valid.all()


def test_close_ones_are_preferred(drugs, make_sources):
    sources = make_sources(drugs.graph())
    nodes = [[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]]
    close = [[node in (2, 5, 8) for node in nodes[0]]]
    chosen, _ = pick(sources, pool_of(nodes, np.zeros((1, 11), int), close), 0, 300)
    assert np.isin(chosen.nodes, [2, 5, 8]).mean() > 0.35  # 3 of 11 by chance


def test_ranks_follow_targets(drugs, make_sources):
    """With candidates on both sides every rank comes about as often."""
    sources = make_sources(drugs.graph())
    pool = pool_of([[node for node in range(12) if node != 6]], np.zeros((1, 11), int))
    answers = np.full(2000, 6)
    chosen, valid = pick(sources, pool, 0, 2000, answers)
    assert valid.all()
    shares = np.bincount((chosen.nodes < 6).sum(1), minlength=4) / 2000
    assert (np.abs(shares - 0.25) < 0.08).all()


def test_features(drugs):
    drugs.nodes("disease", "a rare disease").edge("a rare disease", "treated_with_drug", "d", "dd")
    drugs.aliases["d"] = ["one", "two"]
    graph = drugs.graph()
    graph.rarity[graph.ids["a rare disease"]] = 2
    table = option_features(graph, "en")
    assert table.shape == (len(graph), len(FEATURES))
    assert table[graph.ids["a rare disease"]].tolist() == [14, 3, 2, 0, 1.0]
    assert table[graph.ids["d"]].tolist() == [1, 1, 1, 2, 1.0]
    assert table[graph.ids["ddd"]].tolist()[2:] == [0, 0, 0.5]
    zh = option_features(load_graph("embedded"), "zh")
    assert (zh[:, 0] < option_features(load_graph("embedded"), "en")[:, 0]).mean() > 0.9


def test_gold_ranks(drugs, make_sources):
    """0 lowest; among equals every place as likely, and the same one whenever asked."""
    sources = make_sources(drugs.graph())
    size = 400
    some = {name: np.full(size, -1) for name in Draws.__slots__}
    some |= {"index": np.arange(size), "lang": np.zeros(size, int), "answer": np.full(size, 5)}
    draws = Draws(**some | {"distractors": np.tile([2, 9, 3], (size, 1))})
    ranks = gold_ranks(sources, draws)
    length, words = FEATURES.index("length"), FEATURES.index("words")
    assert (ranks[:, length] == 2).all()
    assert set(ranks[:, words].tolist()) == {0, 1, 2, 3}
    assert (np.bincount(ranks[:, words]) > size / 8).all()
    assert np.array_equal(gold_ranks(sources, draws.take(np.arange(7, 90))), ranks[7:90])


def test_options_do_not_betray_the_answer(embedded, make_sources):
    """Every rank of the answer about as often, and no feature in which it lies above or below its company."""
    sources = make_sources(embedded, seed=8, hub_quantile=0.999)
    indices, parts = np.arange(1500), []
    for shape in SHAPES:
        rows = indices[: int(1500 * getattr(Shapes(), shape))]
        parts.append(draw_questions(sources, shape, rows, rows % 2))
    draws = Draws.join(parts)
    ranks = gold_ranks(sources, draws)
    for feature in range(len(FEATURES)):
        shares = np.bincount(ranks[:, feature], minlength=4) / len(draws)
        assert (np.abs(shares - 0.25) < 0.08).all(), (FEATURES[feature], shares)
    nodes = np.column_stack([draws.answer, draws.distractors])
    values = np.stack(sources.features)[draws.lang[:, None], nodes]
    spread = values.std(1)
    leans = ((values[:, 0] - values.mean(1)) / np.where(spread > 0, spread, np.inf)).mean(0)
    assert (np.abs(leans) < 0.2).all(), leans


def test_wrong_stars_are_close(embedded, make_sources):
    indices = np.arange(600)
    draws = draw_questions(make_sources(embedded, seed=8), "star", indices, indices * 0)
    many = (draws.clue_nodes >= 0).sum(1) >= 3
    shared = np.array([bin(mask).count("1") for mask in draws.satisfied[many].ravel()])
    assert (shared >= 1).all()
    assert shared.mean() > 1.4
