"""One call at a time: what is sent, what comes back, how long is waited."""

import asyncio
import contextlib
import time
from email.utils import formatdate

import pytest

from corl.rods.teachers.endpoint import retry_after
from corl.rods.teachers.opening import TeacherPlan, open_teacher
from corl.rods.teachers.protocol import TeacherError

ASK = [{"role": "user", "content": "why?"}]


def ask(chat, tmp_path, *calls: dict, **plan):
    """The answers of the calls, all begun at once, and the teacher that gave them."""
    settings = {"retry_wait_s": 0.01, "retries": 2} | plan
    whole = TeacherPlan(teacher=chat.url, model="m", store=str(tmp_path / "s.sqlite"), **settings)

    async def run():
        async with open_teacher(whole) as teacher:
            asked = [
                teacher.complete(ASK, **{"key": "k", "temperature": 0.5, "max_tokens": 9} | call) for call in calls
            ]
            return await asyncio.gather(*asked, return_exceptions=True), teacher

    return asyncio.run(run())


def test_what_is_sent(serve_chat, tmp_path, monkeypatch) -> None:
    seen = {}

    def reply(body, _):
        seen.update(body)
        return "because"

    monkeypatch.setenv("MY_KEY", "secret")
    (answers,), teacher = ask(serve_chat(reply), tmp_path, {}, request='{"top_p": 0.9}', api_key_env="MY_KEY")
    assert answers == ["because"] and teacher.name == "m"
    seed = seen.pop("seed")
    assert type(seed) is int and 0 <= seed < 2**31
    assert seen == {"model": "m", "messages": ASK, "temperature": 0.5, "max_tokens": 9, "top_p": 0.9}
    assert b"secret" not in (tmp_path / "s.sqlite").read_bytes()


def test_fields_of_ours_can_be_left_out(serve_chat, tmp_path) -> None:
    chat = serve_chat(lambda *_: "yes")
    ask(chat, tmp_path, {}, request='{"seed": null, "max_tokens": null, "max_completion_tokens": 7}')
    assert set(chat.bodies[0]) == {"model", "messages", "temperature", "max_completion_tokens"}


def test_samples_differ_and_equal_calls_are_one_request(serve_chat, tmp_path) -> None:
    chat = serve_chat(lambda body, _: str(body["seed"]))
    answers, teacher = ask(chat, tmp_path, {"n": 3}, {"n": 3}, {"key": "other"})
    assert answers[0] == answers[1] and len({*answers[0], *answers[2]}) == 4
    assert len(chat.bodies) == 4 and teacher.usage.asked == 4
    again, teacher = ask(chat, tmp_path, {"n": 3}, {"key": "other"})
    assert [answers[0], answers[2]] == again and len(chat.bodies) == 4 and teacher.usage.stored == 4
    other, _ = ask(chat, tmp_path, {"n": 3}, seed=1)
    assert not set(other[0]) & set(answers[0])


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_thinking_that_the_server_split_off_comes_in_front(serve_chat, tmp_path, chat_reply, field) -> None:
    body = chat_reply("<answer>A</answer>")
    body["choices"][0]["message"][field] = " so it is A "
    (answers,), _ = ask(serve_chat(lambda *_: (200, {}, body)), tmp_path, {})
    assert answers == ["<think>so it is A</think>\n<answer>A</answer>"]
    body["choices"][0]["message"]["content"] = "<think>own</think><answer>A</answer>"
    (answers,), _ = ask(serve_chat(lambda *_: (200, {}, body)), tmp_path, {"key": "2"})
    assert answers == ["<think>own</think><answer>A</answer>"]


def test_a_server_that_counts_nothing_is_charged_by_bytes(serve_chat, tmp_path, chat_reply) -> None:
    body = chat_reply("三字经")
    del body["usage"]
    _, teacher = ask(serve_chat(lambda *_: (200, {}, body)), tmp_path, {})
    assert (teacher.usage.prompt_tokens, teacher.usage.completion_tokens) == (4, 9)


