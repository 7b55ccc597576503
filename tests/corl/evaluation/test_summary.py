import math

import pytest

from corl.data.benchmarks import NINE
from corl.evaluation.item_sets import ItemSet
from corl.evaluation.summary import macro_mean, summarise_set


def column_set(key, items):
    (column,) = (b for b in NINE if b.key == key)
    return ItemSet(key, column.title, items, column, column.rows)


def test_the_numbers_of_four_items_with_three_samples(make_column_items, make_answer):
    items = make_column_items("pubmedqa", 4)  # golds A B C A
    answers = [make_answer(item, letters) for item, letters in zip(items, ["AAA", "AB-", "B--", "ABC"], strict=True)]
    found = summarise_set(column_set("pubmedqa", items), answers)
    rates = [1, 1 / 3, 0, 1 / 3]
    mean = sum(rates) / 4
    assert (found.n, found.whole, found.samples, found.status) == (4, 500, 3, "partial: 4 of 500")
    assert found.accuracy.value == pytest.approx(mean)
    assert found.accuracy.stderr == pytest.approx(math.sqrt(sum((r - mean) ** 2 for r in rates) / 3 / 4))
    # 1 of 3 right: two samples hold it in 2 of 3 draws.
    assert {k: e.value for k, e in found.pass_at.items()} == pytest.approx(
        {1: mean, 2: (1 + 2 / 3 + 0 + 2 / 3) / 4, 3: (1 + 1 + 0 + 1) / 4}
    )
    assert found.pass_at[3].stderr == pytest.approx(math.sqrt(0.75 / 3 / 4))
    assert (found.null, found.wrong) == pytest.approx((3 / 12, 4 / 12))
    assert (found.truncated, found.format_ok) == (3 / 12, 9 / 12)
    assert found.mean_tokens == (9 * 3 + 3 * 7) / 12
    assert found.answers == {"A": 5, "B": 3, "C": 1, "null": 3}
    assert found.golds == {"A": 2, "B": 1, "C": 1}


def test_one_sample_has_no_pass_at_k_and_eight_have_the_powers_of_two(make_column_items, make_answer):
    items = make_column_items("medqa", 2)
    for letters, at in (("A", []), ("AB", [1, 2]), ("AABBA", [1, 2, 4, 5]), ("AABBAABB", [1, 2, 4, 8])):
        found = summarise_set(column_set("medqa", items), [make_answer(item, letters) for item in items])
        assert list(found.pass_at) == at


def test_what_is_not_known_is_none(make_column_items, make_answer):
    from dataclasses import replace

    items = make_column_items("medqa", 2)
    answers = [make_answer(item, "A") for item in items]
    answers[1] = replace(answers[1], tokens=[None], finish_reasons=[None])
    found = summarise_set(column_set("medqa", items), answers)
    assert found.truncated is None and found.mean_tokens is None


@pytest.fixture
def nine(make_column_items, make_answer):
    """Summaries of the nine complete sets: A everywhere, so accuracy is the share of golds that are A."""

    def make(short: str | None = None):
        summaries = []
        for benchmark in NINE:
            items = make_column_items(benchmark.key, benchmark.rows - (benchmark.key == short))
            summaries.append(summarise_set(column_set(benchmark.key, items), [make_answer(i, "A") for i in items]))
        return summaries

    return make


def test_the_macro_mean_is_of_unrounded_accuracies_of_nine_complete_sets(nine):
    summaries = nine()
    found = macro_mean(summaries)
    shares = [math.ceil(b.rows / b.options[0]) / b.rows for b in NINE]
    assert found.value == pytest.approx(sum(shares) / 9, rel=1e-12)
    errors = [s * (1 - s) / (b.rows - 1) for s, b in zip(shares, NINE, strict=True)]
    assert found.stderr == pytest.approx(math.sqrt(sum(errors)) / 9)
    assert macro_mean(summaries[::-1]).value == pytest.approx(found.value)
    assert macro_mean(summaries[:-1]) is None


def test_one_item_too_few_and_there_is_no_macro_mean(nine):
    assert macro_mean(nine(short="careqa")) is None
