"""Decisions on a review file: logged, replayable, and never a change to the file itself."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from corl.cli import main
from corl.data.items import read_items
from corl.rods.labelling.review import Progress, accepted_of, decide, describe, log_of, read_review, replay


@pytest.fixture
def review(tmp_path, wilson_items) -> Path:
    path = tmp_path / "review.jsonl"
    reasons = [{"code": "label_never_right", "detail": "0 of 5"}]
    lines = [json.dumps({"filter": "label", "reasons": reasons, "item": asdict(item)}) for item in wilson_items(4)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_decisions_and_what_follows(review) -> None:
    before = review.read_bytes()
    assert decide(review, "accept", ["case:2"]) == Progress(4, 3, 1, 0, 0)
    assert decide(review, "fix", ["case:0"], "C") == Progress(4, 2, 1, 1, 0)
    assert decide(review, "drop", ["case:1"]) == Progress(4, 1, 1, 1, 1)
    items = read_items(accepted_of(review))
    assert [(item.id, item.answer) for item in items] == [("case:0", "C"), ("case:2", "C")], "in the file's order"
    assert items[0].meta["review"] == {"decision": "fix", "filter": "label", "answer_was": "A"}
    assert review.read_bytes() == before
    assert [line.split(":")[1] for line in describe(review)] == ["3"]
    assert decide(review, "drop", ["case:0"]) == Progress(4, 1, 1, 0, 2), "the last decision counts"


def test_the_log_replays_to_the_same_bytes(review, tmp_path) -> None:
    decide(review, "fix", ["case:1"], "A")
    decide(review, "accept", ["case:3", "case:2"])
    decide(review, "drop", ["case:2"])
    wanted = accepted_of(review).read_bytes()
    accepted_of(review).unlink()
    replay(review)
    assert accepted_of(review).read_bytes() == wanted
    copy = tmp_path / "elsewhere" / "review.jsonl"
    copy.parent.mkdir()
    shutil.copy(review, copy)
    assert replay(copy, log_of(review)) == Progress(4, 1, 1, 1, 1)
    assert accepted_of(copy).read_bytes() == wanted and log_of(copy).read_bytes() == log_of(review).read_bytes()
    assert replay(copy, log_of(review)) == replay(copy), "again is no more"
    assert log_of(copy).read_bytes() == log_of(review).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("accept", ["nobody"], None), "no item 'nobody'"),
        (("fix", ["case:0"], None), "needs --answer"),
        (("drop", ["case:0"], "B"), "has no --answer"),
        (("fix", ["case:0"], "A"), "has answer A already"),
        (("fix", ["case:1", "case:0"], "Z"), "answer"),
    ],
)
def test_wrong_decisions_leave_no_trace(review, arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        decide(review, *arguments)
    assert not log_of(review).exists() and not accepted_of(review).exists()


def test_a_decision_is_on_one_item_only(review) -> None:
    decide(review, "accept", ["case:0"])
    review.write_text(review.read_text().replace("Case 0: tremor", "Case 0: chorea"))
    with pytest.raises(ValueError, match="not the one"):
        replay(review)


def test_a_torn_decision_does_not_count(review) -> None:
    decide(review, "accept", ["case:0"])
    with log_of(review).open("a") as log:
        log.write('{"id": "case:1", "deci')
    assert replay(review).accepted == 1
    decide(review, "drop", ["case:2"])
    assert replay(review) == Progress(4, 2, 1, 0, 1) and len(log_of(review).read_text().splitlines()) == 2


def test_command(review, tmp_path, capsys) -> None:
    main(["rods", "review", str(review)])
    assert capsys.readouterr().out.splitlines()[0] == "case:0: answer A; label: label_never_right: 0 of 5"
    main(["rods", "review", str(review), "fix", "--id", "case:0", "--answer", "B"])
    assert "open 3 + accepted 0 + fixed 1 + dropped 0" in capsys.readouterr().out
    main(["rods", "review", str(review), "replay"])
    assert len(read_review(review)) == 4
    other = tmp_path / "items.jsonl"
    other.write_text("{}\n")
    for wrong in ([str(other)], [str(review), "accept"], [str(tmp_path / "nowhere")]):
        with pytest.raises(SystemExit) as stop:
            main(["rods", "review", *wrong])
        assert stop.value.code == 2
