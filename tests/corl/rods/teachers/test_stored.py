"""Waits, budget and memory around a source that needs no network."""

import asyncio

import pytest

from corl.rods.teachers.budget import most_prompt_tokens
from corl.rods.teachers.pace import Patience, TryLater
from corl.rods.teachers.protocol import TeacherError
from corl.rods.teachers.store import Reply, RequestStore
from corl.rods.teachers.stored import StoredTeacher

ASK = [{"role": "user", "content": "why?"}]


class Source:
    """Answers by the calls' own list: a text, or the exception to raise."""

    model, params = "m@12", {}

    def __init__(self, *script, tokens: int = 10) -> None:
        self.script, self.tokens, self.calls, self.at_once, self.most_at_once = list(script), tokens, 0, 0, 0

    async def answer(self, ask) -> Reply:
        self.calls += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0.001)
        self.at_once -= 1
        said = self.script.pop(0) if self.script else "yes"
        if isinstance(said, Exception):
            raise said
        return Reply(said, self.tokens, self.tokens)

    async def close(self) -> None:
        pass


def calls(tmp_path, source: Source, count: int, *, one_by_one: bool = False, **settings):
    """The results of `count` calls under keys of their own."""

    async def run():
        store = RequestStore(tmp_path / "s.sqlite")
        teacher = StoredTeacher(source, store, **{"patience": Patience(retries=0, wait_s=0.001)} | settings)
        asked = [teacher.complete(ASK, key=str(k), temperature=1.0, max_tokens=10) for k in range(count)]
        try:
            if one_by_one:
                return [(await asyncio.gather(one, return_exceptions=True))[0] for one in asked], teacher
            return await asyncio.gather(*asked, return_exceptions=True), teacher
        finally:
            await teacher.close()

    return asyncio.run(run())


def test_only_failures_in_a_row_mean_that_the_server_is_gone(tmp_path) -> None:
    patience = Patience(retries=0, wait_s=0.001, give_up=3)
    script = [TryLater("busy"), TryLater("busy"), "yes"] * 5 + [TryLater("busy")] * 9
    source = Source(*script)
    results, _ = calls(tmp_path, source, 24, one_by_one=True, patience=patience)
    assert source.calls == 18 and [r for r in results if r == ["yes"]] == [["yes"]] * 5
    assert all("not asked: 3 calls in a row" in str(result) for result in results[18:])


def test_a_budget_waits_for_what_is_under_way_and_is_used_up(tmp_path) -> None:
    """Each request may cost 94 and costs 20: with 200 there is room for two at first, and for six in the end."""
    most = most_prompt_tokens(ASK) + 10
    assert most == 94
    source = Source()
    results, teacher = calls(tmp_path, source, 20, token_budget=200)
    assert source.most_at_once == 2
    assert sum(result == ["yes"] for result in results) == 6 == source.calls
    assert all(isinstance(r, TeacherError) and "120 of 200" in str(r) for r in results if r != ["yes"])
    assert teacher.budget.spent == 120 and teacher.budget.reserved == 0
    results, _ = calls(tmp_path, source, 20, token_budget=200)
    assert source.calls == 6 and sum(result == ["yes"] for result in results) == 6


def test_seats_bound_what_is_under_way(tmp_path) -> None:
    source = Source()
    calls(tmp_path, source, 20, concurrency=3)
    assert source.most_at_once == 3


def test_what_stops_the_run_stops_it(tmp_path) -> None:
    results, _ = calls(tmp_path, Source(ValueError("no such model")), 1)
    assert isinstance(results[0], ValueError) and not isinstance(results[0], TeacherError)


@pytest.mark.parametrize("text", ["plain", "汉字" * 50, "\ud800", ""])
def test_the_most_a_prompt_may_have_is_above_its_bytes(text) -> None:
    assert most_prompt_tokens([{"role": "user", "content": text}]) > len(text.encode(errors="replace"))
