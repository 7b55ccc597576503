"""Every drawn question, all shapes, against the oracle that reads the definition in plain sets."""

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corl.rods.graph import relation_of
from corl.rods.sampling.draws import SHAPES, Draws
from corl.rods.sampling.shapes import BLOCK, draw_questions


def drawn(sources, shape, indices):
    indices = np.asarray(indices)
    return draw_questions(sources, shape, indices, indices % 2)


def faults(oracle, sources, draws, rows):
    return {
        (SHAPES[draws.shape[row]], int(draws.index[row]), fault)
        for row in rows
        for fault in oracle.faults(draws, row, sources.settings)
    }


def same(one, other):
    return all(np.array_equal(getattr(one, field.name), getattr(other, field.name)) for field in fields(Draws))


@pytest.mark.parametrize("shape", SHAPES)
def test_embedded(shape, embedded, make_sources, make_oracle):
    sources = make_sources(embedded, seed=11, hub_quantile=0.999)
    draws = drawn(sources, shape, range(400))
    assert len(draws) >= 40
    assert not faults(make_oracle(embedded), sources, draws, range(40))


@pytest.mark.parametrize("shape", SHAPES)
def test_random_graphs(shape, make_random_graph, make_sources, make_oracle):
    found, count = set(), 0
    for seed in range(12):
        # Three clues that all are needed want three wrong options, and many entities that have two of them.
        graph = make_random_graph(seed, 40 if shape == "compare" else 14)
        sources = make_sources(graph, seed, options=4 if shape == "compare" else 3)
        draws = drawn(sources, shape, range(150))
        found |= faults(make_oracle(graph), sources, draws, range(min(len(draws), 40)))
        count += len(draws)
    assert not found
    assert count >= 40, "too few questions to have tested anything"


@settings(max_examples=25, deadline=None)
@given(
    st.integers(100, 2**60),
    st.sampled_from(SHAPES),
    st.integers(3, 6),
    st.integers(2, 5),
    st.sampled_from([4, 25, 2000]),
)
def test_any_graph(make_random_graph, make_sources, make_oracle, seed, shape, options, clues, degree):
    graph = make_random_graph(seed)
    sources = make_sources(graph, seed, options=options, max_clues=clues, clue_degree=degree)
    draws = drawn(sources, shape, range(120))
    assert not faults(make_oracle(graph), sources, draws, range(min(len(draws), 15)))
    assert ((draws.clue_nodes >= 0).sum(1) <= clues).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_alone_or_in_company(shape, embedded, make_sources):
    """A row is a function of its own index and language."""
    sources = make_sources(embedded, seed=5)
    whole = drawn(sources, shape, range(BLOCK - 90, BLOCK + 90))
    some = np.arange(BLOCK - 90, BLOCK + 90)[::2]
    alone = Draws.join([drawn(sources, shape, [index]) for index in some])
    assert len(alone) >= 3
    assert same(alone, whole.take(np.flatnonzero(np.isin(whole.index, some))))


@pytest.mark.parametrize("shape", SHAPES)
def test_seed_and_index_matter(shape, embedded, make_sources):
    one, other = (drawn(make_sources(embedded, seed), shape, range(200)) for seed in (1, 2))
    assert same(one, drawn(make_sources(embedded, 1), shape, range(200)))
    assert not np.array_equal(one.answer, other.answer)
    assert len(np.unique(one.answer)) > 12
    assert (np.diff(one.index) > 0).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_to_draw_from(shape, sheet, make_sources):
    empty = make_sources(sheet.graph())
    assert len(drawn(empty, shape, range(50))) == 0
    lonely = sheet.nodes("disease", "a", "b").nodes("drug", "c").edge("a", "treated_with_drug", "c").graph()
    assert len(drawn(make_sources(lonely), shape, range(50))) == 0
    assert len(drawn(make_sources(lonely), shape, [])) == 0


def test_enough(embedded, make_sources):
    """Well above two thousand distinct questions, many answers, every shape and most relations."""
    sources = make_sources(embedded, seed=2, hub_quantile=0.999)
    everything = [drawn(sources, shape, range(6000)) for shape in SHAPES]
    rows = {
        (shape, tuple(sorted(draws.clue_nodes[row].tolist())), *(int(part[row]) for part in parts))
        for shape, draws in zip(SHAPES, everything, strict=True)
        for parts in [(draws.asked_step, draws.excluded_node, draws.contrast, draws.answer)]
        for row in range(len(draws))
    }
    assert len(rows) > 6_000
    assert len({row[-1] for row in rows}) > 500
    asked = {relation_of(step)[0] for draws in everything for step in np.unique(draws.asked_step) if step >= 0}
    assert len(asked) >= 14
    hops = {int((steps >= 0).sum()) for steps in everything[SHAPES.index("chain")].clue_steps[:, 0]}
    assert hops == {1, 2, 3}
    clues = (everything[SHAPES.index("star")].clue_nodes >= 0).sum(1)
    assert (clues >= 3).mean() > 0.1
    named = (everything[SHAPES.index("constraint")].clue_steps[:, 0, 0] < 0).mean()
    assert 0.2 < named < 0.8
