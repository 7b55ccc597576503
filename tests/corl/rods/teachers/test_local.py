"""A checkpoint as a teacher: the engine's own draws, whatever shares the batch."""

import asyncio
import json
from pathlib import Path

import pytest

import corl
from corl.cli import main
from corl.data.items import write_items
from corl.data.tokenizer import Tokenizer
from corl.rods.teachers.opening import TeacherPlan, open_teacher
from corl.rods.teachers.protocol import TeacherError

ASK = [{"role": "user", "content": "Which finding?"}]


@pytest.fixture(scope="module")
def model(tmp_path_factory, make_checkpoint) -> Path:
    folder = tmp_path_factory.mktemp("teacher") / "tiny"
    return make_checkpoint(folder, ["Which finding? Tremor."], max_position_embeddings=2048)


def answers(model: Path, store: Path, keys, **plan):
    async def run():
        async with open_teacher(TeacherPlan(teacher=str(model), store=str(store), **plan)) as teacher:
            asked = [teacher.complete(ASK, key=key, n=2, temperature=1.0, max_tokens=6) for key in keys]
            return await asyncio.gather(*asked), teacher

    return asyncio.run(run())


def test_answers_do_not_depend_on_the_batch_and_are_asked_once(model, tmp_path) -> None:
    alone, teacher = answers(model, tmp_path / "a.sqlite", ["x"], concurrency=1)
    assert teacher.name == "tiny" and len(set(alone[0])) == 2
    together, teacher = answers(model, tmp_path / "b.sqlite", ["v", "w", "x", "y"], concurrency=8)
    assert together[2] == alone[0] and teacher.usage.asked == 8 and teacher.usage.completion_tokens <= 48
    again, teacher = answers(model, tmp_path / "b.sqlite", ["x", "y"])
    assert again == together[2:] and (teacher.usage.asked, teacher.usage.stored) == (0, 4)


def test_they_are_the_engine_s(model, tmp_path) -> None:
    """Temperature 0 leaves nothing to key: the same text as a request of one's own."""
    tokenizer = Tokenizer.from_directory(model)
    engine = corl.Engine(corl.load_model(model), max_seqs=1)
    ids = tokenizer.encode_prompt(ASK)
    (made,) = engine.generate([corl.Request(ids, max_tokens=6, temperature=0.0, stop_ids=tokenizer.stop_ids)])

    async def run():
        async with open_teacher(TeacherPlan(teacher=str(model), store=str(tmp_path / "s"))) as teacher:
            return await teacher.complete(ASK, key="k", temperature=0.0, max_tokens=6)

    assert asyncio.run(run()) == [tokenizer.decode(made.ids)]


def test_a_prompt_without_room_fails_alone(model, tmp_path) -> None:
    async def run():
        async with open_teacher(TeacherPlan(teacher=str(model), store=str(tmp_path / "s"))) as teacher:
            long = [{"role": "user", "content": "zyx " * 2000}]
            asked = [teacher.complete(one, key="k", temperature=1.0, max_tokens=4) for one in (long, ASK)]
            return await asyncio.gather(*asked, return_exceptions=True)

    failed, well = asyncio.run(run())
    assert isinstance(failed, TeacherError) and "room for 2048" in str(failed) and len(well) == 1


def test_wrong_fields_are_refused(model, tmp_path) -> None:
    with pytest.raises(ValueError, match="top_p and top_k"):
        answers(model, tmp_path / "s", ["x"], request='{"reasoning_effort": "low"}')


def test_distill_accounts_for_every_item(model, tmp_path, monkeypatch, wilson_items) -> None:
    """Random weights reason nothing: every item fails, by its checks and not by an exception."""
    monkeypatch.chdir(tmp_path)
    write_items("items.jsonl", wilson_items(3))
    command = ["rods", "distill", "items.jsonl", "--out", "t.jsonl", "--teacher", str(model), "--max-tokens", "8"]
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--k", "2", "--tries", "1", "--depth", "1"])
    assert stopped.value.code == 2
    outcomes = json.loads(Path("t.jsonl.report.json").read_text())["outcomes"]
    assert len(outcomes) == 3 and all("no sound completion" in outcome["how"] for outcome in outcomes)
