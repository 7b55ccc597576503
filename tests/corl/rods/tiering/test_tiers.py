"""Tiers by formula, by votes and by pass rates, side by side; and how far they agree."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from corl.cli import main
from corl.config.rods import Difficulty
from corl.data.items import DIFFICULTIES, Item, read_items, write_items
from corl.rods.teachers.protocol import TeacherError
from corl.rods.tiering.agreement import agreement, compare
from corl.rods.tiering.assign import apply, by_formula, by_pass_rate, tiers_of
from corl.rods.tiering.attempts import read_attempts
from corl.rods.tiering.rubric import RubricSettings, by_rubric, decided, read_tier, rubric_messages


def item_of(k: int, score: float | None = None, **changes) -> Item:
    meta = {} if score is None else {"difficulty": {"score": score, "tier": "easy", "method": "formula"}}
    fields = {"difficulty": None, "meta": meta} | changes
    return Item(f"i{k}", "s", "en", None, f"What is {k}?", {"A": "this", "B": "that"}, "A", **fields)


def test_formula_cuts_the_score_at_the_settings_points() -> None:
    items = [item_of(k, score) for k, score in enumerate((0.0, 0.3499, 0.35, 0.5999, 0.6, 1.0))]
    tiered, report = apply(items, "formula", by_formula(items))
    assert [item.difficulty for item in tiered] == ["easy", "easy", "moderate", "moderate", "difficult", "difficult"]
    assert tiered[2].meta["tiers"] == {"formula": {"tier": "moderate", "score": 0.35}}
    assert report.tiers == {"easy": 2, "moderate": 2, "difficult": 2} and not report.note
    moved = by_formula(items, Difficulty(moderate_from=0.2, difficult_from=0.3))
    assert [verdict.tier for verdict in moved] == ["easy", *["difficult"] * 5]


def test_public_items_have_no_formula(tmp_path, capsys) -> None:
    items = [item_of(0, 0.7), item_of(1, difficulty="easy"), item_of(2)]
    tiered, report = apply(items, "formula", by_formula(items))
    assert [item.difficulty for item in tiered] == ["difficult", "easy", None] and report.left == 2
    assert "another" not in report.note and "2 items carry no score" in report.note
    write_items(tmp_path / "public.jsonl", items[1:])
    with pytest.raises(SystemExit) as stop:
        main(
            ["rods", "tier", str(tmp_path / "public.jsonl"), "--method", "formula", "--out", str(tmp_path / "t.jsonl")]
        )
    assert stop.value.code == 2 and "need --method llm or pass_rate" in capsys.readouterr().err
    assert not (tmp_path / "t.jsonl").exists()


def test_pass_rates() -> None:
    items = [item_of(k, difficulty="moderate") for k in range(6)]
    rates = {"i0": (10, 8), "i1": (10, 7), "i2": (10, 2), "i3": (10, 1), "i4": (0, 0)}
    tiered, report = apply(items, "pass_rate", by_pass_rate(items, rates))
    assert [i.difficulty for i in tiered] == ["easy", "moderate", "moderate", "difficult", "moderate", "moderate"]
    assert tiered[1].meta["tiers"]["pass_rate"] == {"tier": "moderate", "attempts": 10, "passes": 7, "rate": 0.7}
    assert report.left == 2 and "tiers" not in tiered[5].meta


def test_attempts_of_a_run_an_evaluation_and_a_pool(tmp_path) -> None:
    def rollout(item: str, version: int, correct: bool, formed: bool = True) -> str:
        grade = {"correct": correct, "format_ok": formed, "extracted": "A"}
        return json.dumps({"item": item, "policy_version": version, "grade": grade, "reward": 1.0}) + "\n"

    rollouts = tmp_path / "run" / "rollouts"
    rollouts.mkdir(parents=True)
    (rollouts / "step_2.jsonl").write_text(
        rollout("a", 2, True) + rollout("b", 2, False) + rollout("a", 2, True, False)
    )
    (rollouts / "step_10.jsonl").write_text(rollout("b", 9, True) + rollout("b", 9, True) + rollout("a", 1, True))
    assert read_attempts(tmp_path / "run") == {"a": (2, 1), "b": (2, 2)}, "the newest policy; a pass is well-formed"
    answers = tmp_path / "eval" / "answers.jsonl"
    answers.parent.mkdir()
    answers.write_text('{"id": "a", "correct": [true, false, false]}\n{"id": "b", "correct": [true]}\n{"id": "c", "cor')
    assert read_attempts(answers.parent) == read_attempts(answers) == {"a": (3, 1), "b": (1, 1)}
    pool = tmp_path / "run" / "checkpoints" / "step_000010_rl1" / "pool.npz"
    pool.parent.mkdir(parents=True)
    np.savez(pool, ids=np.array(["a", "b"]), log=np.array([[0, 0, 8, 1], [1, 0, 8, 8], [0, 5, 4, 4]]))
    assert read_attempts(tmp_path / "run") == read_attempts(pool) == {"a": (4, 4), "b": (8, 8)}
    for wrong, message in ((tmp_path, "holds neither"), (tmp_path / "no.jsonl", "cannot be read")):
        with pytest.raises(ValueError, match=message):
            read_attempts(wrong)
    (tmp_path / "x.jsonl").write_text('{"id": "a"}\n')
    with pytest.raises(ValueError, match="line 1: no attempt"):
        read_attempts(tmp_path / "x.jsonl")


@pytest.mark.parametrize(
    ("text", "tier"),
    [
        ("One fact. tier: easy", "easy"),
        ("<think>tier: easy?</think>\nTier: **Difficult**", "difficult"),
        ("tier: easy at first sight, but no.\ntier: moderate", "moderate"),
        ("Moderate.", "moderate"),
        ("It is not difficult at all", None),
        ("tier: uneasy", None),
        ("", None),
    ],
)
def test_reading_a_vote(text: str, tier: str | None) -> None:
    assert read_tier(text) == tier


def test_deciding() -> None:
    easy, moderate, difficult = DIFFICULTIES
    assert decided([easy, difficult, difficult]) == difficult
    assert decided([difficult, easy, moderate]) == moderate
    assert decided([None, easy, difficult]) == difficult and decided([None, None, None]) is None
    assert decided([None, None, easy]) == easy


class Voter:
    def __init__(self, says, budget: int = 10**6) -> None:
        self.says, self.budget, self.calls = says, budget, 0

    async def complete(self, messages, *, key, n=1, temperature, max_tokens) -> list[str]:
        if self.calls >= self.budget:
            raise TeacherError("out of budget")
        self.calls += 1
        return [self.says(int(key.split(":")[2]), messages[-1]["content"])]


def test_votes_are_kept_and_asked_for_once(tmp_path) -> None:
    items = [item_of(k) for k in range(5)]
    voter = Voter(lambda trial, text: ("tier: easy", "tier: difficult", "tier: difficult")[trial], budget=7)
    log, settings = tmp_path / "votes.jsonl", RubricSettings(name="m", width=1)
    first = asyncio.run(by_rubric(items, voter, log, settings))
    assert [verdict.tier for verdict in first] == ["difficult", "difficult", None, None, None]
    voter.budget = 10**6
    verdicts = asyncio.run(by_rubric(items, voter, log, settings))
    assert voter.calls == 15 and all(
        verdict.evidence["votes"] == ["easy", "difficult", "difficult"] for verdict in verdicts
    )
    assert "A. this" in rubric_messages(items[0])[1]["content"]
    right = replace(items[0], answer="B")
    assert rubric_messages(right) == rubric_messages(items[0]), "the key is not shown"


def test_kappa_by_hand() -> None:
    # Cohen's kappa: alike 0.7, chance 0.5 * 0.6 + 0.5 * 0.4 = 0.5
    found = agreement("a", "b", ((20, 5), (10, 15)))
    assert found.items == 50 and found.alike == pytest.approx(0.7) and found.kappa == pytest.approx(0.4)
    perfect = agreement("a", "b", ((3, 0, 0), (0, 4, 0), (0, 0, 5)))
    assert (perfect.kappa, perfect.weighted) == (1.0, 1.0)
    near, far = ((2, 2, 0), (2, 2, 0), (0, 0, 4)), ((2, 0, 2), (0, 4, 0), (2, 0, 2))
    assert agreement("a", "b", near).kappa == pytest.approx(agreement("a", "b", far).kappa)
    assert agreement("a", "b", near).weighted > agreement("a", "b", far).weighted
    assert agreement("a", "b", ((5, 0, 0), (0, 0, 0), (0, 0, 0))).kappa is None


def test_methods_stand_side_by_side(tmp_path, capsys) -> None:
    items = [item_of(k, k / 10) for k in range(10)]
    write_items(tmp_path / "items.jsonl", items)
    lines = [{"id": f"i{k}", "correct": [k < 4, k < 6]} for k in range(9)]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    one, two = str(tmp_path / "1.jsonl"), str(tmp_path / "2.jsonl")
    main(["rods", "tier", str(tmp_path / "items.jsonl"), "--method", "formula", "--out", one])
    rates = ["--pass-rates", str(tmp_path / "answers.jsonl")]
    main(["rods", "tier", one, "--method", "pass_rate", *rates, "--out", two, "--compare"])
    told = capsys.readouterr().out
    assert "formula and pass_rate: 9 items, alike 100.0%, kappa 1.000" in told
    tiered = read_items(two)
    assert tiers_of(tiered[5]) == {"formula": "moderate", "pass_rate": "moderate"}
    assert tiered[9].difficulty == "difficult", "kept where it was not attempted"
    assert [pair.items for pair in compare(tiered)] == [9]
    main(["rods", "tier", two, "--compare"])
    assert "kappa 1.000" in capsys.readouterr().out
    manifest = json.loads(Path(two + ".manifest.json").read_text())
    assert manifest["method"] == "pass_rate" and manifest["agreement"][0]["kappa"] == 1.0


def test_rates_and_teacher_must_be_named(tmp_path, capsys) -> None:
    write_items(tmp_path / "items.jsonl", [item_of(0, 0.5)])
    source, out = str(tmp_path / "items.jsonl"), str(tmp_path / "out.jsonl")
    for arguments in (
        ["--method", "pass_rate", "--out", out],
        ["--method", "llm", "--out", out],
        ["--method", "formula"],
    ):
        with pytest.raises(SystemExit) as stop:
            main(["rods", "tier", source, *arguments])
        assert stop.value.code == 2
    with pytest.raises(SystemExit):
        main(["rods", "tier", source, "--method", "formula", "--out", source])
    assert "is a file to read" in capsys.readouterr().err


def test_llm_tiers_at_a_server(tmp_path, serve_chat, capsys) -> None:
    pytest.importorskip("openai")
    chat = serve_chat(lambda body, count: f"tier: {DIFFICULTIES[len(body['messages'][-1]['content']) % 3]}")
    write_items(tmp_path / "items.jsonl", [item_of(k) for k in range(3)])
    out = tmp_path / "t.jsonl"
    command = ["rods", "tier", str(tmp_path / "items.jsonl"), "--method", "llm", "--out", str(out)]
    main([*command, "--teacher", chat.url, "--model", "m"])
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"{out}: 3 items = tiered 3 + left 0")
    assert (
        len(chat.bodies) == 9
        and read_items(out)[0].meta["tiers"]["llm"]["votes"] == [read_items(out)[0].difficulty] * 3
    )
    (tmp_path / "t.jsonl.requests.sqlite").unlink()
    main([*command, "--teacher", chat.url, "--model", "m"])
    assert len(chat.bodies) == 9, "the votes stand in a file of their own"
