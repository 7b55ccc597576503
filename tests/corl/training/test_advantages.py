import statistics

import pytest

from corl.config import RL, Mix, Objective, Optim, Reward
from corl.training.advantages import Group, group_advantages, make_group, reward_of, train_sequences

MAX_TOKENS = 10


def settings(**changes) -> RL:
    return RL(optim=Optim(lr=1e-3), mix=Mix(by="uniform"), max_steps=1, **({"max_tokens": MAX_TOKENS} | changes))


@pytest.fixture(scope="session")
def make_group_of(make_prompt, make_attempt):
    """make_group_of(k, "1 0 0 trunc", rl): a group of samples that are correct (1), wrong (0), or cut off."""

    def make(k: int, samples: str, rl: RL, lengths: list[int] | None = None) -> Group:
        prompt = make_prompt(k)
        attempts = [
            make_attempt(
                prompt.item.id,
                i,
                what == "1",
                formed=what != "trunc",
                length=lengths[i] if lengths else 3,
                finish="length" if what == "trunc" else "stop",
            )
            for i, what in enumerate(samples.split())
        ]
        return make_group(prompt, attempts, rl, seed=0, step=0)

    return make


@pytest.mark.parametrize(("correct", "formed", "plain", "with_bonus"), [
    (True, True, 1.0, 1.25), (True, False, 0.0, 0.0), (False, True, 0.0, 0.25), (False, False, 0.0, 0.0),
])  # fmt: skip
def test_a_reward_takes_a_correct_letter_in_good_form(make_attempt, correct, formed, plain, with_bonus):
    attempt = make_attempt("q", 0, correct, formed=formed)
    assert reward_of(attempt, Reward(), seed=0, step=0) == plain
    assert reward_of(attempt, Reward(format_bonus=0.25), seed=0, step=0) == with_bonus


def test_a_truncated_sample_scores_0(make_attempt):
    attempt = make_attempt("q", 0, True, formed=True, finish="length")
    assert reward_of(attempt, Reward(format_bonus=0.25), seed=0, step=0) == 0.0


def test_random_rewards_know_nothing_of_the_completion(make_attempt):
    control = Reward(control="random", format_bonus=0.5)

    def rewards(**fields):
        attempts = [make_attempt(f"q{k}", s, **fields) for k in range(60) for s in range(8)]
        return [reward_of(attempt, control, seed=1, step=4) for attempt in attempts]

    fair = rewards()
    assert rewards(correct=True) == rewards(formed=False, length=9) == rewards(finish="length") == fair
    assert set(fair) == {0.0, 1.0}
    assert abs(statistics.fmean(fair) - 0.5) < 0.1
    attempt = make_attempt("q1", 0)
    by_step = [reward_of(attempt, control, seed=1, step=step) for step in range(64)]
    by_seed = [reward_of(attempt, control, seed=seed, step=4) for seed in range(64)]
    assert 0.2 < statistics.fmean(by_step) < 0.8
    assert 0.2 < statistics.fmean(by_seed) < 0.8


def test_an_advantage_is_the_reward_less_the_group_s_mean(make_group_of):
    group = make_group_of(0, "1 0 0 1", settings(reward=Reward(format_bonus=0.5)))
    assert group.rewards == [1.5, 0.5, 0.5, 1.5]
    assert group_advantages(group, divide_by_std=False) == [0.5, -0.5, -0.5, 0.5]
    group = make_group_of(0, "1 0 0 0", settings())
    assert group_advantages(group, divide_by_std=False) == [0.75, -0.25, -0.25, -0.25]
    scaled = group_advantages(group, divide_by_std=True)
    assert scaled == pytest.approx([a / 0.1875**0.5 for a in (0.75, -0.25, -0.25, -0.25)], rel=1e-5)


@pytest.mark.parametrize("samples", ["1 1 1 1", "0 0 0 0", "trunc trunc", "0 trunc"])
def test_equal_rewards_give_no_advantage(make_group_of, samples):
    for masked in (False, True):
        group = make_group_of(0, samples, settings(mask_truncated=masked))
        assert group.zero_variance
        assert not any(group_advantages(group, divide_by_std=True))


