import numpy as np

from corl.config import RL, Mine, Mix, Optim
from corl.curriculum.mix import sides
from corl.training.mine import mine, tier_items

RL1 = RL(optim=Optim(lr=1e-3), mix=Mix(by="difficulty"), max_steps=1, tier_samples=10)
PASSES = {"item-0": 10, "item-1": 7, "item-2": 6, "item-3": 2, "item-4": 1, "item-5": 0}


def test_items_without_a_difficulty_are_tiered_by_the_present_policy(make_session):
    session = make_session([None, None, "difficult", None, None, "easy"], lambda item, s: s < PASSES[item])
    assert tier_items(session, RL1) == 4
    assert session.pool.tier == ["easy", "easy", "difficult", "moderate", "difficult", "easy"]
    assert session.solver.calls == [("tier", 0, ["item-0", "item-1", "item-3", "item-4"])]
    assert session.pool.pass_rates()[[0, 1, 3, 4]].tolist() == [1.0, 0.7, 0.2, 0.1]
    assert [s.members.tolist() for s in sides(session.pool, RL1.mix)] == [[3], [0, 1, 5]]
    # Once is enough: nothing is left to attempt.
    assert tier_items(session, RL1) == 0
    assert len(session.solver.calls) == 1


def test_only_well_formed_correct_answers_pass(make_session):
    session = make_session([None], lambda item, s: True)
    answered = session.solver.make_attempt
    session.solver.make_attempt = lambda *a, **k: answered(*a, formed=False, **k)
    tier_items(session, RL1)
    assert session.pool.tier == ["difficult"]


def test_mining_attempts_the_whole_training_set_and_counts(make_session):
    tiers = ["easy", "moderate", "moderate", "difficult"]
    passes = {"item-0": 4, "item-1": 4, "item-2": 1, "item-3": 0}
    session = make_session(tiers, lambda item, s: s < passes[item])
    session.pool.observe("item-3", 0, 1, 1, 5.0)
    session.state.policy_version = 6
    counts = mine(session, Mine(samples=4))
    assert counts == {
        "items": 4, "samples": 4, "pass_rate": 9 / 16, "never": 1, "always": 2,
        "by_tier": {"difficult": 0.0, "easy": 1.0, "moderate": 5 / 8},
    }  # fmt: skip
    assert session.solver.calls == [("mine", 0, ["item-0", "item-1", "item-2", "item-3"])]
    # What an older version passed no longer counts, and the lengths are there for the next rollout.
    wrong = next(s for s in sides(session.pool, Mix(by="mined")) if s.name == "wrong")
    assert wrong.members.tolist() == [2, 3]
    np.testing.assert_allclose(session.pool.mean_tokens, np.mean([2, 3, 4, 2]))


def test_untiered_items_are_counted_apart(make_session):
    session = make_session([None, "easy"], lambda item, s: item == "item-0")
    assert mine(session, Mine(samples=1))["by_tier"] == {"untiered": 1.0, "easy": 0.0}
