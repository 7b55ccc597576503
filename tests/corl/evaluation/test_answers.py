import json
from dataclasses import asdict, replace

import pytest

from corl.data.shuffle import shuffle_options
from corl.evaluation.answers import ANSWERS, AnswerLog, answer_line, graded_answer, question_hash, read_answers


@pytest.fixture
def answers(make_column_items, make_answer):
    return [make_answer(item, "AB-", round_=k) for k, item in enumerate(make_column_items("pubmedqa", 4))]


def test_a_line_holds_the_item_its_completions_and_their_grades(answers):
    line = json.loads(answer_line(answers[1]))
    assert (line["id"], line["set"], line["gold"], line["round"]) == ("pubmedqa:1", "pubmedqa", "B", 1)
    assert line["completions"][0] == "<think>w</think>\n<answer>A</answer>"
    assert (line["tokens"], line["finish_reasons"]) == ([3, 3, 7], ["stop", "stop", "length"])
    assert (line["extracted"], line["correct"]) == (["A", "B", None], [False, True, False])
    assert line["format_ok"] == [True, True, False]


def test_the_prefill_is_graded_with_the_completion(make_column_items):
    (item,) = make_column_items("pubmedqa", 1)
    texts = ["w</think>\n<answer>A</answer>"]
    for prefill, well in (("<think>\n", True), ("", False)):
        found = graded_answer(item, "s", texts, tokens=[1], finish_reasons=["stop"], prefills=[prefill])
        assert found.format_ok == [well] and found.completions == texts


def test_what_is_appended_is_read_again_after_a_restart(answers, tmp_path):
    log = AnswerLog(tmp_path)
    log.append(answers[:2])
    assert read_answers(tmp_path) == log.answers == answers[:2]  # on disk while the log is open
    log.close()
    log = AnswerLog(tmp_path)
    assert log.answers == answers[:2]
    log.append(answers[2:])
    log.close()
    assert read_answers(tmp_path) == answers


def test_a_torn_last_line_is_cut_off_wherever_it_was_torn(answers, tmp_path):
    whole, torn = b"".join(map(answer_line, answers[:2])), answer_line(answers[2])
    for cut in (1, len(torn) // 2, len(torn) - 1):  # the last one is whole JSON, but for its newline
        (tmp_path / ANSWERS).write_bytes(whole + torn[:cut])
        assert read_answers(tmp_path) == answers[:2]
        log = AnswerLog(tmp_path)
        log.append(answers[2:])
        log.close()
        assert read_answers(tmp_path) == answers


@pytest.mark.parametrize("change", [
    lambda line: line[:20] + b"\n", lambda line: b"\0" * 9 + b"\n", lambda line: b"[]\n",
    lambda line: line.replace(b'"gold"', b'"hold"'), lambda line: line.replace(b"[3, 3, 7]", b"[3, 3]"),
    lambda line: line.replace(b'"round": 1', b'"round": null'),
])  # fmt: skip
def test_a_damaged_line_is_named(answers, tmp_path, change):
    lines = list(map(answer_line, answers))
    damaged = change(lines[1])
    assert damaged != lines[1]
    (tmp_path / ANSWERS).write_bytes(b"".join([lines[0], damaged, *lines[2:]]))
    with pytest.raises(ValueError, match=r"answers.jsonl, line 2: no answer .*remove the line"):
        read_answers(tmp_path)


def test_one_item_is_answered_once(answers, tmp_path):
    (tmp_path / ANSWERS).write_bytes(b"".join(map(answer_line, [*answers, answers[1]])))
    with pytest.raises(ValueError, match=r"line 5: item 'pubmedqa:1' is on line 2 already"):
        read_answers(tmp_path)


def test_two_processes_never_write_one_file(tmp_path, answers):
    log = AnswerLog(tmp_path)
    with pytest.raises(ValueError, match="another `corl eval` is writing there"):
        AnswerLog(tmp_path)
    log.append(answers)
    log.close()
    AnswerLog(tmp_path).close()


def test_half_a_surrogate_pair_survives(answers, tmp_path):
    strange = replace(answers[0], completions=["\ud800 x", "b", "c"])
    (tmp_path / ANSWERS).write_bytes(answer_line(strange))
    assert read_answers(tmp_path) == [strange]
    assert asdict(strange)["completions"][0] == "\ud800 x"


def test_a_question_is_the_same_in_any_order_of_its_options(make_column_items):
    items = make_column_items("medxpertqa", 2)
    shuffled = shuffle_options(items[0], seed=0, epoch=0)
    assert list(shuffled.options.values()) != list(items[0].options.values())
    assert question_hash(shuffled) == question_hash(items[0]) != question_hash(items[1])
    assert question_hash(replace(items[0], context="c")) != question_hash(items[0])
    other = items[0].options | {"A": "another"}
    assert question_hash(replace(items[0], options=other)) != question_hash(items[0])
