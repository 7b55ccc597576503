import json
from dataclasses import replace

import pytest

from corl.evaluation.answers import ANSWERS, answer_line
from corl.evaluation.compare import compare_runs, describe_comparison


@pytest.fixture
def write_run(tmp_path):
    """write_run(name, answers, settings): a folder as `corl eval` leaves it."""

    def write(name, answers, **settings):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "settings.json").write_text(json.dumps({"samples": 1, "seed": 0} | settings))
        (folder / ANSWERS).write_bytes(b"".join(map(answer_line, answers)))
        return folder

    return write


@pytest.fixture
def runs(write_run, make_column_items, make_answer):
    """PubMedQA of 12 items: 3 right in both, 1 in the first alone, 5 in the second alone; MedQA of 4, all alike."""
    pubmedqa, medqa = make_column_items("pubmedqa", 12), make_column_items("medqa", 4)
    wrong = {"A": "B", "B": "C", "C": "D", "D": "A"}

    def answers(right):
        made = [make_answer(item, item.answer if k in right else "-") for k, item in enumerate(pubmedqa)]
        return made + [make_answer(item, item.answer if k % 2 else wrong[item.answer]) for k, item in enumerate(medqa)]

    first = write_run("one", answers({0, 1, 2, 3}), temperature=0.0)
    return first, write_run("two", answers({0, 1, 2, 4, 5, 6, 7, 8})[::-1], temperature=0.6)


def test_a_set_by_hand(runs):
    found = compare_runs(*runs)
    medqa, pubmedqa = found.sets  # the paper's order, whatever that of the lines
    assert (pubmedqa.key, pubmedqa.n, pubmedqa.first, pubmedqa.second) == ("pubmedqa", 12, 4 / 12, 8 / 12)
    assert pubmedqa.difference.value == pytest.approx(4 / 12)
    assert (pubmedqa.only_first, pubmedqa.only_second) == (1, 5)
    assert pubmedqa.p == pytest.approx(14 / 64)
    variance = (6 - 16 / 12) / 12  # of five +1, one -1 and six 0, over n
    assert pubmedqa.difference.stderr == pytest.approx((variance / 12) ** 0.5, rel=0.03)
    assert pubmedqa.difference.low < 4 / 12 < pubmedqa.difference.high
    assert (medqa.key, medqa.first, medqa.second, medqa.p) == ("medqa", 0.5, 0.5, 1.0)
    assert medqa.difference.stderr == 0 and medqa.difference.p == 1.0
    assert found.unpaired == {} and found.settings == ["temperature: 0.0 / 0.6"]


def test_overall_is_the_mean_of_the_sets_and_mcnemar_over_all(runs):
    found = compare_runs(*runs)
    assert found.overall.value == pytest.approx(4 / 12 / 2)
    assert found.overall.stderr == pytest.approx(found.sets[1].difference.stderr / 2)
    assert found.pooled == (1, 5, pytest.approx(14 / 64))


def test_the_other_way_round_everything_changes_sign(runs):
    there, back = compare_runs(*runs), compare_runs(*runs[::-1])
    for a, b in zip(there.sets, back.sets, strict=True):
        assert a.difference.value == -b.difference.value and (a.only_first, a.p) == (b.only_second, b.p)
        assert a.difference.stderr == pytest.approx(b.difference.stderr, rel=0.05)
    assert there.overall.value == -back.overall.value


def test_draws_are_keyed(runs):
    assert compare_runs(*runs) == compare_runs(*runs)
    assert compare_runs(*runs, seed=1) != compare_runs(*runs)


def test_several_samples_have_a_bootstrap_and_no_mcnemar(write_run, make_column_items, make_answer):
    items = make_column_items("medqa", 6)
    first = write_run("a", [make_answer(item, item.answer + "-") for item in items])
    second = write_run("b", [make_answer(item, 3 * item.answer + "-") for item in items])
    (found,) = compare_runs(first, second).sets
    assert (found.first, found.second, found.p, found.only_first) == (0.5, 0.75, None, None)
    assert found.difference.value == pytest.approx(0.25) and found.difference.p == pytest.approx(2 / 10_001)
    comparison = compare_runs(first, second)
    assert comparison.overall is None and comparison.pooled is None
    assert "| medqa | 6 | 50.00 | 75.00 | +25.00 +- 0.00 | +25.00 .. +25.00 | 0.0002 | - | - |" in describe_comparison(
        comparison
    )


def test_what_is_not_paired_is_listed(write_run, make_column_items, make_answer):
    items = make_column_items("medqa", 12)
    changed = [replace(item, question="Which one instead?") for item in items[:2]]
    first = write_run("a", [make_answer(item, "A") for item in items[:10]])
    second = write_run("b", [make_answer(item, "A") for item in [*changed, *items[2:3], *items[9:]]])
    found = compare_runs(first, second)
    assert found.sets[0].n == 2
    assert [list(map(len, found.unpaired.values()))] == [[6, 2, 2]]
    text = describe_comparison(found)
    assert f"- not paired, only in {first}: 6 (medqa:3, medqa:4, medqa:5, medqa:6, medqa:7, ..)" in text
    assert f"- not paired, only in {second}: 2 (medqa:10, medqa:11)\n" in text
    assert "- not paired, another question or other options under the same id: 2 (medqa:0, medqa:1)" in text


def test_runs_with_shuffled_options_pair(write_run, make_column_items, make_answer):
    from corl.data.shuffle import shuffle_options

    items = make_column_items("medxpertqa", 8)
    shuffled = [shuffle_options(item, seed=0, epoch=0) for item in items]
    assert any(a.answer != b.answer for a, b in zip(items, shuffled, strict=True))
    first = write_run("a", [make_answer(item, item.answer) for item in items])
    second = write_run("b", [make_answer(item, item.answer) for item in shuffled])
    found = compare_runs(first, second)
    assert (found.sets[0].n, found.sets[0].first, found.sets[0].second, found.unpaired) == (8, 1.0, 1.0, {})


def test_nothing_to_pair_is_refused(write_run, make_column_items, make_answer, tmp_path):
    items = make_column_items("medqa", 4)
    first = write_run("a", [make_answer(item, "A") for item in items[:2]])
    second = write_run("b", [make_answer(item, "A") for item in items[2:]])
    with pytest.raises(ValueError, match=r"no item in common \(only in .*a: 2; only in .*b: 2\)"):
        compare_runs(first, second)
    with pytest.raises(ValueError, match="c: no item is answered yet"):
        compare_runs(first, write_run("c", []))
    with pytest.raises(ValueError, match=r"nowhere: no evaluation \(settings.json is missing\)"):
        compare_runs(tmp_path / "nowhere", first)


def test_the_table_has_a_row_a_set_and_one_over_all(runs):
    lines = describe_comparison(compare_runs(*runs)).splitlines()
    assert lines[4].startswith(
        "| medqa | 4 | 50.00 | 50.00 | +0.00 +- 0.00 | +0.00 .. +0.00 | 1.0000 | 0 / 0 | 1.0000 |"
    )
    assert lines[5].startswith("| pubmedqa | 12 | 33.33 | 66.67 | +33.33 +- ")
    assert lines[5].endswith("| 1 / 5 | 0.2188 |")
    assert lines[6].startswith("| mean of the 2; McNemar over all items | 16 | 41.67 | 58.33 | +16.67 +- ")
    assert lines[-1] == "- settings differ: temperature: 0.0 / 0.6"
