import numpy as np
import pytest

from corl.curriculum.pool import Pool


@pytest.fixture
def pool(make_item):
    return Pool([make_item(k, tier) for k, tier in enumerate(["easy", "moderate", "difficult", None, None, None])])


def test_observations_of_one_version_add_up_and_the_newest_version_decides(pool):
    pool.observe("item-0", 3, 4, 1, 10.0)
    pool.observe("item-1", 3, 4, 4, 12.0)
    pool.observe("item-0", 3, 4, 2, 20.0)
    rates = pool.pass_rates()
    assert rates[0] == 3 / 8
    assert rates[1] == 1.0
    assert np.isnan(rates[2:]).all()
    assert pool.expected_tokens() == {"item-0": 20.0, "item-1": 12.0}

    pool.observe("item-0", 5, 8, 0, 30.0)
    assert pool.pass_rates()[0] == 0.0
    assert pool.ever_passed().tolist() == [True, True, False, False, False, False]
    # One row per (item, version): what each version attempted and passed stays on record.
    assert pool.state()["log"].tolist() == [[0, 3, 8, 3], [1, 3, 4, 4], [0, 5, 8, 0]]


def test_an_older_version_cannot_follow_a_newer_one(pool):
    pool.observe("item-0", 3, 4, 1, 10.0)
    with pytest.raises(AssertionError, match="version 2"):
        pool.observe("item-0", 2, 4, 1, 10.0)


@pytest.mark.parametrize(("passes", "tier"), [
    (10, "easy"), (7, "easy"), (6, "moderate"), (2, "moderate"), (1, "difficult"), (0, "difficult"),
])  # fmt: skip
def test_items_without_a_difficulty_get_a_tier_at_pass_rates_of_7_and_2_tenths(pool, passes, tier):
    assert pool.without_tier() == ["item-3", "item-4", "item-5"]
    for item in ("item-0", "item-4"):
        pool.observe(item, 0, 10, passes, 1.0)
    pool.assign_tiers()
    # A difficulty that came with the item stays, an item that was not attempted stays without.
    assert pool.tier == ["easy", "moderate", "difficult", None, tier, None]
    assert pool.without_tier() == ["item-3", "item-5"]


def test_a_state_comes_back_from_a_file_and_goes_on_alike(pool, make_item, tmp_path):
    pool.observe("item-0", 3, 4, 1, 10.0)
    pool.observe("item-3", 4, 4, 3, 11.0)
    pool.assign_tiers()
    pool.draws[[1, 1, 5]] += 2
    np.savez(tmp_path / "pool.npz", **pool.state())
    again = Pool([make_item(k) for k in range(6)])
    with np.load(tmp_path / "pool.npz") as arrays:
        again.load(dict(arrays))
    for each in (pool, again):
        each.observe("item-3", 4, 4, 0, 12.0)
        each.observe("item-0", 9, 1, 1, 13.0)
    assert again.tier == pool.tier
    before, after = pool.state(), again.state()
    assert before.keys() == after.keys()
    for name in before:
        np.testing.assert_array_equal(before[name], after[name])
    np.testing.assert_array_equal(again.pass_rates(), pool.pass_rates())


def test_an_empty_log_comes_back(pool, make_item):
    again = Pool([make_item(k) for k in range(6)])
    again.load(pool.state())
    assert np.isnan(again.pass_rates()).all()
    assert again.tier == pool.tier


def test_a_state_is_a_copy(pool):
    state = pool.state()
    pool.draws += 1
    pool.observe("item-0", 0, 1, 1, 5.0)
    assert state["draws"].sum() == 0
    assert np.isnan(state["mean_tokens"]).all()


@pytest.mark.parametrize("ids", [range(5), [1, 0, 2, 3, 4, 5], range(1, 7)])
def test_the_state_of_other_items_is_refused(pool, make_item, ids):
    with pytest.raises(ValueError, match="other items"):
        Pool([make_item(k) for k in ids]).load(pool.state())
