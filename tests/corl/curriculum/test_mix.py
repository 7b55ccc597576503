import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corl.config import Mix
from corl.curriculum.mix import draw, sides
from corl.curriculum.pool import Pool

DIFFICULTY = Mix(by="difficulty")


@pytest.fixture(scope="session")
def make_pool(make_item):
    """make_pool(easy=3, moderate=2): a pool of so many items of each tier, in this order."""

    def make(**tiers: int) -> Pool:
        names = [tier for tier, count in tiers.items() for _ in range(count)]
        return Pool([make_item(k, None if tier == "none" else tier) for k, tier in enumerate(names)])

    return make


def members(pool, mix):
    return {side.name: side.members.tolist() for side in sides(pool, mix)}


@pytest.mark.parametrize(("hard", "simple"), [(1, 1), (1, 2), (2, 1), (1, 0), (0.3, 0.7)])
@pytest.mark.parametrize("count", [1, 2, 7, 48])
def test_the_ratio_holds_over_the_steps(make_pool, hard, simple, count):
    pool = make_pool(easy=100, moderate=100)
    mix = Mix(by="difficulty", hard=hard, simple=simple)
    exact = count * hard / (hard + simple)
    steps = 200
    drawn = 0
    for step in range(steps):
        found = draw(pool, mix, count, seed=1, step=step)
        assert not found.degraded
        assert found.got["hard"] in (int(exact), int(exact) + 1)
        assert sum(i >= 100 for i in found.indices) == found.got["hard"]
        drawn += found.got["hard"]
    # A keyed coin of the fraction's probability decides each step: 4 standard deviations.
    fraction = exact % 1
    assert abs(drawn - steps * exact) <= 4 * (steps * fraction * (1 - fraction)) ** 0.5 + 1e-6


def test_a_side_is_covered_before_any_of_it_repeats(make_pool):
    pool = make_pool(easy=30, moderate=12)
    for step in range(20):
        draw(pool, DIFFICULTY, 6, seed=3, step=step)
        for side in (slice(0, 30), slice(30, 42)):
            assert np.ptp(pool.draws[side]) <= 1
    assert pool.draws[:30].sum() == pool.draws[30:].sum() == 60


def test_a_side_that_runs_out_degrades_the_ratio_and_says_so(make_pool):
    pool = make_pool(easy=3, moderate=20, difficult=5)
    found = draw(pool, DIFFICULTY, 12, seed=0, step=0)
    assert found.degraded
    assert found.wanted == {"hard": 6, "simple": 6}
    assert found.got == {"hard": 9, "simple": 3}
    assert found.sizes == {"hard": 20, "simple": 3}
    assert len(set(found.indices)) == 12

    found = draw(make_pool(easy=20, moderate=3), DIFFICULTY, 12, seed=0, step=0)
    assert found.got == {"hard": 3, "simple": 9}


def test_a_step_takes_what_there_is(make_pool):
    found = draw(make_pool(easy=2, moderate=3, difficult=9), DIFFICULTY, 12, seed=0, step=0)
    assert sorted(found.indices) == [0, 1, 2, 3, 4]
    assert found.degraded
    found = draw(make_pool(easy=4), DIFFICULTY, 2, seed=0, step=0)
    assert found.got == {"hard": 0, "simple": 2}


def test_nothing_to_draw_is_an_error_unless_it_was_drawn_already(make_pool):
    pool = make_pool(difficult=3, none=2)
    with pytest.raises(ValueError, match="no prompt to draw"):
        draw(pool, DIFFICULTY, 2, seed=0, step=0)
    found = draw(make_pool(easy=2), DIFFICULTY, 2, seed=0, step=0, excluded=frozenset({0, 1}))
    assert found.indices == []


def test_a_draw_depends_on_pool_mix_seed_and_step_alone(make_pool):
    def indices(seed, step, excluded=frozenset()):
        return draw(make_pool(easy=40, moderate=40), DIFFICULTY, 8, seed=seed, step=step, excluded=excluded).indices

    first = indices(1, 0)
    np.random.seed(5)
    assert indices(1, 0) == first
    assert indices(2, 0) != first
    assert indices(1, 1) != first
    without = indices(1, 0, frozenset(first[:2]))
    assert not set(without) & set(first[:2])
    # What is excluded does not disturb the order of the others.
    assert [i for i in first if i in without] == first[2:]


def test_only_what_was_drawn_is_counted(make_pool):
    pool = make_pool(easy=10, moderate=10)
    found = draw(pool, DIFFICULTY, 5, seed=0, step=0)
    assert np.flatnonzero(pool.draws).tolist() == sorted(found.indices)
    assert pool.draws.max() == 1


