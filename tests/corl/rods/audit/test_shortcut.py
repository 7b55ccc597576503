"""The logit over the options: finds what there is to find, and nothing where there is nothing."""

import numpy as np
import pytest

from corl.rods.audit.shortcut import option_only

NAMES = ("one", "two")


def table(n: int, options: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, options, 2)), rng.integers(options, size=n)


@pytest.mark.parametrize("sign", [1, -1])
def test_finds_a_feature_that_always_tells(sign: int) -> None:
    features, _ = table(200, 4)
    keys = (sign * features[:, :, 1]).argmax(1)
    result = option_only(features.tolist(), keys.tolist(), [str(i) for i in range(200)], NAMES)
    assert result.accuracy > 0.95 and sign * result.weights["two"] > 2 and abs(result.weights["one"]) < 1


def test_finds_a_position() -> None:
    features, keys = table(300, 4)
    keys[:180] = 2
    result = option_only(features.tolist(), keys.tolist(), [str(i) for i in range(300)], NAMES)
    assert result.accuracy == pytest.approx((keys == 2).mean()) and result.weights["position C"] > 1


def test_is_at_chance_where_nothing_tells() -> None:
    features, keys = table(4000, 4)
    result = option_only(features.tolist(), keys.tolist(), [str(i) for i in range(4000)], NAMES)
    assert abs(result.accuracy - 0.25) < 2.33 * (0.25 * 0.75 / 4000) ** 0.5
    assert result.chance == 0.25 and result.allowance == 0.03


def test_constant_features_are_ties_and_ties_are_chance() -> None:
    keys = [row % 4 for row in range(400)]
    result = option_only([[[3.0, 1.0]] * 4] * 400, keys, [str(row // 4) for row in range(400)], NAMES)
    assert result.accuracy == pytest.approx(0.25, abs=1e-6)


def test_the_scale_of_an_item_does_not_matter() -> None:
    features, keys = table(150, 3)
    answers = [str(i) for i in range(150)]
    scale = np.random.default_rng(5).uniform(1, 100, size=(150, 1, 2))
    first = option_only(features.tolist(), keys.tolist(), answers, NAMES)
    second = option_only((features * scale + 7).tolist(), keys.tolist(), answers, NAMES)
    assert first.accuracy == second.accuracy and first.weights == pytest.approx(second.weights)


def test_an_answer_is_not_learnt_by_heart() -> None:
    """Each answer has a look of its own among its distractors; only items of the same answer could show it."""
    rng = np.random.default_rng(1)
    features, keys, answers = [], [], []
    for answer in range(40):
        sign = 1 if answer % 2 else -1  # what tells one answer misleads about the next
        for _ in range(20):
            key = int(rng.integers(4))
            look = rng.normal(size=(4, 2))
            look[key] = 5 * sign
            features.append(look.tolist())
            keys.append(key)
            answers.append(str(answer))
    split = option_only(features, keys, answers, NAMES)
    assert split.accuracy < 0.6


def test_items_of_several_sizes() -> None:
    rng = np.random.default_rng(2)
    sizes = [2, 4, 5] * 60
    features = [rng.normal(size=(size, 2)).tolist() for size in sizes]
    keys = [int(np.argmax([option[0] for option in item])) for item in features]
    result = option_only(features, keys, [str(i) for i in range(180)], NAMES)
    assert result.chance == pytest.approx((1 / 2 + 1 / 4 + 1 / 5) / 3) and result.accuracy > 0.95


def test_a_small_file_is_allowed_its_chance() -> None:
    features, keys = table(48, 4)
    result = option_only(features.tolist(), keys.tolist(), [str(i) for i in range(48)], NAMES)
    assert result.allowance == pytest.approx(2.33 * (0.25 * 0.75 / 48) ** 0.5)


@pytest.mark.parametrize("answers", [["same"] * 12, [str(i % 2) for i in range(12)], [str(i) for i in range(12)]])
def test_few_answers_leave_folds_empty(answers: list[str]) -> None:
    features, keys = table(12, 4)
    result = option_only(features.tolist(), keys.tolist(), answers, NAMES)
    assert 0 <= result.accuracy <= 1
    if len(set(answers)) == 1:
        assert result.accuracy == 0.25  # nothing to learn from


def test_agrees_with_a_plain_gradient_descent() -> None:
    """The penalised optimum, found slowly and by another road."""
    features, _ = table(120, 4, seed=9)
    rng = np.random.default_rng(3)
    keys = (features @ np.array([1.0, -0.5]) + rng.gumbel(size=(120, 4))).argmax(1)
    result = option_only(features.tolist(), keys.tolist(), [str(i) for i in range(120)], NAMES)
    z = (features - features.mean(1, keepdims=True)) / features.std(1, keepdims=True)
    z = np.concatenate([z, np.broadcast_to(np.eye(4), (120, 4, 4))], axis=2)
    weights = np.zeros(6)
    for _ in range(4000):
        p = np.exp(z @ weights)
        p /= p.sum(1, keepdims=True)
        gradient = (z[np.arange(120), keys] - (p[:, :, None] * z).sum(1)).sum(0) - weights
        weights += 0.01 * gradient
    assert list(result.weights.values()) == pytest.approx(weights.tolist(), abs=1e-4)
