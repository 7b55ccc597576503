"""`corl rods distill --teacher`: every kind of teacher, every item accounted for, no request twice."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from corl.cli import main
from corl.data.items import read_traces, write_items
from corl.grading import grade

ROOT = Path(__file__).resolve().parents[4]
FAST = ("--retry-wait", "0.01", "--retries", "2")


def distil(chat, *more: str) -> list[str]:
    command = ["rods", "distill", "items.jsonl", "--out", "traces.jsonl", "--teacher", chat.url, "--model", "m"]
    return [*command, *FAST, *more]


def code_of(command: list[str]) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(command)
    return stopped.value.code


def report() -> dict:
    return json.loads(Path("traces.jsonl.report.json").read_text())


@pytest.fixture
def here(tmp_path, monkeypatch, wilson_items):
    monkeypatch.chdir(tmp_path)
    items = wilson_items(6)
    write_items("items.jsonl", items)
    return items


def test_an_oracle_gives_a_trace_for_every_item_and_is_asked_once(here, serve_chat, written, item_of, capsys) -> None:
    chat = serve_chat(lambda body, _: written(item_of(body, here).answer))
    main(distil(chat, "--k", "3"))
    traces = read_traces("traces.jsonl")
    assert [t.item.id for t in traces] == [item.id for item in here]
    assert all(grade(t.completion, t.item.options, t.item.answer).correct for t in traces)
    assert all(t.teacher == "m" and not t.label_conditioned and t.checks["passed"] for t in traces)
    assert traces[0].checks["selection"] == {
        "how": "shortest", "samples": 3, "right": 3, "sound": 3, "pass@k": {"1": 1.0, "2": 1.0}
    }  # fmt: skip
    assert len(chat.bodies) == 18 and chat.repeated == 0  # every sample has a seed of its own
    files = [Path(name).read_bytes() for name in ("traces.jsonl", "traces.jsonl.report.json")]
    assert report()["traces"] == {"shortest": 6} and report()["pass@k"] == {"1": 1.0, "2": 1.0}
    capsys.readouterr()
    main(distil(chat, "--k", "3"))
    assert len(chat.bodies) == 18
    assert [Path(name).read_bytes() for name in ("traces.jsonl", "traces.jsonl.report.json")] == files
    assert "0 requests answered, 18 from the store" in capsys.readouterr().out


def test_more_samples_ask_only_for_the_new_ones(here, serve_chat, written, item_of) -> None:
    chat = serve_chat(lambda body, _: written(item_of(body, here).answer))
    main(distil(chat, "--k", "2"))
    main(distil(chat, "--k", "5"))
    assert len(chat.bodies) == 30


def test_the_label_is_not_in_what_is_asked_without_it(here, serve_chat, written, item_of) -> None:
    chat = serve_chat(lambda body, _: written("ABCD"["ABCD".index(item_of(body, here).answer) - 1]))
    assert code_of(distil(chat, "--k", "2", "--told-share", "0")) == 2
    assert chat.bodies
    for body in chat.bodies:
        answer = item_of(body, here).answer
        others = "".join(m["content"] for m in body["messages"] if "Options:" not in m["content"])
        assert f"{answer}. " not in others and "correct option is" not in others


def test_a_teacher_that_is_always_wrong_accounts_for_every_item(here, serve_chat, written, item_of, capsys) -> None:
    chat = serve_chat(lambda body, _: written("ABCD"["ABCD".index(item_of(body, here).answer) - 1]))
    assert code_of(distil(chat, "--k", "2", "--told-share", "1")) == 2
    assert "no item of items.jsonl gave a trace; 6 of 6: no sound completion, even with" in capsys.readouterr().err
    assert not Path("traces.jsonl").exists()
    outcomes = report()["outcomes"]
    assert [o["id"] for o in outcomes] == [item.id for item in here]
    assert {o["outcome"] for o in outcomes} == {"failed"}
    # An item: 2 samples, 3 strategies on each of 2 attempts, 2 with the label.
    assert len(chat.bodies) == 6 * (2 + 6 + 2) and chat.repeated == 0
    assert code_of(distil(chat, "--k", "2", "--told-share", "1")) == 2
    assert len(chat.bodies) == 60


def test_a_random_teacher_is_selected_from_and_refined(here, serve_chat, written, item_of) -> None:
    def reply(body, _):
        return written(random.Random(json.dumps(body)).choice("ABCD"))

    chat = serve_chat(reply)
    main(distil(chat, "--k", "4"))
    traces = read_traces("traces.jsonl")
    told = report()["outcomes"]
    assert all(t.checks["answer"] and t.checks["passed"] for t in traces)
    assert len(traces) == sum(o["outcome"] == "trace" for o in told) and len(told) == 6
    assert {o["how"] for o in told if o["outcome"] == "trace"} >= {"best", "refined"}
    for trace in traces:
        if trace.checks["selection"]["how"] == "best":
            assert 0 < trace.checks["selection"]["right"] < 4


def test_refinement_corrects_and_says_how(here, serve_chat, written, item_of) -> None:
    def reply(body, _):
        item = item_of(body, here)
        wrong = "ABCD"["ABCD".index(item.answer) - 1]
        return written(item.answer if len(body["messages"]) == 4 else wrong)

    chat = serve_chat(reply)
    main(distil(chat, "--k", "2"))
    traces = read_traces("traces.jsonl")
    assert len(traces) == 6 and len(chat.bodies) == 6 * 3
    for trace in traces:
        story = trace.checks["selection"]
        assert story["how"] == "refined" and story["tries"] == 1 and story["right"] == 0
        assert len(story["strategies"]) == 1 and story["strategies"][0] != "backtracking"
    retries = [body["messages"] for body in chat.bodies if len(body["messages"]) == 4]
    assert all("The conclusion is not right." in messages[3]["content"] for messages in retries)


def test_told_the_label_it_is_flagged_and_capped(here, serve_chat, written, item_of) -> None:
    """Three items are solved; of the others the file may have a quarter told: one, the first in item order."""

    def reply(body, _):
        item = item_of(body, here)
        told = "correct option is" in body["messages"][-1]["content"]
        wrong = "ABCD"["ABCD".index(item.answer) - 1]
        return written(item.answer if told or item in here[3:] else wrong)

    chat = serve_chat(reply)
    main(distil(chat, "--k", "2", "--told-share", "0.25"))
    traces = read_traces("traces.jsonl")
    assert [(t.item.id, t.label_conditioned) for t in traces] == [
        ("case:0", True), ("case:3", False), ("case:4", False), ("case:5", False)
    ]  # fmt: skip
    assert traces[0].checks["selection"]["how"] == "label_conditioned"
    reasons = [o["how"] for o in report()["outcomes"] if o["outcome"] == "failed"]
    assert len(reasons) == 2 and all("share of label-conditioned traces is full" in reason for reason in reasons)


def test_what_the_label_made_is_checked_too(here, serve_chat, written, item_of) -> None:
    def reply(body, _):
        item = item_of(body, here)
        if "correct option is" in body["messages"][-1]["content"]:
            return written(item.answer, "As the given answer is known, every finding of the case has to fit it. " * 3)
        return written(item.answer if item in here[3:] else "?")

    main(distil(serve_chat(reply), "--k", "1", "--told-share", "0.9"))
    assert [t.item.id for t in read_traces("traces.jsonl")] == ["case:3", "case:4", "case:5"]
    assert all("nearest fails leak" in o["how"] for o in report()["outcomes"][:3])


@pytest.mark.parametrize(
    "text", ["I cannot help with medical questions.", "", "<answer>A</answer>", "<think>x", "\ud800"], ids=ascii
)
def test_refusals_and_other_texts_without_reasoning_fail(here, serve_chat, text) -> None:
    chat = serve_chat(lambda *_: text)
    assert code_of(distil(chat, "--k", "1", "--tries", "1", "--depth", "1")) == 2
    assert [o["outcome"] for o in report()["outcomes"]] == ["failed"] * 6
    asked = len(chat.bodies)
    assert code_of(distil(chat, "--k", "1", "--tries", "1", "--depth", "1")) == 2
    assert len(chat.bodies) == asked


MALFORMED = {
    "not json": b"<html>busy</html>",
    "cut off": b'{"choices": [{"mess',
    "a list": [],
    "null": None,
    "no choices": {"choices": []},
    "choices null": {"choices": None},
    "no message": {"choices": [{"index": 0}]},
    "not utf-8": b'{"choices": [{"message": {"content": "\xff\xfe"}}]}',
}


@pytest.mark.parametrize("content", MALFORMED.values(), ids=MALFORMED)
def test_malformed_replies_are_tried_again_and_then_accounted_for(here, serve_chat, written, item_of, content) -> None:
    def reply(body, count):
        item = item_of(body, here)
        if item is here[0] or count == 0:
            return 200, {}, content
        return written(item.answer)

    chat = serve_chat(reply)
    main(distil(chat, "--k", "1"))
    outcomes = report()["outcomes"]
    assert [o["outcome"] for o in outcomes] == ["failed"] + ["trace"] * 5
    assert "3 attempts" in outcomes[0]["how"]


@pytest.mark.parametrize("status", [429, 500, 503, 408])
def test_failing_at_first_costs_waits_and_nothing_else(here, serve_chat, written, item_of, status) -> None:
    def reply(body, count):
        return written(item_of(body, here).answer) if count else (status, {}, {"error": {"message": "busy"}})

    chat = serve_chat(reply)
    main(distil(chat, "--k", "2"))
    assert len(read_traces("traces.jsonl")) == 6 and chat.answered == 12 and len(chat.bodies) == 24
    main(distil(chat, "--k", "2"))
    assert len(chat.bodies) == 24


def test_failing_for_ever_ends_with_every_item_accounted_for(here, serve_chat, written, item_of) -> None:
    """The next run asks again for what failed, and for that alone."""
    broken = {"now": True}

    def reply(body, _):
        item = item_of(body, here)
        if broken["now"] and item in here[:4]:
            return 429 if item in here[:2] else 500, {}, {"error": {"message": "no"}}
        return written(item.answer)

    chat = serve_chat(reply)
    main(distil(chat, "--k", "1"))
    outcomes = report()["outcomes"]
    assert [o["outcome"] for o in outcomes] == ["failed"] * 4 + ["trace"] * 2
    assert "HTTP 429" in outcomes[0]["how"] and "HTTP 500" in outcomes[3]["how"]
    assert len(chat.bodies) == 4 * 3 + 2
    broken["now"] = False
    main(distil(chat, "--k", "1"))
    assert len(read_traces("traces.jsonl")) == 6 and len(chat.bodies) == 4 * 3 + 2 + 4


def test_a_server_that_is_gone_is_given_up(here, serve_chat, wilson_items) -> None:
    write_items("items.jsonl", wilson_items(60))
    chat = serve_chat(lambda *_: (500, {}, {}))
    assert code_of(distil(chat, "--k", "1", "--retries", "0", "--concurrency", "2")) == 2
    outcomes = report()["outcomes"]
    assert len(outcomes) == 60 and all(o["outcome"] == "failed" for o in outcomes)
    assert 32 <= len(chat.bodies) <= 34 and "not asked: " in outcomes[-1]["how"]


@pytest.mark.parametrize(("status", "code"), [(401, ""), (404, ""), (429, "insufficient_quota")])
def test_what_no_request_will_get_past_stops_the_run(here, serve_chat, status, code, capsys) -> None:
    chat = serve_chat(lambda *_: (status, {}, {"error": {"message": "no such thing", "code": code}}))
    assert code_of(distil(chat, "--k", "1", "--concurrency", "1")) == 2
    said = capsys.readouterr().err
    assert said.count("error:") == 1 and f"error: {chat.url}: HTTP {status}" in said.splitlines()[-1]
    assert len(chat.bodies) <= 2 and not Path("traces.jsonl").exists()


def test_a_refused_request_is_remembered(here, serve_chat, written, item_of) -> None:
    def reply(body, _):
        item = item_of(body, here)
        return (400, {}, {"error": {"message": "too long"}}) if item is here[2] else written(item.answer)

    chat = serve_chat(reply)
    for _ in range(2):
        main(distil(chat, "--k", "1"))
        assert [o["outcome"] for o in report()["outcomes"]] == ["trace"] * 2 + ["failed"] + ["trace"] * 3
        assert "HTTP 400" in report()["outcomes"][2]["how"]
        assert len(chat.bodies) == 6


def test_a_slow_server_is_left_after_the_time_out(here, serve_chat, written, item_of) -> None:
    def reply(body, count):
        item = item_of(body, here)
        if item is here[0] or (item is here[1] and not count):
            time.sleep(3.0)
        return written(item.answer)

    chat = serve_chat(reply)
    main(distil(chat, "--k", "1", "--timeout", "1.5", "--retries", "1"))
    assert [o["outcome"] for o in report()["outcomes"]] == ["failed"] + ["trace"] * 5
    assert "no answer within 1.5 s" in report()["outcomes"][0]["how"]


def test_a_budget_is_not_overdrawn_nor_refilled(here, serve_chat, written, item_of, chat_reply, capsys) -> None:
    """A request costs 400 tokens and may cost some 1,400: the third does not fit in 2,000."""

    def reply(body, _):
        return 200, {}, chat_reply(written(item_of(body, here).answer), 300, 100)

    chat = serve_chat(reply)
    command = distil(chat, "--k", "1", "--max-tokens", "100", "--token-budget")
    assert code_of([*command, "2500"]) == 1
    first = len(chat.bodies)
    assert 1 <= first <= 6 and 400 * first <= 2500
    told = capsys.readouterr().out
    assert f"{first} traces of 6 items" in told and "raise --token-budget" in told
    assert [o["outcome"] for o in report()["outcomes"]].count("budget") == 6 - first
    assert code_of([*command, "2500"]) == 1
    assert len(chat.bodies) == first
    main([*command, "50000"])
    assert len(read_traces("traces.jsonl")) == 6 and len(chat.bodies) == 6


def test_no_more_requests_at_once_than_asked_for(here, serve_chat, written, item_of) -> None:
    def reply(body, _):
        time.sleep(0.02)
        return written(item_of(body, here).answer)

    chat = serve_chat(reply)
    main(distil(chat, "--k", "4", "--concurrency", "3"))
    assert chat.most_at_once == 3


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on_where_it_was(here, serve_chat, written, item_of, wilson_items) -> None:
    items = wilson_items(16)
    write_items("items.jsonl", items)

    def reply(body, _):
        time.sleep(0.02)
        return written(random.Random(json.dumps(body)).choice("ABCD"))

    chat = serve_chat(reply)
    command = distil(chat, "--k", "4", "--concurrency", "4")
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}"}
    process = subprocess.Popen([sys.executable, "-m", "corl.cli", *command], env=environment)
    end = time.monotonic() + 60
    while chat.answered < 30 and process.poll() is None and time.monotonic() < end:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert chat.answered >= 30 and not Path("traces.jsonl").exists()
    main(command)
    assert chat.repeated <= 4  # what was under way, and no more
    files = [Path(name).read_bytes() for name in ("traces.jsonl", "traces.jsonl.report.json")]
    for leftover in Path().glob("traces.jsonl*"):
        leftover.unlink()
    main(command)  # all of it anew, not killed
    assert [Path(name).read_bytes() for name in ("traces.jsonl", "traces.jsonl.report.json")] == files


def test_wrong_calls_are_one_line(here, capsys) -> None:
    start = ["rods", "distill", "items.jsonl", "--out", "t.jsonl"]
    for more, said in (
        (["--k", "3"], "--k is of a teacher"),
        (["--teacher", "http://127.0.0.1:9/v1"], "--model"),
        (["--teacher", "nowhere"], "give a URL"),
        (["--teacher", "http://x/v1", "--model", "m", "--request", "{"], "not JSON"),
        (["--teacher", "http://x/v1", "--model", "m", "--request", "[1]"], "JSON object"),
        (["--teacher", "http://x/v1", "--model", "m", "--k", "0"], "samples=0"),
        (["--teacher", "http://x/v1", "--model", "m", "--words", "9"], "--words 9"),
        (["--teacher", "http://x/v1", "--model", "m", "--told-share", "1.5"], "told_share"),
        (["--teacher", "http://x/v1", "--model", "m", "--token-budget", "0"], "--token-budget 0"),
        (["--teacher", "http://x/v1", "--model", "m", "--temperature", "0"], "all alike"),
        (["--teacher", "http://x/v1", "--model", "m", "--store", "items.jsonl"], "--store"),
    ):
        assert code_of([*start, *more]) == 2
        assert said in capsys.readouterr().err, more
    assert not Path("t.jsonl").exists() and Path("items.jsonl").read_bytes().startswith(b'{"id"')
