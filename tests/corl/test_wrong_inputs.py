"""Whatever is wrong with what a run is given: one line that names it, exit code 2, nothing written, no rank waiting."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from corl.config import dump_config, load_config
from corl.data.items import Item, read_items, write_items, write_traces
from corl.data.prompts import prompt_text
from corl.prepare import prepare
from corl.rods.traces import templated_trace

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
stages: [cold_start, rl1]
run: {dir: run}
model: {path: base, dtype: float32}
data: {train: [items.jsonl], held_out: [held_out.jsonl], traces: [traces.jsonl], prompt_tokens: 200}
cold_start: {optim: {lr: 1.0e-3}, max_steps: 1}
rl1: {optim: {lr: 1.0e-3}, mix: {by: difficulty}, prompts_per_step: 2, group_size: 2, max_tokens: 16, max_steps: 2}
eval: {max_tokens: 16}
"""


def item(k: int, difficulty: str | None = "moderate", question: str = "Which drug treats it?") -> Item:
    return Item(f"q{k}", "test", "en", None, question, {"A": "this", "B": "that"}, "B", difficulty, {})


@pytest.fixture(scope="module")
def whole(tmp_path_factory, make_checkpoint) -> Path:
    """A folder in which nothing is wrong."""
    folder = tmp_path_factory.mktemp("whole")
    trace = templated_trace(item(0))
    make_checkpoint(folder / "base", [prompt_text(trace.item), trace.completion] * 3, tokens=500)
    write_items(folder / "items.jsonl", [item(k) for k in range(6)])
    write_items(folder / "held_out.jsonl", [item(k) for k in range(10, 13)])
    write_traces(folder / "traces.jsonl", [templated_trace(item(k)) for k in range(6)])
    (folder / "c.yaml").write_text(CONFIG)
    return folder


