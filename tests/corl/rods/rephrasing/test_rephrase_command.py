"""`corl rods rephrase`: another wording where the proof still holds, the template everywhere else."""

import contextlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from corl.cli import main
from corl.data.items import read_items, write_items
from corl.rods.graph import load_graph
from corl.rods.rephrasing.recheck import Recheck
from corl.rods.sampling.sample import sample_items
from corl.rods.sampling.settings import load_settings


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Forty items of the embedded graph, half of them Chinese."""
    path = tmp_path_factory.mktemp("made") / "items.jsonl"
    settings = load_settings(None)
    sample_items("embedded", path, items=40, seed=11, lang="both", workers=1, settings=settings, public=[])
    return read_items(path)


@pytest.fixture(scope="module")
def recheck() -> Recheck:
    return Recheck(load_graph("embedded"))


def harmless(question: str) -> str:
    return f"请看：{question}" if "？" in question or "。" in question else f"Please consider this. {question}"


def english(made, shape=None):
    return [item for item in made if item.lang == "en" and (shape is None or item.meta["shape"] == shape)]


def test_harmless_wordings_are_taken_and_the_audit_agrees(made, serve_chat, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    write_items("items.jsonl", made)
    chat = serve_chat(lambda body, _: f'<think>hm</think>"{harmless(body["messages"][1]["content"])}"')
    command = ["rods", "rephrase", "items.jsonl", "--out", "new.jsonl", "--teacher", chat.url, "--model", "m"]
    main(command)
    assert "new.jsonl: 40 items; 40 rephrased" in capsys.readouterr().out
    for old, new in zip(made, read_items("new.jsonl"), strict=True):
        assert new.question == harmless(old.question) and new.options == old.options and new.id == old.id
        assert new.meta == old.meta | {"rephrased": {"teacher": "m", "template": old.question}}
    main(command)
    assert len(chat.bodies) == 40
    with contextlib.suppress(SystemExit):  # bounds over forty items are no matter here
        main(["rods", "audit", "new.jsonl"])
    assert "ambiguous=0 leaks=0" in capsys.readouterr().out


def test_what_changes_the_question_keeps_the_template(made, recheck) -> None:
    for item in made:
        zh = item.lang == "zh"
        clue = item.meta["clues"][0]["node"]
        surface = item.meta["surfaces"][clue]
        stem = item.question
        answer = item.options[item.answer]
        wrongs = {
            "clue lost": stem.replace(surface, "某表现" if zh else "one finding"),
            "answer named": f"{stem}（{answer}）" if zh else f"{stem} ({answer})",
            "stranger": f"{stem}患者还有偏头痛。" if zh else f"{stem} There is also migraine.",
            "number": f"30岁。{stem}" if zh else f"A 30-year-old. {stem}",
            "language": "What is the diagnosis here, given everything that was said above?"
            if zh
            else "请问这是什么病？" * 4,
            "two lines": f"{stem}\n",
            "markup": f"**{stem}**",
            "long": stem * 4,
            "damaged": f"{stem}\ufffd",
        }
        for why, question in wrongs.items():
            changed = replace(item, question=question)
            if question != stem and not (why == "stranger" and "migraine" in str(item.meta)):
                assert recheck.problem(item, changed) is not None, (why, question)
        assert recheck.problem(item, replace(item, question=harmless(stem))) is None


def test_a_negation_may_neither_come_nor_go(made, recheck) -> None:
    exceptions = [item for item in made if item.meta["shape"] == "exception"]
    assert exceptions
    for item in exceptions:
        turned = (
            item.question.replace("NOT", "certainly").replace("不", "都").replace("except", "with").replace("除", "含")
        )
        if turned != item.question:
            assert recheck.problem(item, replace(item, question=turned)) == "a negation more or less"
    star = english(made, "star")[0]
    assert (
        recheck.problem(star, replace(star, question=f"{star.question} It is not rare.")) == "a negation more or less"
    )


def test_refusals_failures_and_other_items_stay(made, serve_chat, tmp_path, monkeypatch, wilson_items) -> None:
    monkeypatch.chdir(tmp_path)
    items = [*made[:4], *wilson_items(1)]
    write_items("items.jsonl", items)
    answers = iter(["I cannot help.", (500, {}, {}), "", (400, {}, {})])
    chat = serve_chat(lambda *_: next(answers))
    command = ["rods", "rephrase", "items.jsonl", "--out", "new.jsonl", "--teacher", chat.url, "--model", "m"]
    main([*command, "--retries", "0", "--concurrency", "1"])
    assert read_items("new.jsonl") == items
    outcomes = [one["outcome"] for one in json.loads(Path("new.jsonl.report.json").read_text())["outcomes"]]
    assert outcomes[4] == "not of a graph"
    assert [outcome.partition(":")[0] for outcome in outcomes[:4]] == ["kept", "failed", "kept", "failed"]


def test_wrong_calls_are_one_line(made, tmp_path, monkeypatch, capsys, wilson_items) -> None:
    monkeypatch.chdir(tmp_path)
    write_items("items.jsonl", made[:1])
    write_items("public.jsonl", wilson_items(1))
    teacher = ["--teacher", "http://x/v1", "--model", "m"]
    for more, said in (
        (["public.jsonl", "--out", "new.jsonl"], "no item has meta.shape"),
        (["items.jsonl", "--out", "items.jsonl"], "choose another --out"),
        (["items.jsonl", "--out", "new.jsonl", "--graph", "synthetic:100"], "graph"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(["rods", "rephrase", *more, *teacher])
        assert stopped.value.code == 2 and said in capsys.readouterr().err
    assert not Path("new.jsonl").exists()