def test_retry_after_is_honoured_and_holds_for_all(serve_chat, tmp_path) -> None:
    """The first request is told to wait 0.4 s; the others, which waited for its seat, wait as well."""
    times = []

    def reply(_, count):
        times.append(time.monotonic())
        return (429, {"Retry-After": "0.4"}, {}) if len(times) == 1 else "yes"

    chat = serve_chat(reply)
    answers, teacher = ask(chat, tmp_path, *({"key": str(k)} for k in range(4)), concurrency=1)
    assert answers == [["yes"]] * 4 and len(times) == 5
    assert all(later - times[0] >= 0.39 for later in times[1:])
    assert teacher.pace.waits == 1


def test_a_wait_that_is_too_long_ends_the_call(serve_chat, tmp_path) -> None:
    chat = serve_chat(lambda *_: (429, {"Retry-After": "86400"}, {}))
    start = time.monotonic()
    (problem,), _ = ask(chat, tmp_path, {})
    assert isinstance(problem, TeacherError) and "asks for 86400 s" in str(problem)
    assert len(chat.bodies) == 1 and time.monotonic() - start < 5


def test_a_closed_port_is_a_failed_call(serve_chat, tmp_path) -> None:
    chat = serve_chat(lambda *_: "yes")
    chat.url = "http://127.0.0.1:9/v1"
    (problem,), teacher = ask(chat, tmp_path, {})
    assert isinstance(problem, TeacherError) and "no connection" in str(problem) and "3 attempts" in str(problem)
    assert teacher.usage.failed == 1 and teacher.pace.waits == 2


def test_one_refused_sample_fails_the_call_and_keeps_its_siblings(serve_chat, tmp_path) -> None:
    chat = serve_chat(lambda body, _: (400, {}, {}) if len(chat.bodies) == 2 else "yes")
    (problem,), _ = ask(chat, tmp_path, {"n": 3}, concurrency=1)
    assert isinstance(problem, TeacherError) and len(chat.bodies) == 3
    (problem,), teacher = ask(chat, tmp_path, {"n": 3})
    assert isinstance(problem, TeacherError) and len(chat.bodies) == 3 and teacher.usage.stored == 3


def test_a_lost_answer_counts_against_the_budget(serve_chat, tmp_path) -> None:
    """A time-out may have been charged for: its most, some 100 tokens, is counted."""

    def reply(*_):
        time.sleep(0.5)
        return "late"

    chat = serve_chat(reply)
    _, teacher = ask(chat, tmp_path, {}, timeout_s=0.1, retries=0, token_budget=10_000)
    lost = teacher.budget.spent
    assert 90 <= lost <= 110 and teacher.budget.reserved == 0
    _, teacher = ask(chat, tmp_path, {}, timeout_s=5, token_budget=10_000)
    assert teacher.budget.spent == lost + 70


def test_a_server_that_sends_byte_after_byte_does_not_hold_a_seat_for_ever(tmp_path) -> None:
    """Each byte comes well within the time-out, all of them do not."""

    async def drip(reader, writer):
        with contextlib.suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n")
            for _ in range(100):
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.05)

    async def run():
        server = await asyncio.start_server(drip, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        plan = TeacherPlan(teacher=url, model="m", store=str(tmp_path / "s"), timeout_s=0.4, retries=0)
        async with server, open_teacher(plan) as teacher:
            start = time.monotonic()
            with pytest.raises(TeacherError, match="no answer within"):
                await teacher.complete(ASK, key="k", temperature=1.0, max_tokens=5)
            return time.monotonic() - start

    assert asyncio.run(run()) < 3


def test_retry_after_in_every_spelling() -> None:
    assert retry_after({}) is None and retry_after({"retry-after": "soon"}) is None
    assert retry_after({"retry-after": "2"}) == 2 and retry_after({"retry-after": "1.5"}) == 1.5
    assert retry_after({"retry-after-ms": "250", "retry-after": "9"}) == 0.25
    assert retry_after({"retry-after": "-3"}) is None and retry_after({"retry-after": "inf"}) is None
    assert 8 < retry_after({"retry-after": formatdate(time.time() + 10, usegmt=True)}) <= 10
    assert retry_after({"retry-after": formatdate(time.time() - 10, usegmt=True)}) == 0
