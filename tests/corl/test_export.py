"""A run's checkpoint as a Hugging Face directory: values, dtype, the files beside them, refusals."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from corl.checkpoint import checkpoint_name, save_checkpoint
from corl.cli import main
from corl.config import dump_config, load_config
from corl.export import export_run
from corl.model.checkpoint_io import load_model

COPIED = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")
CONFIG = """
stages: [rl1]
run: {dir: RUN}
model: {path: BASE, dtype: DTYPE}
data: {train: [items.jsonl], held_out: [more.jsonl]}
rl1: {optim: {lr: 1.0e-3}, mix: {by: uniform}, max_steps: 5}
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory, make_checkpoint) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("base"), ["Which drug treats it?"] * 3)


@pytest.fixture
def make_run(tmp_path: Path, base: Path, world):
    """make_run(dtype, best): a run directory with checkpoints of steps 4, 9 and 10 as a run leaves it, and a function
    that gives the fp32 weights of a step."""

    def weights(step: int) -> dict[str, torch.Tensor]:
        return {name: p.detach() + step * 2.0**-12 for name, p in load_model(base).named_parameters()}

    def make(dtype: str = "float32", best: str | None = None):
        run = tmp_path / "run"
        run.mkdir()
        text = CONFIG.replace("RUN", str(run)).replace("BASE", str(base)).replace("DTYPE", dtype)
        (tmp_path / "c.yaml").write_text(text)
        (run / "config.yaml").write_text(dump_config(load_config(tmp_path / "c.yaml")))
        shutil.copytree(base, run / "model_files", ignore=shutil.ignore_patterns("*.safetensors"))
        for step in (10, 4, 9):  # the newest is told by its number, not by its age
            tensors = {f"model.{name}": value for name, value in weights(step).items()}
            tensors["optimizer.norm.weight.exp_avg"] = torch.zeros(4)
            state = {"best": best and {"step": 4, "accuracy": 0.5, "checkpoint": best}}
            save_checkpoint(run / "checkpoints", checkpoint_name(step, "rl1"), tensors, state, {}, world)
        return run, weights

    return make


@pytest.mark.parametrize(
    ("checkpoint", "step"), [("latest", 10), ("best", 4), ("step_000009_rl1", 9)], ids=["latest", "best", "by name"]
)
def test_the_chosen_checkpoint_comes_back_bit_for_bit(make_run, tmp_path, checkpoint, step) -> None:
    run, weights = make_run(best="step_000004_rl1")
    assert export_run(run, tmp_path / "out", checkpoint) == f"step_{step:06d}_rl1"
    read = dict(load_model(tmp_path / "out").named_parameters())
    for name, expected in weights(step).items():
        assert read[name].dtype == torch.float32 and torch.equal(read[name], expected), name


@pytest.mark.parametrize(
    ("of_run", "asked", "written"),
    [("float32", None, "float32"), ("bfloat16", None, "bfloat16"), ("bfloat16", "float16", "float16")],
)
def test_the_dtype_is_the_run_s_or_the_one_asked_for(make_run, tmp_path, of_run, asked, written) -> None:
    run, weights = make_run(of_run)
    export_run(run, tmp_path / "out", dtype=asked)
    stored = load_file(tmp_path / "out" / "model.safetensors")
    assert {str(t.dtype) for t in stored.values()} == {f"torch.{written}"}
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == written
    embedding = weights(10)["embed_tokens.weight"].to(getattr(torch, written))
    assert torch.equal(stored["model.embed_tokens.weight"], embedding)


def test_tokenizer_template_and_generation_config_are_the_source_s_byte_for_byte(make_run, base, tmp_path) -> None:
    run, _ = make_run()
    export_run(run, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*COPIED, "config.json", "model.safetensors"}
    for name in COPIED:
        assert (tmp_path / "out" / name).read_bytes() == (base / name).read_bytes(), name


def test_transformers_computes_what_we_do(make_run, tmp_path) -> None:
    import transformers

    from corl.model.score import score

    run, _ = make_run()
    export_run(run, tmp_path / "out")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    ids = tokenizer.encode("Which drug treats it, and which does not?")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    with torch.no_grad():
        logprobs = model(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    expected = logprobs.gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
    torch.testing.assert_close(score(load_model(tmp_path / "out"), [ids])[0], expected, atol=1e-5, rtol=0)
    assert model.generation_config.eos_token_id == [2, 0] and model.generation_config.top_p == 0.8


def test_the_command_says_what_it_wrote(make_run, tmp_path, capsys) -> None:
    run, weights = make_run()
    main(["export", str(run), "--out", str(tmp_path / "out"), "--checkpoint", "step_000009_rl1", "--dtype", "bfloat16"])
    assert capsys.readouterr().out == f"{tmp_path}/out: step_000009_rl1\n"
    norm = load_file(tmp_path / "out" / "model.safetensors")["model.norm.weight"]
    assert torch.equal(norm, weights(9)["norm.weight"].bfloat16())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--checkpoint", "step_000005_rl1"], r"no complete checkpoint step_000005_rl1; there is step_000004_rl1,"),
        (["--checkpoint", "../elsewhere"], r"no complete checkpoint elsewhere; there is"),
        (["--checkpoint", "best"], r"no best checkpoint; the run made no evaluation \(eval.every\)"),
        (["--dtype", "int8"], r"argument --dtype: invalid choice: 'int8'.*see `corl export --help`"),
        (["--out", "FULL"], r"FULL: already there and not an empty directory"),
        (["--out", "FULL/kept/x"], r"FULL/kept.* cannot be used \(Not a directory\); check the path"),
    ],
    ids=["unknown name", "outside", "no best", "dtype", "full", "under a file"],
)
def test_a_wrong_call_leaves_nothing_behind(make_run, tmp_path, capsys, options, message) -> None:
    run, _ = make_run()
    (tmp_path / "FULL").mkdir()
    (tmp_path / "FULL" / "kept").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    options = [option.replace("FULL", str(tmp_path / "FULL")) for option in options]
    with pytest.raises(SystemExit) as refused:
        main(["export", str(run), "--out", str(tmp_path / "out"), *options])
    assert refused.value.code == 2
    said = capsys.readouterr().err.replace(f"{tmp_path}/", "")
    assert said.startswith("error: ") and said.count("\n") == 1
    assert re.search(message, said), said
    assert sorted(tmp_path.rglob("*")) == before


def test_what_is_no_run_or_has_nothing_to_export(make_run, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"nowhere: no run directory \(config.yaml is missing\)"):
        export_run(tmp_path / "nowhere", tmp_path / "out")
    run, _ = make_run()
    (run / "checkpoints").rename(run / "checkpoints_moved")
    with pytest.raises(ValueError, match=r"run: the run has no complete checkpoint to export"):
        export_run(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()