def test_difficulty_knows_no_item_without_a_tier(make_pool):
    pool = make_pool(easy=1, moderate=1, difficult=1, none=1)
    assert members(pool, DIFFICULTY) == {"hard": [1], "simple": [0]}
    both = Mix(by="difficulty", hard_tiers=["moderate", "difficult"])
    assert members(pool, both) == {"hard": [1, 2], "simple": [0]}
    assert members(pool, Mix(by="uniform")) == {"all": [0, 1, 2, 3]}


def test_mined_sides_follow_the_newest_version_that_attempted_an_item(make_pool):
    pool = make_pool(easy=5)
    mix = Mix(by="mined", wrong_below=0.5)
    assert members(pool, mix) == {"right": [], "wrong": [0, 1, 2, 3, 4]}
    for k, passes in enumerate([0, 1, 2, 4]):
        pool.observe(f"item-{k}", 1, 4, passes, 1.0)
    assert members(pool, mix) == {"right": [2, 3], "wrong": [0, 1, 4]}
    assert members(pool, Mix(by="mined", wrong_below=0.25))["right"] == [1, 2, 3]
    pool.observe("item-3", 2, 4, 1, 1.0)
    pool.observe("item-0", 2, 4, 4, 1.0)
    assert members(pool, mix) == {"right": [0, 2], "wrong": [1, 3, 4]}


@pytest.mark.parametrize("by", ["mined", "uniform"])
def test_dropping_what_never_passed_keeps_what_was_never_attempted(make_pool, by):
    pool = make_pool(easy=4)
    pool.observe("item-0", 1, 4, 0, 1.0)
    pool.observe("item-1", 1, 4, 1, 1.0)
    pool.observe("item-1", 2, 4, 0, 1.0)
    pool.observe("item-2", 2, 4, 4, 1.0)
    kept = {i for side in sides(pool, Mix(by=by, drop_never_passed=True)) for i in side.members.tolist()}
    assert kept == {1, 2, 3}


def test_mined_ratio_is_one_right_to_two_wrong_by_default(make_pool):
    pool = make_pool(easy=60)
    for k in range(20):
        pool.observe(f"item-{k}", 1, 1, 1, 1.0)
    found = draw(pool, Mix(by="mined"), 24, seed=0, step=0)
    assert found.got == {"right": 8, "wrong": 16}
    assert sum(i < 20 for i in found.indices) == 8


@settings(max_examples=150, deadline=None)
@given(
    easy=st.integers(0, 12), moderate=st.integers(1, 12), count=st.integers(1, 30), seed=st.integers(0, 2**32),
    hard=st.floats(0, 10), simple=st.floats(0.01, 10), data=st.data(),
)  # fmt: skip
def test_draws_are_distinct_complete_and_told(make_pool, easy, moderate, count, seed, hard, simple, data):
    pool = make_pool(easy=easy, moderate=moderate)
    excluded = frozenset(data.draw(st.sets(st.integers(0, easy + moderate - 1))))
    mix = Mix(by="difficulty", hard=hard, simple=simple)
    found = draw(pool, mix, count, seed=seed, step=0, excluded=excluded)
    left = [i for i in range(easy + moderate) if i not in excluded]
    assert len(set(found.indices)) == len(found.indices) == min(count, len(left))
    assert set(found.indices) <= set(left)
    assert sum(found.wanted.values()) == count
    assert sum(found.got.values()) == len(found.indices)
    assert sum(i >= easy for i in found.indices) == found.got["hard"]
    assert abs(found.wanted["hard"] - count * hard / (hard + simple)) < 1 + 1e-6
    assert found.degraded == (found.got != found.wanted)
    enough = {"hard": sum(i >= easy for i in left), "simple": sum(i < easy for i in left)}
    assert found.degraded == any(found.wanted[side] > enough[side] for side in enough)


@settings(max_examples=25, deadline=None)
@given(count=st.integers(1, 9), hard=st.integers(0, 5), simple=st.integers(1, 5), seed=st.integers(0, 1000))
def test_shares_are_exact_in_the_long_run(make_pool, count, hard, simple, seed):
    pool = make_pool(easy=20, moderate=20)
    mix = Mix(by="difficulty", hard=hard, simple=simple)
    steps = 60
    got = sum(draw(pool, mix, count, seed=seed, step=step).got["hard"] for step in range(steps))
    assert abs(got - steps * count * hard / (hard + simple)) <= 5 * (steps / 4) ** 0.5
