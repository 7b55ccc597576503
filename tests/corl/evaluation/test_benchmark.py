import json
import shutil
from pathlib import Path

import matplotlib.image
import pytest
from safetensors.torch import load_file, save_file

from corl.data.benchmarks import NINE
from corl.data.items import read_items, write_items
from corl.data.shuffle import shuffle_options
from corl.evaluation import benchmark
from corl.evaluation.answers import ANSWERS, read_answers
from corl.evaluation.benchmark import Plan, run_plan
from corl.evaluation.questions import make_questions
from corl.evaluation.settings import read_settings

RIGHT = "<think>w</think>\n<answer>A</answer>"
FEW = {"max_tokens": 6, "max_seqs": 4, "open_think": True, "temperature": 1.0, "top_p": 1.0}


@pytest.fixture
def here(tmp_path, monkeypatch, make_column_items) -> Path:
    """A working directory with items of two columns and of another set."""
    monkeypatch.chdir(tmp_path)
    write_items("pubmedqa.jsonl", make_column_items("pubmedqa", 12))
    write_items("bio.jsonl", make_column_items("mmlu_pro_biology", 9))
    return tmp_path


@pytest.fixture(scope="module")
def finished(tmp_path_factory, answering_model, make_column_items) -> Path:
    """What a run over the items of `here` has left."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_items("pubmedqa.jsonl", make_column_items("pubmedqa", 12))
        write_items("bio.jsonl", make_column_items("mmlu_pro_biology", 9))
        run_plan(plan(answering_model))
    return folder / "out"


def plan(model, **changes) -> Plan:
    return Plan(**{"model": str(model), "items": ["pubmedqa.jsonl", "bio.jsonl"], "out": "out"} | FEW | changes)


def test_a_model_is_asked_and_its_answers_summed_up(here, answering_model, capsys):
    text = run_plan(plan(answering_model, samples=2))
    assert sorted(path.name for path in Path("out").iterdir()) == [
        ANSWERS, "settings.json", "table.json", "table.md", "table.png"
    ]  # fmt: skip
    answers = read_answers(Path("out"))
    assert [a.set for a in answers].count("pubmedqa") == 12 and len(answers) == 21
    extracted = [letter for answer in answers for letter in answer.extracted]
    assert {"A", "B", "C", None} == set(extracted) and len(extracted) == 42
    assert {reason for answer in answers for reason in answer.finish_reasons} == {"stop", "length"}
    assert any(any(answer.format_ok) for answer in answers)  # <think> was opened by the prompt
    assert all(1 <= count <= 6 for answer in answers for count in answer.tokens)

    table = json.loads(Path("out/table.json").read_text())
    assert Path("out/table.md").read_text() == text and "partial: 12 of 500" in text
    assert [(s["key"], s["n"], s["status"]) for s in table["sets"]] == [
        ("pubmedqa", 12, "partial: 12 of 500"), ("mmlu_pro_biology", 9, "partial: 9 of 717")
    ]  # fmt: skip
    right = [sum(a.correct) / 2 for a in answers if a.set == "pubmedqa"]
    assert table["sets"][0]["accuracy"]["value"] == pytest.approx(sum(right) / 12)
    assert list(table["sets"][0]["pass_at"]) == ["1", "2"]
    assert table["macro"] is None
    settings = read_settings(Path("out"))
    assert (settings["temperature"], settings["top_p"], settings["samples"]) == (1.0, 1.0, 2)
    assert (settings["max_tokens"], settings["seed"], settings["system"], settings["device"]) == (6, 0, None, "cpu")
    assert capsys.readouterr().out == ""


def test_a_restart_asks_nothing_and_makes_the_same_tables(here, answering_model, finished, monkeypatch):
    shutil.copytree(finished, "out")
    before = {path.name: path.read_bytes() for path in Path("out").iterdir()}
    for name in ("table.md", "table.json", "table.png"):
        Path("out", name).unlink()
    monkeypatch.setattr(benchmark, "load_engine", lambda *_: pytest.fail("nothing is left to ask"))
    run_plan(plan(shutil.copytree(answering_model, here / answering_model.name)))  # moved, but the same
    assert {path.name: path.read_bytes() for path in Path("out").iterdir()} == before


@pytest.mark.parametrize(("change", "named"), [
    ({"seed": 1}, "seed: 0 then, 1 now"), ({"samples": 2}, "samples: 1 then, 2 now"),
    ({"temperature": 0.5}, "temperature: 1.0 then, 0.5 now"), ({"max_tokens": 7}, "max_tokens: 6 then, 7 now"),
    ({"limit": 5}, "limit: null then, 5 now"), ({"open_think": False}, "open_think: true then, false now"),
    ({"system": "Be brief."}, 'system: null then, "Be brief." now'),
    ({"shuffle": True}, "shuffle: false then, true now"),
    ({"items": ["bio.jsonl"]}, r"items: \[pubmedqa.jsonl \(.{8}\), bio.jsonl \(.{8}\)\] then, \[bio.jsonl"),
    ({"max_seqs": 5}, "max_seqs: 4 then, 5 now"), ({"dtype": "bfloat16"}, 'dtype: null then, "bfloat16" now'),
    ({"completions": "c.jsonl"}, r"completions: null then, c.jsonl \("),
])  # fmt: skip
def test_other_settings_are_refused_by_name(here, answering_model, finished, monkeypatch, change, named):
    shutil.copytree(finished, "out")
    before = {path.name: path.read_bytes() for path in Path("out").iterdir()}
    Path("c.jsonl").write_text(json.dumps({"id": "pubmedqa:0", "completion": RIGHT}) + "\n")
    monkeypatch.setattr(benchmark, "load_engine", lambda *_: pytest.fail("refused before the model is loaded"))
    with pytest.raises(ValueError, match=named):
        run_plan(plan(answering_model, **change))
    assert {path.name: path.read_bytes() for path in Path("out").iterdir()} == before


def test_another_models_weights_are_refused_by_name(here, answering_model, finished):
    shutil.copytree(finished, "out")
    other = shutil.copytree(answering_model, here / answering_model.name)
    weights = other / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(ValueError, match=r"other settings \(model: /.*answering \(.{8}\) then, /.*now\)"):
        run_plan(plan(other))


def test_recorded_completions_are_graded_and_missing_ones_make_a_set_partial(here, capsys):
    lines = [{"id": f"pubmedqa:{k}", "completions": [RIGHT, "?"]} for k in range(11)] + [{"id": "x", "completion": "?"}]
    Path("c.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    text = run_plan(Plan(model=None, items=["pubmedqa.jsonl", "bio.jsonl"], completions="c.jsonl", out="out"))
    assert "partial: 11 of 500" in text and "without a completion: 1 of 12 items of PubMedQA" in text
    assert "without a completion: 9 of 9 items of MMLU-Pro Bio" in text
    assert "c.jsonl: 1 ids are not among the items" in capsys.readouterr().err
    (found,) = json.loads(Path("out/table.json").read_text())["sets"]
    assert found["accuracy"]["value"] == pytest.approx(4 / 11 / 2) and found["pass_at"]["2"]["value"] == 4 / 11
    assert (found["null"], found["truncated"], found["mean_tokens"]) == (0.5, None, None)


def test_answers_of_a_run_regrade_to_the_same_table(here, answering_model):
    text = run_plan(plan(answering_model, samples=2))
    again = run_plan(plan(answering_model, out="again", completions=f"out/{ANSWERS}"))
    assert again == text
    assert any(any(answer.format_ok) for answer in read_answers(Path("again")))  # with what the prompt had opened


def test_lengths_of_recorded_completions_come_from_the_models_tokenizer(here, answering_model):
    from corl.data.tokenizer import Tokenizer

    Path("c.jsonl").write_text(json.dumps({"id": "pubmedqa:0", "completion": RIGHT}) + "\n")
    run_plan(plan(answering_model, completions="c.jsonl"))
    assert read_answers(Path("out"))[0].tokens == [len(Tokenizer.from_directory(answering_model).encode(RIGHT))]


def test_the_suite_takes_the_columns_that_are_there_and_lists_the_others(here, answering_model, capsys):
    Path("data/fleming").mkdir(parents=True)
    shutil.copy("bio.jsonl", "data/fleming/mmlu.jsonl")
    text = run_plan(plan(answering_model, items=None))
    assert "- missing: CareQA (no item of source careqa in data/fleming)" in text
    assert capsys.readouterr().err.count("missing: ") == 8
    assert [s["key"] for s in json.loads(Path("out/table.json").read_text())["sets"]] == ["mmlu_pro_biology"]


def test_nine_complete_sets_have_a_macro_mean_beside_the_papers(here, make_column_items):
    Path("suite").mkdir()
    with Path("c.jsonl").open("w") as file:
        for column in NINE:
            items = make_column_items(column.key, column.rows)
            write_items(f"suite/{column.key}.jsonl", items)
            file.writelines(json.dumps({"id": item.id, "completion": RIGHT}) + "\n" for item in items)
    text = run_plan(Plan(model="all A", items_dir="suite", completions="c.jsonl", out="out"))
    table = json.loads(Path("out/table.json").read_text())
    assert [s["status"] for s in table["sets"]] == ["complete"] * 9
    shares = [-(-c.rows // c.options[0]) / c.rows for c in NINE]
    assert table["macro"]["value"] == pytest.approx(sum(shares) / 9, rel=1e-12)
    (own,) = [line for line in text.splitlines() if line.startswith("| all A |")]
    assert "*" not in own and own.endswith(f"| {100 * sum(shares) / 9:.2f} +- {100 * table['macro']['stderr']:.2f} |")
    assert "partial" not in text and "missing" not in text
    assert "| Fleming-R1-7B | 77.28 | 59.60 | 57.05 | 64.16 | 75.10 | 19.14 | 78.60 | 74.76 | 64.67 | 63.37 |" in text
    picture = matplotlib.image.imread("out/table.png")
    assert picture.shape[0] > 300 < picture.shape[1] and picture[..., :3].std() > 0.05
    # One item less, and it is partial and without a mean.
    lines = Path("c.jsonl").read_text().splitlines(keepends=True)
    Path("less.jsonl").write_text("".join(lines[1:]))
    text = run_plan(Plan(model="all A", items_dir="suite", completions="less.jsonl", out="less"))
    (own,) = [line for line in text.splitlines() if line.startswith("| all A |")]
    assert own.endswith("| - |") and own.count("*") == 1
    assert "CareQA is partial: 5,620 of 5,621" in text


def test_items_of_no_column_have_no_table_of_columns(here, make_item, answering_model):
    write_items("own.jsonl", [make_item(k) for k in range(3)])
    text = run_plan(plan(answering_model, items=["own.jsonl"]))
    assert "| test | 3 |" in text and "Fleming" not in text


def test_shuffled_options_are_shown_and_graded_with_their_letters(here, answering_model):
    run_plan(plan(answering_model, shuffle=True, seed=5))
    items = {item.id: item for file in ("pubmedqa.jsonl", "bio.jsonl") for item in read_items(file)}
    answers = read_answers(Path("out"))
    assert all(a.gold == shuffle_options(items[a.id], seed=5, epoch=0).answer for a in answers)
    assert any(a.gold != items[a.id].answer for a in answers)
    assert read_settings(Path("out"))["pinned"] == {}


@pytest.mark.parametrize(("given", "temperature", "top_p"), [
    ({}, 0.0, 1.0), ({"samples": 1}, 0.0, 1.0), ({"samples": 4}, 0.6, 0.95), ({"temperature": 0.8}, 0.8, 0.95),
    ({"samples": 4, "top_p": 1.0}, 0.6, 1.0), ({"temperature": 0.0}, 0.0, 1.0),
])  # fmt: skip
def test_greedy_for_one_sample_and_warm_for_several(given, temperature, top_p):
    decoding = Plan(model="m", **given).decoding
    assert (decoding.temperature, decoding.top_p) == (temperature, top_p)


@pytest.mark.parametrize(("given", "message"), [
    ({"samples": 0}, "samples=0 must be at least 1"), ({"limit": 0}, "limit=0"), ({"max_tokens": -1}, "max-tokens=-1"),
    ({"max_seqs": 0}, "max-seqs=0"), ({"temperature": -0.1}, "temperature=-0.1"), ({"top_p": 0.0}, "top-p=0.0"),
    ({"temperature": float("nan")}, "temperature=nan"), ({"temperature": float("inf")}, "temperature=inf"),
    ({"samples": 2, "temperature": 0.0}, "at temperature 0 are all alike"), ({"model": None}, "MODEL_DIR is missing"),
])  # fmt: skip
def test_a_plan_that_cannot_be_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        Plan(**{"model": "m"} | given)


def test_what_does_not_fit_is_refused_before_anything_is_written(here, answering_model, make_column_items):
    items = make_column_items("medqa", 2)
    object.__setattr__(items[1], "question", "why " * 600)
    write_items("long.jsonl", items)
    with pytest.raises(ValueError, match=r"item 'medqa:1': its prompt has \d+ tokens, the model 512 positions"):
        run_plan(plan(answering_model, items=["long.jsonl"]))
    config = json.loads((answering_model / "config.json").read_text())
    small = shutil.copytree(answering_model, here / "small")
    (small / "config.json").write_text(json.dumps(config | {"vocab_size": 300}))
    half = shutil.copytree(answering_model, here / "half")
    weights = half / "model.safetensors"
    save_file({name: tensor.half() for name, tensor in load_file(weights).items()}, weights)
    run = here / "run"
    run.mkdir()
    (run / "config.yaml").write_text("")
    for model, message in (
        (small, "small/model.safetensors: tensor"), (run, "`corl export .*run --out DIR`"),
        (here, "config.json is missing"),
        (half, "its weights are torch.float16.*give --dtype bfloat16 or float32"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            run_plan(plan(model))
    assert not Path("out").exists()


def test_a_long_prompt_leaves_less_room_for_its_answer(answering_model, make_column_items):
    from corl.data.tokenizer import Tokenizer
    from corl.evaluation.item_sets import ItemSet
    from corl.evaluation.questions import Presentation

    items = make_column_items("medqa", 2)
    object.__setattr__(items[1], "question", "why " * 60)
    item_set = ItemSet("medqa", "MedQA", items, None, 2)
    tokenizer, shown = Tokenizer.from_directory(answering_model), Presentation("Be brief.", False, True, 0)
    short, long = make_questions([item_set], tokenizer, shown, max_tokens=300, max_positions=512)
    assert short.max_tokens == 300 > long.max_tokens == 512 - len(long.ids)
    text = tokenizer.decode(short.ids, skip_special=False)
    assert text.endswith("<|im_start|>assistant\n<think>\n") and "system\nBe brief." in text
