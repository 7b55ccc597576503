"""Which sample is kept, what pass@k says, which strategy comes next."""

from itertools import combinations

import pytest

from corl.rods.cot.prompts import STRATEGIES
from corl.rods.cot.refinement import choose_strategy
from corl.rods.cot.selection import Sample, closest, pass_at, select


def sample(text: str, *failed: str, words: int = 50, marker: bool = False, named: int = 1, shown: int = 0) -> Sample:
    checks = {
        "answer": "answer" not in failed, "passed": not failed, "failed": list(failed), "words": words,
        "marker": marker, "bridges": {"named": ["x"] * named, "missing": ["y"] * (2 - named)},
        "arithmetic": {"checked": shown, "wrong": []}, "units": {"checked": 0, "wrong": []},
    }  # fmt: skip
    return Sample(text, checks)


def test_where_all_are_right_the_shortest_sound_one_is_kept() -> None:
    samples = [sample("a", words=60, named=2), sample("b", words=40), sample("c", "leak", words=30)]
    chosen, how = select(samples)
    assert (chosen.text, how) == ("b", "shortest")


def test_where_some_are_wrong_the_score_decides() -> None:
    wrong = sample("w", "answer", words=10)
    for better, worse in (
        (sample("a", named=2, words=90), sample("b", named=1, marker=True)),
        (sample("a", marker=True, words=90), sample("b", shown=1)),
        (sample("a", shown=1, words=90), sample("b")),
        (sample("a", words=40), sample("b", words=50)),
        (sample("a"), sample("b")),
    ):
        assert select([wrong, better, worse])[0].text == "a"
        assert select([better, wrong])[1] == "best"
    assert select([wrong, sample("b"), sample("a")])[0].text == "b", "the earlier of two equals"


def test_none_sound_is_none() -> None:
    assert select([sample("w", "answer"), sample("l", "leak")]) is None
    samples = [sample("w", "answer", "leak"), sample("v", "answer"), sample("l", "leak")]
    assert [one.text for one in closest(samples)] == ["l", "v", "w"]


def test_pass_at_k_is_the_mean_over_all_draws() -> None:
    for n in range(1, 8):
        for c in range(n + 1):
            for k in range(1, n + 1):
                draws = list(combinations([True] * c + [False] * (n - c), k))
                assert pass_at(k, n, c) == pytest.approx(sum(map(any, draws)) / len(draws))
    for wrong in ((0, 4, 2), (5, 4, 2), (1, 4, 5), (1, 4, -1)):
        with pytest.raises(ValueError, match="pass@"):
            pass_at(*wrong)


def test_strategies_are_keyed_and_do_not_begin_with_backtracking() -> None:
    first = {choose_strategy(f"item {k}", 0, 0) for k in range(200)}
    later = {choose_strategy(f"item {k}", 0, 1) for k in range(200)}
    assert first == set(STRATEGIES) - {"backtracking"} and later == set(STRATEGIES)
    assert choose_strategy("item", 1, 2) == choose_strategy("item", 1, 2)
