"""RL on prompts whose options stand in another order every time: the gold moves along, and a run repeats itself."""

import json
import re

import pytest

from corl.data.items import read_items
from corl.grading import grade
from corl.pipeline import run
from corl.prepare import prepare

SETTINGS = (
    "stages=[rl1]", "rl1.max_steps=8", "rl1.mix.by=uniform", "rl1.updates_per_rollout=1", "rl1.prompts_per_step=8",
    "data.shuffle_options=true",
)  # fmt: skip


def samples(run_dir):
    files = sorted(run_dir.glob("rollouts/step_*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def first(world, tiny_config, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("first")
    run(prepare(tiny_config(run_dir, *SETTINGS)), world)
    return samples(run_dir)


def test_the_gold_follows_its_option(first, tiny_files):
    items = {item.id: item for item in read_items(tiny_files / "train.jsonl")}
    orders = set()
    for sample in first:
        item = items[sample["item"]]
        shown = dict(re.findall(r"^([A-Z])\. (.*)$", sample["prompt"], re.MULTILINE))
        assert sorted(shown.values()) == sorted(item.options.values())
        orders.add((item.id, tuple(shown.values())))
        (gold,) = [letter for letter, text in shown.items() if text == item.options[item.answer]]
        verdict = grade(sample["completion"], shown, gold)
        assert sample["grade"]["correct"] == verdict.correct
    assert len(orders) > len({item for item, _ in orders}), "an item drawn twice has two orders"
    assert any(sample["grade"]["correct"] for sample in first)


def test_a_run_repeats_itself(first, world, tiny_config, tmp_path):
    run(prepare(tiny_config(tmp_path, *SETTINGS)), world)
    assert samples(tmp_path) == first


def test_pinned_rows_are_told(tiny_config, tmp_path, tiny_files):
    lines = [json.loads(line) for line in (tiny_files / "train.jsonl").read_text().splitlines()]
    for line in lines[:3]:
        line["options"]["D"] = "None of the above"
    file = tmp_path / "items.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    notes = prepare(tiny_config(tmp_path / "run", *SETTINGS, f"data.train=[{file}]")).notes
    assert f"data.shuffle_options: 3 of {len(lines)} rows keep their order: 3 options refer" in notes
