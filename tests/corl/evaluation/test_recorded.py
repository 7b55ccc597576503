import json

import pytest

from corl.data.shuffle import shuffle_options
from corl.evaluation.item_sets import ItemSet
from corl.evaluation.recorded import answers_from, read_completions

RIGHT = "<think>w</think>\n<answer>A</answer>"


def write(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture
def item_set(make_column_items):
    return ItemSet("medqa", "MedQA", make_column_items("medqa", 4), None, 4)


def graded(path, item_set, samples=None, count_tokens=None, show=lambda item: item):
    recorded = read_completions(path)
    return answers_from(recorded, [item_set], source=path, samples=samples, count_tokens=count_tokens, show=show)


def test_completions_of_items_in_the_items_order(item_set, tmp_path):
    path = write(tmp_path / "c.jsonl", {"id": "medqa:1", "completion": RIGHT}, {"id": "medqa:0", "completion": RIGHT})
    answers = graded(path, item_set)
    assert [(a.id, a.set, a.correct) for a in answers] == [("medqa:0", "medqa", [True]), ("medqa:1", "medqa", [False])]
    assert (answers[0].tokens, answers[0].finish_reasons) == ([None], [None])


def test_an_empty_completion_stays_in_the_denominator(item_set, tmp_path):
    (answer,) = graded(write(tmp_path / "c.jsonl", {"id": "medqa:1", "completion": ""}), item_set)
    assert (answer.extracted, answer.correct) == ([None], [False])


def test_samples_from_a_list_or_from_several_lines(item_set, tmp_path):
    path = write(
        tmp_path / "c.jsonl",
        {"id": "medqa:0", "completions": [RIGHT, "no"], "tokens": [5, 1], "finish_reasons": ["stop", "length"]},
        {"id": "medqa:2", "completion": "no", "tokens": 2},
        {"id": "medqa:2", "completion": RIGHT, "finish_reason": "stop"},
    )
    first, second = graded(path, item_set, count_tokens=len)
    assert (first.correct, first.tokens, first.finish_reasons) == ([True, False], [5, 1], ["stop", "length"])
    assert (second.extracted, second.tokens) == ([None, "A"], [2, len(RIGHT)])
    assert second.finish_reasons == [None, "stop"]
    for wrong in (1, 3):
        with pytest.raises(ValueError, match=f"item 'medqa:0' has 2 completions instead of {wrong}"):
            graded(path, item_set, samples=wrong)


def test_items_with_unequal_samples_are_refused(item_set, tmp_path):
    path = write(tmp_path / "c.jsonl", {"id": "medqa:0", "completion": ""}, {"id": "medqa:1", "completions": ["", ""]})
    with pytest.raises(ValueError, match="item 'medqa:1' has 2 completions instead of 1; give every item as many"):
        graded(path, item_set)


def test_a_prefill_is_graded_with_the_text(item_set, tmp_path):
    path = write(
        tmp_path / "c.jsonl",
        {"id": "medqa:0", "completion": RIGHT.removeprefix("<think>"), "prefill": "<think>"},
        {"id": "medqa:1", "completion": RIGHT.removeprefix("<think>")},
    )
    assert [a.format_ok for a in graded(path, item_set)] == [[True], [False]]


def test_shuffled_options_are_graded_as_they_were_shown(item_set, tmp_path):
    show = lambda item: shuffle_options(item, seed=3, epoch=0)  # noqa: E731
    shown = show(item_set.items[0])
    assert shown.answer != "A"
    text = RIGHT.replace(">A<", f">{shown.answer}<")
    path = write(tmp_path / "c.jsonl", {"id": "medqa:0", "completion": text})
    (answer,) = graded(path, item_set, show=show)
    assert answer.correct == [True] and answer.gold == shown.answer


@pytest.mark.parametrize(("line", "message"), [
    ("{", "line 2: "), ("[]", "line 2: expected an object"), ('{"completion": "x"}', 'line 2: .*"id"'),
    ('{"id": "a"}', "line 2: it needs one of"),
    ('{"id": "a", "completion": "x", "completions": ["x"]}', "needs one of"),
    ('{"id": "a", "completion": null}', "must be texts"), ('{"id": "a", "completions": []}', "must be texts"),
    ('{"id": "a", "completion": "x", "tokens": [1, 2]}', "tokens is .1, 2."),
    ('{"id": "a", "completion": "x", "tokens": -1}', "tokens is -1"),
    ('{"id": "a", "completion": "x", "finish_reason": 3}', "finish_reasons is 3"),
    ('{"id": "a", "completion": "x", "prefill": 3}', "prefill is 3"), ("\xff", "line 2"), ("[" * 100_000, "line 2"),
])  # fmt: skip
def test_a_wrong_line_is_named(tmp_path, line, message):
    path = tmp_path / "c.jsonl"
    path.write_bytes(b'{"id": "b", "completion": "x"}\n' + line.encode("latin-1") + b"\n")
    with pytest.raises(ValueError, match=f"c.jsonl, {message}" if message.startswith("line") else message):
        read_completions(path)


def test_nothing_to_grade_is_refused(item_set, tmp_path):
    with pytest.raises(ValueError, match="c.jsonl is empty"):
        read_completions(write(tmp_path / "c.jsonl"))
    with pytest.raises(ValueError, match="none of its 1 ids is an item's, the first is 'x'"):
        graded(write(tmp_path / "c.jsonl", {"id": "x", "completion": "x"}), item_set)