def test_truncated_samples_count_as_wrong_unless_they_are_masked(make_group_of):
    counted = make_group_of(0, "1 0 1 trunc", settings())
    assert counted.counted == [True] * 4
    assert group_advantages(counted, divide_by_std=False) == [0.5, -0.5, 0.5, -0.5]
    masked = make_group_of(0, "1 0 1 trunc", settings(mask_truncated=True))
    assert group_advantages(masked, divide_by_std=False) == pytest.approx([1 / 3, -2 / 3, 1 / 3, 0.0])
    # What is left agrees with itself: the one that differed was cut off.
    assert not make_group_of(0, "1 1 trunc", settings()).zero_variance
    assert make_group_of(0, "1 1 trunc", settings(mask_truncated=True)).zero_variance


# Two groups: 1 0 1 of 2, 3, 5 tokens, and 1 1 of 4, 6, which has no variance but stays in every normaliser.
N, TOKENS = 5, 20


@pytest.mark.parametrize(("loss_norm", "expected"), [
    ("sequence_sum", [1 / N] * 3),
    ("sequence_mean", [1 / (N * 2), 1 / (N * 3), 1 / (N * 5)]),
    ("token_mean", [1 / TOKENS] * 3),
    ("constant", [1 / (N * MAX_TOKENS)] * 3),
])  # fmt: skip
def test_token_weights_are_the_loss_norm_s(make_group_of, loss_norm, expected):
    rl = settings(loss_norm=loss_norm)
    groups = [make_group_of(0, "1 0 1", rl, [2, 3, 5]), make_group_of(1, "1 1", rl, [4, 6])]
    sequences = train_sequences(groups, rl)
    assert [s.name for s in sequences] == ["item-0#0", "item-0#1", "item-0#2"]
    assert [s.token_weight for s in sequences] == pytest.approx(expected, rel=1e-12)
    assert [s.advantage for s in sequences] == pytest.approx([1 / 3, -2 / 3, 1 / 3])
    for k, s in enumerate(sequences):
        assert s.ids == [*groups[0].prompt.ids, *groups[0].attempts[k].ids]
        assert s.prompt_len == 3
        assert s.rollout_logprobs == groups[0].attempts[k].logprobs


def test_the_weights_of_a_loss_norm_add_up(make_group_of):
    totals = {"sequence_sum": TOKENS / N, "sequence_mean": 1, "token_mean": 1, "constant": TOKENS / N / MAX_TOKENS}
    for loss_norm, total in totals.items():
        rl = settings(loss_norm=loss_norm, objective=Objective(kl_coef=0.1))
        groups = [make_group_of(0, "1 0 1", rl, [2, 3, 5]), make_group_of(1, "1 1", rl, [4, 6])]
        weights = [s.token_weight * s.num_targets for s in train_sequences(groups, rl)]
        assert len(weights) == N
        assert sum(weights) == pytest.approx(total)


@pytest.mark.parametrize("objective", [Objective(kl_coef=0.1), Objective(entropy_coef=0.1)])
def test_samples_without_advantage_stay_where_another_term_moves_them(make_group_of, objective):
    rl = settings(objective=objective)
    sequences = train_sequences([make_group_of(0, "1 1", rl), make_group_of(1, "1 0", rl)], rl)
    assert [s.advantage for s in sequences] == [0.0, 0.0, 0.5, -0.5]
    assert [s.token_weight for s in sequences] == [1 / 4] * 4


def test_masked_samples_are_in_no_normaliser(make_group_of):
    rl = settings(mask_truncated=True, loss_norm="token_mean", objective=Objective(kl_coef=0.1))
    sequences = train_sequences([make_group_of(0, "1 0 trunc", rl, [2, 3, 10])], rl)
    assert [s.name for s in sequences] == ["item-0#0", "item-0#1"]
    assert [s.token_weight for s in sequences] == [1 / 5] * 2


def test_a_step_where_nothing_can_be_learnt_has_no_sequences(make_group_of):
    rl = settings(mask_truncated=True)
    assert train_sequences([make_group_of(0, "1 1", rl), make_group_of(1, "trunc trunc", rl)], rl) == []
