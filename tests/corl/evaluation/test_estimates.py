import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from corl.evaluation.estimates import Estimate, difference, estimate, mcnemar, mean_of, pass_at, resampled_means


def test_a_mean_and_its_error_by_hand():
    found = estimate([1.0, 0.0, 0.5, 0.5])
    assert found.value == 0.5
    assert found.stderr == pytest.approx(math.sqrt((0.25 + 0.25) / 3 / 4))
    assert estimate([1.0]) == Estimate(1.0, None)
    # Right or wrong: sqrt(p (1 - p) / (n - 1)); the paper's 7B on PubMedQA, 393 of 500.
    assert estimate([1.0] * 393 + [0.0] * 107).stderr == pytest.approx(math.sqrt(0.786 * 0.214 / 499))


def test_the_error_of_a_mean_of_means():
    found = mean_of([Estimate(0.2, 0.03), Estimate(0.4, 0.04)])
    assert found.value == pytest.approx(0.3) and found.stderr == pytest.approx(0.025)
    assert mean_of([Estimate(0.2, 0.03), Estimate(0.4, None)]).stderr is None


@pytest.mark.parametrize(("samples", "correct"), [(1, 0), (1, 1), (4, 1), (5, 2), (6, 0), (6, 5), (6, 6)])
def test_pass_at_k_is_the_share_of_all_draws_with_a_correct_one(samples, correct):
    right = [True] * correct + [False] * (samples - correct)
    for k in range(1, samples + 1):
        draws = [any(draw) for draw in itertools.combinations(right, k)]
        assert pass_at(k, correct=correct, samples=samples) == pytest.approx(sum(draws) / len(draws))


@pytest.mark.parametrize(
    ("first", "second", "p"),
    [(0, 0, 1.0), (3, 3, 1.0), (1, 0, 1.0), (0, 6, 2 / 64), (1, 5, 14 / 64), (5, 1, 14 / 64), (2, 8, 2 * 56 / 1024)],
)
def test_mcnemar_by_hand(first, second, p):
    assert mcnemar(first, second) == pytest.approx(p)


def test_mcnemar_is_exact_for_thousands_too():
    n, low = 2400, 1150
    expected = 2 * Fraction(sum(math.comb(n, i) for i in range(low + 1)), 2**n)
    assert mcnemar(low, n - low) == pytest.approx(float(expected), rel=1e-12)
    # and so agrees with the normal approximation, continuity corrected
    z = (abs(n - 2 * low) - 1) / math.sqrt(n)
    assert mcnemar(low, n - low) == pytest.approx(math.erfc(z / math.sqrt(2)), rel=0.01)


def test_resampled_means_have_the_distribution_of_all_resamples():
    means = resampled_means([0.0, 1.0], key="x")
    shares = [(means == value).mean() for value in (0.0, 0.5, 1.0)]
    assert sum(shares) == 1 and shares == pytest.approx([0.25, 0.5, 0.25], abs=0.02)


def test_resampled_means_have_the_closed_form_error():
    rng = np.random.default_rng(0)
    differences = rng.choice([-1.0, -0.5, 0.0, 0.25, 1.0], 700, p=[0.1, 0.1, 0.5, 0.1, 0.2])
    means = resampled_means(differences, key="set")
    assert len(means) == 10_000
    assert means.std() == pytest.approx(differences.std() / math.sqrt(700), rel=0.03)
    assert means.mean() == pytest.approx(differences.mean(), abs=4 * means.std() / 100)
    found = difference(differences.mean(), means)
    assert found.low == pytest.approx(found.value - 1.96 * found.stderr, abs=0.003)
    assert found.high == pytest.approx(found.value + 1.96 * found.stderr, abs=0.003)


def test_draws_are_keyed_by_name_and_blind_to_the_order():
    differences = [1.0, 0.0, -1.0, 0.0, 1.0]
    means = resampled_means(differences, key="0/a")
    assert (means == resampled_means(differences[::-1], key="0/a")).all()
    assert (means != resampled_means(differences, key="0/b")).any()
    assert (means != resampled_means(differences, key="1/a")).any()


def test_p_counts_the_smaller_tail_twice_and_is_never_0():
    assert difference(0.5, np.full(999, 0.5)).p == pytest.approx(2 / 1000)
    assert difference(0.0, np.zeros(999)).p == 1.0
    assert difference(0.1, np.array([-1.0] * 49 + [1.0] * 950)).p == pytest.approx(2 * 50 / 1000)