@pytest.fixture
def here(whole: Path, tmp_path: Path, monkeypatch) -> Path:
    """A copy of it that a test may break, as the working directory."""
    shutil.copytree(whole, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def keys(file: str, **changes) -> Callable[[Path], None]:
    """Change keys of a JSON file; None removes one."""

    def change(here: Path) -> None:
        raw = json.loads((here / file).read_text()) | changes
        (here / file).write_text(json.dumps({k: v for k, v in raw.items() if v is not None}))

    return change


def text(file: str, content: str) -> Callable[[Path], None]:
    def change(here: Path) -> None:
        (here / file).parent.mkdir(exist_ok=True)
        (here / file).write_text(content)

    return change


def line(file: str, number: int, old: str, new: str) -> Callable[[Path], None]:
    def change(here: Path) -> None:
        lines = (here / file).read_text().split("\n")
        assert old in lines[number - 1]
        lines[number - 1] = lines[number - 1].replace(old, new)
        (here / file).write_text("\n".join(lines))

    return change


def gone(file: str) -> Callable[[Path], None]:
    return lambda here: (here / file).unlink()


def tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def rewrite(here: Path) -> None:
        file = here / "base" / "model.safetensors"
        stored = load_file(file)
        change(stored)
        save_file(stored, file)

    return rewrite


def truncated(file: str) -> Callable[[Path], None]:
    return lambda here: os.truncate(here / file, (here / file).stat().st_size // 2)


def more_items(file: str, *items: Item) -> Callable[[Path], None]:
    return lambda here: write_items(here / file, [*read_items(here / file), *items])


def bigger_tokenizer(here: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(here / "base")
    tokenizer.add_tokens(["anamnesis"])
    tokenizer.save_pretrained(here / "base")


def begun(here: Path, stages: list | None = None) -> None:
    """The folder of a run with the present configuration."""
    (here / "run").mkdir()
    (here / "run" / "config.yaml").write_text(dump_config(load_config("c.yaml")))
    (here / "run" / "lineage.json").write_text(json.dumps({"stages": stages or []}))


def nothing(here: Path) -> None:
    pass


LONG = item(7, question="Which drug treats it? " * 40)
NORM = "model.layers.1.post_attention_layernorm.weight"
CASES = {
    # the checkpoint
    "no checkpoint": (nothing, ["model.path=nowhere"], r"model.path nowhere: no Hugging Face directory .*name one, or"),
    "unfinished run": (
        lambda h: (h / "r/checkpoints").mkdir(parents=True), ["model.path=r"], r"^model.path r: this run has no co",
    ),
    "no weights": (gone("base/model.safetensors"), [], r"^base: neither model.safetensors nor .*; give a directory"),
    "tensor missing": (
        tensors(lambda t: t.pop(NORM)), [], rf"1 of \d+ tensors are missing .* the first is {NORM}; down",
    ),
    "tensor unexpected": (
        tensors(lambda t: t.update(x=t[NORM] + 1)), [], r"tensor x is unexpected in a qwen2 model; re",
    ),
    "tensor of another shape": (
        keys("base/config.json", intermediate_size=96), [], r"has shape \[.*\], config.json asks",
    ),
    "weights cut short": (
        truncated("base/model.safetensors"), [], r"base/model.safetensors: not a readable .*download",
    ),
    "config.json cut short": (
        truncated("base/config.json"), [], r"base/config.json: not valid JSON .*; restore the file",
    ),
    "no rope theta": (
        keys("base/config.json", rope_parameters=None), [], r"base/config.json: rope_theta is missing.*wri",
    ),
    "unknown rope": (
        keys("base/config.json", rope_parameters={"rope_type": "yarn", "rope_theta": 1e4}), [],
        r"base/config.json: rope_parameters.rope_type='yarn' is not implemented; use",
    ),
    "unknown family": (
        keys("base/config.json", model_type="gpt2"), [], r"model_type='gpt2' is not implemented; use one",
    ),
    "no tokenizer": (gone("base/tokenizer.json"), [], r"^base holds no tokenizer.json; give"),
    "tokenizer.json damaged": (
        keys("base/tokenizer.json", model={"type": "BPE"}), [], r"^base: its tokenizer files cannot .*; re",
    ),
    "tokenizer.json cut short": (
        truncated("base/tokenizer.json"), [], r"^base: its tokenizer files cannot be read \(.*; re",
    ),
    "tokenizer_config.json cut": (
        truncated("base/tokenizer_config.json"), [], r"^base: its tokenizer files cannot be r",
    ),
    "template with a slip": (
        text("base/chat_template.jinja", "{% for %}"), [], r"base: its chat template refuses user",
    ),
    "template without system": (
        text("base/chat_template.jinja", "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}"),
        ["data.system=be brief"], r"base: its chat template refuses system and user \(no\);.*leave data.system out",
    ),
    "tokenizer of another model": (
        bigger_tokenizer, [], r"model.path base: the tokenizer has \d+ tokens, vocab_size in config.json is \d+; use",
    ),
    # items and traces
    "no items file": (
        gone("items.jsonl"), [], r"^items.jsonl cannot be read \(No such file or directory\); check the path",
    ),
    "items file empty": (text("items.jsonl", "\n"), [], r"^items.jsonl is empty; it must hold at least one JSON line"),
    "no items named": (nothing, ["data.train=[]"], r"data.train: empty; name at least one file of items"),
    "not JSON": (
        text("items.jsonl", "id,answer\n1,A\n"), [], r"^items.jsonl, line 1: not JSON .*; write one object a line",
    ),
    "not UTF-8": (lambda h: (h / "items.jsonl").write_bytes(b"\xff\n"), [], r"^items.jsonl, line 1: not UTF-8"),
    "answer among no option": (
        line("items.jsonl", 3, '"answer": "B"', '"answer": "C"'), [],
        r"^items.jsonl, line 3: item 'q2': answer is 'C'; give it a letter of the options.*the options are A, B",
    ),
    "key too many": (
        line("items.jsonl", 2, '"lang"', '"x": 1, "lang"'), [], r"line 2: item 'q1': unknown key x; .*meta",
    ),
    "key too few": (
        line("items.jsonl", 1, '"lang": "en", ', ""), [], r"line 1: item 'q0': missing key lang; a line has",
    ),
    "id twice in a file": (
        more_items("items.jsonl", item(3)), [], r"^items.jsonl, line 7: item 'q3' is already on line 4; ids must",
    ),
    "id twice in two files": (
        nothing, ["data.train=[items.jsonl, items.jsonl]"], r"data.train: item q0 is in it twice",
    ),
    "held out, yet trained": (
        more_items("held_out.jsonl", item(4)), [],
        r"data.held_out: 1 items are in data.train too, the first is q4; remove them from one",
    ),
    "held out, yet in a trace": (
        lambda h: write_traces(h / "traces.jsonl", [templated_trace(item(11))]), [],
        r"data.held_out: 1 items are in data.traces too, the first is q11",
    ),
    "prompt over the limit": (
        more_items("items.jsonl", LONG), [],
        r"data.train: 1 of 7 prompts are longer than 200 tokens, the first is item 'q7'; raise the limit to \d+, or "
        r"drop them .*data.overlong.*the limit is data.prompt_tokens",
    ),
    "prompt over the model": (
        more_items("items.jsonl", LONG), ["data.prompt_tokens=4000"],
        r"data.train: 1 of 7 .* longer than 240 tokens, .*the limit is the model's 256 positions less max_tokens 16",
    ),
    "no prompt short enough": (
        nothing, ["data.prompt_tokens=5", "data.overlong=drop"], r"data.train: 6 of 6 prompts are",
    ),
    "no room for a prompt": (
        nothing, ["rl1.max_tokens=256"], r"max_tokens 256 leaves no room .*; lower max_tokens of the",
    ),
    "no room to evaluate": (
        nothing, ["eval.max_tokens=300"], r"max_tokens 300 leaves no room .*; lower eval.max_tokens",
    ),
    "micro-batch too small": (
        nothing, ["parallel.tokens_per_micro_batch=60"],
        r"parallel.tokens_per_micro_batch: 60 is too small for data.train, whose longest prompt has \d+ tokens and "
        r"max_tokens is 16; raise it to \d+ or more",
    ),
    "cache too small": (
        nothing, ["rollout.kv_tokens=64", "rollout.page_size=16"],
        r"rollout.kv_tokens: 64 is too small for data.train.*; raise it to \d+ or more",
    ),
    "too few ranks": (
        nothing, ["rollout.tensor_parallel=2"],
        r"rollout.tensor_parallel: 2 does not divide the 1 rank\(s\); start a multiple of it, or lower it",
    ),
    "no traces file": (gone("traces.jsonl"), [], r"^traces.jsonl cannot be read \(No such file or directory\)"),
    "items for traces": (nothing, ["data.traces=[items.jsonl]"], r"^items.jsonl, line 1: item None: missing key item"),
    "trace over the model": (
        lambda h: write_traces(h / "traces.jsonl", [templated_trace(LONG)]), [],
        r"data.traces: trace of q7 has \d+ tokens, above the 256 positions of the model; leave it out",
    ),
    "trace over the micro-batch": (
        nothing, ["parallel.tokens_per_micro_batch=80", "rl1.max_tokens=1"],
        r"data.traces: trace of q0 has \d+ tokens, above the 80 parallel.tokens_per_micro_batch; raise that",
    ),
    # stages that could not run
    "no trace on a share": (
        nothing, ["cold_start.mix={easy: 1}"], r"cold_start.mix: no trace has a difficulty with a sha",
    ),
    "no item in a tier": (
        nothing, ["rl1.mix.hard_tiers=[difficult]"], r"rl1.mix: no item of data.train is difficult or e",
    ),
    "objective out of range": (
        nothing, ["rl1.objective.clip_low=-1"], r"rl1.objective: clip_low=-1.0 must be 0 or more",
    ),
    # the run directory
    "run.dir is a file": (
        text("run", ""), [], r"run.dir run: run is not a folder that can be written to; choose another",
    ),
    "run.dir under a file": (
        text("x", ""), ["run.dir=x/run"], r"run.dir x/run: x is not a folder that can be written to",
    ),
    "run.dir of another seed": (begun, ["run.seed=5"], r"holds a run with another `run.seed`"),
    "run.dir of other data": (
        begun, ["data.held_out=[]"], r"run.dir run: holds a run with another `data`; continue it",
    ),
    "run.dir damaged": (text("run/config.yaml", "{"), [], r"run.dir run: its config.yaml or lineage.json is damaged"),
    "run.dir whose data changed": (
        lambda h: begun(h, [{"data_sha256": {"items.jsonl": "other", "traces.jsonl.old": "gone"}}]), [],
        r"run.dir run: items.jsonl has changed since that run; restore it or choose another",
    ),
}  # fmt: skip


def test_the_folder_the_cases_break_is_whole(here: Path) -> None:
    prepared = prepare(load_config("c.yaml"))
    assert [len(prepared.data.train), len(prepared.data.held_out), len(prepared.data.traces)] == [6, 3, 6]
    assert prepared.notes == []


@pytest.mark.parametrize("case", CASES)
def test_refused_in_one_line_with_nothing_written(here: Path, case: str) -> None:
    spoil, overrides, message = CASES[case]
    spoil(here)
    before = sorted(here.rglob("*"))
    with pytest.raises(ValueError) as refused:
        prepare(load_config("c.yaml", overrides))
    said = " ".join(str(refused.value).split())
    assert re.search(message, said), said
    assert sorted(here.rglob("*")) == before


def test_prompts_left_out_on_demand_are_told_of(here: Path) -> None:
    more_items("items.jsonl", LONG)(here)
    prepared = prepare(load_config("c.yaml", ["data.overlong=drop"]))
    assert [prompt.item.id for prompt in prepared.data.train] == [f"q{k}" for k in range(6)]
    assert prepared.notes == ["data.train: 1 prompts over 200 tokens left out, the first is q7"]


def test_a_run_is_continued_with_other_steps_but_the_same_data(here: Path) -> None:
    hashes = prepare(load_config("c.yaml")).data_hashes
    begun(here, [{"data_sha256": hashes}])
    prepare(load_config("c.yaml", ["rl1.max_steps=9", "checkpoint.every=3"]))


TRAIN = [sys.executable, str(ROOT / "corl" / "train.py")]
TORCHRUN = [
    *(str(Path(sys.executable).parent / "torchrun"), "--standalone", "--nproc-per-node", "2"),
    str(ROOT / "corl" / "train.py"),
]


def call(command: list[str], here: Path) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "LOCAL_RANK", "WORLD_SIZE")}
    return subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "arguments", "message"),
    [
        (nothing, [], "no CONFIG is given; call `torchrun corl/train.py CONFIG"),
        (nothing, ["nowhere.yaml"], "config nowhere.yaml: no such file"),
        (nothing, ["c.yaml", "rl1.optim.lr=1e-6"], "rl1.optim.lr: expected a number, got '1e-6' (str); YAML reads"),
        (CASES["answer among no option"][0], ["c.yaml"], "items.jsonl, line 3: item 'q2': answer is 'C'"),
        (CASES["tokenizer.json damaged"][0], ["c.yaml"], "base: its tokenizer files cannot be read"),
    ],
    ids=["no arguments", "no file", "text for a number", "answer", "tokenizer"],
)
def test_train_exits_2_with_one_line(here: Path, spoil, arguments, message) -> None:
    spoil(here)
    before = sorted(here.rglob("*"))
    done = call([*TRAIN, *arguments], here)
    assert done.returncode == 2 and done.stdout == ""
    assert re.fullmatch(r"error: [^\n]+\n", done.stderr) and message in done.stderr
    assert sorted(here.rglob("*")) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "overrides", "message"),
    [
        (nothing, ["rl1.lr=0.1"], "unknown key rl1.lr; allowed here: optim, mix"),
        (nothing, ["model.path=nowhere"], "model.path nowhere: no Hugging Face directory"),
        (CASES["held out, yet trained"][0], [], "data.held_out: 1 items are in data.train too, the first is q4"),
        (nothing, ["rollout.tensor_parallel=4"], "rollout.tensor_parallel: 4 does not divide the 2 rank(s)"),
    ],
    ids=["key", "checkpoint", "held out", "ranks"],
)
def test_two_ranks_exit_with_one_line_between_them(here: Path, spoil, overrides, message) -> None:
    spoil(here)
    before = sorted(here.rglob("*"))
    done = call([*TORCHRUN, "c.yaml", *overrides], here)
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(said) == 1 and message in said[0], done.stderr
    assert "Traceback" not in done.stderr.split("ChildFailedError")[0].split(said[0])[0]
    assert re.search(r"exitcode *: 2 ", done.stderr)
    assert sorted(here.rglob("*")) == before


@pytest.mark.slow
def test_a_stage_left_without_prompts_stops_and_says_how_to_go_on(here: Path) -> None:
    """What no check can know beforehand: the first policy passes nothing, so all items turn out to be difficult."""
    write_items(here / "items.jsonl", [item(k, difficulty=None) for k in range(6)])
    done = call([*TRAIN, "c.yaml", "stages=[rl1]", "rl1.tier_samples=1", "data.held_out=[]"], here)
    assert done.returncode == 1, done.stderr
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("stopped:")]
    assert said == (
        "stopped: rl1: no prompt to draw: no item of 6 is on any side of the mix (by: difficulty); name more "
        "mix.hard_tiers, unset mix.drop_never_passed or take mix.by: uniform"
    )
    assert "Traceback" not in done.stderr
