import pytest

from corl.config import Plateau
from corl.curriculum.plateau import read_plateau

RISING = [0.1 * k for k in range(8)]
FLAT = [0.5] * 8


@pytest.mark.parametrize(
    ("rewards", "zero_variance", "settings", "reached"),
    [
        (FLAT, [0.9] * 8, {"min_zero_variance": 0.8}, True),
        (FLAT, [0.7] * 8, {"min_zero_variance": 0.8}, False),
        (FLAT, [0.8] * 8, {"min_zero_variance": 0.8}, True),
        (RISING, [0.9] * 8, {"min_zero_variance": 0.8}, False),
        (RISING[::-1], [0.0] * 8, {}, True),
        # Only the last 2 x window steps count: an early rise does not keep a flat stage going.
        ([0.0, 0.1, 0.2, 0.5, 0.5, 0.5, 0.5], [0.0] * 7, {}, True),
        # A gain of exactly min_gain is still a gain; only less than that is a plateau.
        ([0.5, 0.5, 0.625, 0.625], [0.0] * 4, {"min_gain": 0.125}, False),
        ([0.5, 0.5, 0.625, 0.625], [0.0] * 4, {"min_gain": 0.1251}, True),
    ],
)
def test_a_flat_reward_and_agreeing_groups_end_a_stage(rewards, zero_variance, settings, reached):
    plateau = Plateau(**({"window": 2, "min_steps": 0, "min_gain": 0.01} | settings))
    reading = read_plateau(rewards, zero_variance, plateau)
    assert reading is not None
    assert reading.reached is reached


def test_the_reading_is_the_difference_of_window_means():
    reading = read_plateau([9.0, 0.1, 0.3, 0.4, 0.5], [1.0, 1.0, 1.0, 0.2, 0.4], Plateau(window=2, min_steps=0))
    assert reading is not None
    assert reading.gain == pytest.approx(0.45 - 0.2)
    assert reading.zero_variance == pytest.approx(0.3)


@pytest.mark.parametrize(("steps", "window", "min_steps", "judged"), [
    (9, 2, 10, False), (10, 2, 10, True), (7, 4, 0, False), (8, 4, 0, True), (0, 1, 0, False),
])  # fmt: skip
def test_no_reading_before_min_steps_and_two_windows(steps, window, min_steps, judged):
    plateau = Plateau(window=window, min_steps=min_steps)
    assert (read_plateau([0.5] * steps, [1.0] * steps, plateau) is not None) is judged
