"""Five trials: what an oracle, an always wrong, a random, a refusing and a malformed teacher lead to."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from corl.cli import main
from corl.data.items import Item, read_items, write_items
from corl.rods.labelling.check import ANSWERS, LabelSettings, check_labels
from corl.rods.labelling.votes import VoteLog


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def items(wilson_items) -> list[Item]:
    return wilson_items(12)


def run(tmp_path: Path, items: list[Item], teacher, name: str = "out", **settings):
    source = tmp_path / "items.jsonl"
    write_items(source, items)
    return asyncio.run(check_labels([source], tmp_path / name, teacher, LabelSettings(name="stub", **settings)))


def test_oracle_keeps_all(tmp_path, items, make_stub) -> None:
    stub = make_stub(items, "oracle")
    report = run(tmp_path, items, stub)
    assert (report.read, report.kept, report.review, report.unanswered) == (12, 12, 0, 0)
    assert report.right == {5: 12} and sum(stub.calls.values()) == 60
    kept = read_items(tmp_path / "out" / "kept.jsonl")
    assert [replace(item, meta={}) for item in kept] == items, "nothing but meta.label_check is added"
    assert kept[0].meta["label_check"] == {
        "trials": 5, "right": 5, "votes": [items[0].answer] * 5, "majority": items[0].answer, "agree": True,
    }  # fmt: skip
    assert any(len(orders) > 2 for orders in stub.orders.values()), "the options come in another order each trial"


def test_always_wrong_goes_to_review_with_what_it_says_instead(tmp_path, items, make_stub) -> None:
    report = run(tmp_path, items, make_stub(items, "wrong"))
    assert (report.kept, report.review, report.right) == (0, 12, {0: 12})
    for record, item in zip(lines_of(tmp_path / "out" / "review.jsonl"), items, strict=True):
        said = "B" if item.answer == "A" else "A"
        assert record["item"]["answer"] == item.answer, "never relabelled"
        assert record["label_check"]["majority"] == said and record["label_check"]["agree"]
        assert record["reasons"][0]["code"] == "label_agrees_on_another"


def test_scattered_votes_are_another_reason(tmp_path, items, make_stub) -> None:
    run(tmp_path, items, make_stub(items, "scattered"))
    codes = {record["item"]["id"]: record["reasons"][0]["code"] for record in lines_of(tmp_path / "out/review.jsonl")}
    votes = {r["item"]["id"]: set(r["label_check"]["votes"]) for r in lines_of(tmp_path / "out/review.jsonl")}
    assert len(codes) == 12 and "label_never_right" in codes.values()
    assert all((codes[id_] == "label_agrees_on_another") == (len(votes[id_]) == 1) for id_ in codes)


def test_random_is_flagged_about_as_often_as_chance_says(tmp_path, wilson_items, make_stub) -> None:
    items = wilson_items(400)
    report = run(tmp_path, items, make_stub(items, "random"))
    # 0.75 ** 5 = 0.237 of 400, standard deviation 8.5
    assert 62 <= report.review <= 128
    mean = sum(right * count for right, count in report.right.items()) / 400
    assert 1.05 <= mean <= 1.45, "letters mapped back: a right answer is one vote in four"


@pytest.mark.parametrize("kind", ["refusing", "malformed"])
def test_answers_that_cannot_be_read_are_not_right(kind: str, tmp_path, items, make_stub) -> None:
    report = run(tmp_path, items, make_stub(items, kind))
    assert (report.kept, report.review) == (0, 12)
    found = lines_of(tmp_path / "out" / "review.jsonl")[0]["label_check"]
    assert (found["votes"], found["majority"], found["agree"]) == ([None] * 5, None, False)


def test_least_right_and_trials(tmp_path, wilson_items, make_stub) -> None:
    items = wilson_items(60)
    report = run(tmp_path, items, make_stub(items, "random"), trials=3, least_right=3)
    assert report.kept == report.right.get(3, 0) < 20 and sum(report.right.values()) == 60
    with pytest.raises(ValueError, match="least-right"):
        LabelSettings(name="x", trials=2, least_right=3)


def test_resume_asks_nothing_twice_and_gives_the_same_bytes(tmp_path, items, make_stub) -> None:
    whole = run(tmp_path, items, make_stub(items, "random"), name="whole")
    stub = make_stub(items, "random")
    stub.fail_after = 23
    report = run(tmp_path, items, stub, name="part")
    assert report.unanswered and report.read == report.kept + report.review + report.unanswered
    assert report.failures == {"out of budget": 60 - 23}
    answers = tmp_path / "part" / ANSWERS
    answers.write_bytes(answers.read_bytes()[:-7])  # killed while it wrote
    stub.fail_after = None
    again = run(tmp_path, items, stub, name="part")
    assert again == whole and max(stub.calls.values()) <= 2 and sum(stub.calls.values()) == 61
    for name in ("kept.jsonl", "review.jsonl", "unanswered.jsonl", "manifest.json"):
        assert (tmp_path / "part" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    run(tmp_path, items, stub, name="part")
    assert sum(stub.calls.values()) == 61


def test_answers_to_something_else_are_asked_again(tmp_path, items, make_stub) -> None:
    stub = make_stub(items, "oracle")
    run(tmp_path, items, stub)
    changed = [replace(items[0], question=items[0].question.replace("tremor", "a shake")), *items[1:]]
    stub.items = changed
    run(tmp_path, changed, stub)
    assert sum(stub.calls.values()) == 65
    run(tmp_path, changed, stub, temperature=0.5)
    assert sum(stub.calls.values()) == 125


def test_pinned_options_are_not_shuffled_and_not_mapped(tmp_path, make_stub) -> None:
    options = {"A": "yes", "B": "no", "C": "maybe", "D": "not sure"}
    earlier = {"shuffled": {"seed": 1, "epoch": 2, "order": "DCBA"}}
    item = Item("p", "s", "en", None, "Does it rain on the farm today?", options, "B", None, earlier)
    report = run(tmp_path, [item], make_stub([item], "oracle"))
    assert report.right == {5: 1}


def test_a_second_process_and_a_damaged_log(tmp_path) -> None:
    place = tmp_path / ANSWERS
    with VoteLog(place) as log:
        log.add("a", 0, "d", None)
        with pytest.raises(ValueError, match="another process"):
            VoteLog(place)
    place.write_text(place.read_text() + '{"id": 3}\n')
    with pytest.raises(ValueError, match="line 2: no vote"):
        VoteLog(place)


def test_command_at_a_server(tmp_path, items, serve_chat, written, item_of, capsys) -> None:
    pytest.importorskip("openai")

    def reply(body, count):
        if count == 0 and len(chat.bodies) % 5 == 0:
            return 429, {"Retry-After": "0.01"}, {"error": {"message": "slow down"}}
        shown = body["messages"][-1]["content"]
        item = next(item for item in items if item.question in shown)
        letter = next(line[0] for line in shown.splitlines() if line[1:] == f". {item.options[item.answer]}")
        return written(letter)

    chat = serve_chat(reply)
    source = tmp_path / "items.jsonl"
    write_items(source, items)
    command = ["rods", "label", str(source), "--out", str(tmp_path / "out"), "--teacher", chat.url, "--model", "m"]
    main([*command, "--trials", "3", "--retry-wait", "0.01"])
    assert capsys.readouterr().out.splitlines()[-1].endswith("read 12 = kept 12 + review 0 + unanswered 0")
    asked = len(chat.bodies)
    main([*command, "--trials", "3"])
    assert len(chat.bodies) == asked
