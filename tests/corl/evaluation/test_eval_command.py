"""`corl eval` and `corl eval compare` as a person calls them: exit codes, a kill -9, published questions."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from corl.cli import main
from corl.data.items import write_items
from corl.evaluation.answers import ANSWERS

ROOT = Path(__file__).resolve().parents[3]
DATA = ROOT.parent / "shared" / "data"
ENVIRONMENT = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}", "CUDA_VISIBLE_DEVICES": ""}
CORL = (sys.executable, "-m", "corl.cli")


@pytest.fixture
def here(tmp_path, monkeypatch, make_column_items) -> Path:
    monkeypatch.chdir(tmp_path)
    write_items("pubmedqa.jsonl", make_column_items("pubmedqa", 90))
    write_items("bio.jsonl", make_column_items("mmlu_pro_biology", 60))
    for name, letter in (("a", "A"), ("b", "B")):
        lines = [{"id": f"pubmedqa:{k}", "completion": f"<answer>{letter}</answer>"} for k in range(90)]
        Path(f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    Path("broken.jsonl").write_text('{"id": "pubmedqa:0"}\n')
    return tmp_path


def test_eval_prints_the_table_and_compare_pairs_two_of_them(here, capsys):
    for name in "ab":
        main(["eval", name, "--items", "pubmedqa.jsonl", "--completions", f"{name}.jsonl"])
        assert capsys.readouterr().out == Path(f"runs/eval/{name}/table.md").read_text()
    main(["eval", "compare", "runs/eval/a", "runs/eval/b", "--report", "compared.json"])
    said = capsys.readouterr().out
    assert "| pubmedqa | 90 | 33.33 | 33.33 | +0.00 +- " in said and "| 30 / 30 | 1.0000 |" in said
    assert "- settings differ: completions: a.jsonl (" in said
    found = json.loads(Path("compared.json").read_text())
    assert (found["sets"][0]["n"], found["sets"][0]["p"], found["overall"]) == (90, 1.0, None)


@pytest.mark.parametrize(("arguments", "message"), [
    (["eval"], "one of the arguments --items --suite is required"),
    (["eval", "m"], "one of the arguments --items --suite is required"),
    (["eval", "m", "--suite", "other"], "invalid choice: 'other'"),
    (["eval", "m", "--suite", "fleming", "--items", "x"], "not allowed with argument"),
    (["eval", "m", "--suite", "fleming"], r"data/fleming: no such folder.*`corl data import SET SRC"),
    (["eval", "m", "--items", "bio.jsonl", "--items-dir", "x"], "--items-dir is of --suite"),
    (["eval", "m", "--items", "nowhere.jsonl"], r"nowhere.jsonl cannot be read \(No such file"),
    (["eval", "m", "--items", "a.jsonl"], "a.jsonl, line 1: item 'pubmedqa:0': missing key"),
    (["eval", "m", "--items", "bio.jsonl", "bio.jsonl"], "'mmlu_pro_biology:0' is in bio.jsonl too"),
    (["eval", "m", "--items", "bio.jsonl"], r"m: no Hugging Face directory \(config.json is missing\)"),
    (["eval", "--items", "bio.jsonl"], "MODEL_DIR is missing"),
    (["eval", "m", "--items", "bio.jsonl", "--samples", "0"], "samples=0 must be at least 1"),
    (["eval", "m", "--items", "bio.jsonl", "--samples", "x"], "invalid int value: 'x'"),
    (["eval", "m", "--items", "bio.jsonl", "--completions", "nowhere"], "nowhere cannot be used"),
    (["eval", "m", "--items", "bio.jsonl", "--completions", "a.jsonl"], "none of its 90 ids is an item's"),
    (["eval", "m", "--items", "bio.jsonl", "--completions", "broken.jsonl"], "broken.jsonl, line 1: it needs one of"),
    (["eval", "m", "--items", "pubmedqa.jsonl", "--completions", "a.jsonl", "--out", "b.jsonl"], "it is a file"),
    (["eval", "m", "--items", "pubmedqa.jsonl", "--completions", "a.jsonl", "--out", "."], "it holds other things"),
    (["eval", "m", "--items", "pubmedqa.jsonl", "--completions", "a.jsonl", "--out", "b.jsonl/x"],
     "b.jsonl/x/settings.json cannot be"),
    (["eval", "compare"], r"required: DIR1, DIR2; see `corl eval compare --help`"),
    (["eval", "compare", "x", "y"], r"x: no evaluation \(settings.json is missing\)"),
], ids=lambda value: " ".join(value) if isinstance(value, list) else "")  # fmt: skip
def test_a_wrong_call_exits_2_with_one_line_and_writes_nothing(here, capsys, arguments, message):
    before = {path: path.stat().st_mtime_ns for path in here.rglob("*")}
    with pytest.raises(SystemExit) as refused:
        main(arguments)
    said = capsys.readouterr()
    assert refused.value.code == 2 and said.out == ""
    assert re.fullmatch(r"error: [^\n]+\n", said.err) and re.search(message, said.err), said.err
    assert {path: path.stat().st_mtime_ns for path in here.rglob("*")} == before


def test_help_names_both_forms(capsys):
    for arguments, named in ((["eval", "--help"], "--suite"), (["eval", "compare", "--help"], "DIR1")):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 0 and named in capsys.readouterr().out


@pytest.mark.slow
def test_killed_half_way_and_started_again_it_gives_the_same_table(here, answering_model):
    command = [*CORL, "eval", answering_model, "--items", "pubmedqa.jsonl", "bio.jsonl", "--samples", "2"]
    command += ["--temperature", "1", "--top-p", "1", "--max-tokens", "12", "--max-seqs", "4", "--open-think"]
    done = subprocess.run([*command, "--out", "whole"], env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr

    lines = Path("killed", ANSWERS)
    process = subprocess.Popen([*command, "--out", "killed"], env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 300
    while (lines.read_bytes() if lines.exists() else b"").count(b"\n") < 40 and time.monotonic() < end:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    had = lines.read_bytes()
    finished = had.count(b"\n")
    assert 40 <= finished < 150
    with lines.open("ab") as file:
        file.write(b'{"id": "pubmedqa:8')  # as if in the middle of a line

    again = subprocess.run([*command, "--out", "killed"], env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
    assert again.returncode == 0, again.stderr
    assert f"killed: {finished} of 150 items are answered already" in again.stderr
    assert lines.read_bytes().startswith(had)
    assert lines.read_bytes() == Path("whole", ANSWERS).read_bytes()
    assert again.stdout == done.stdout
    sets = json.loads(Path("killed/table.json").read_text())["sets"]
    assert all(0 < s["accuracy"]["value"] < 1 and 0 < s["null"] < 1 and 0 < s["truncated"] < 1 for s in sets)
    for name in ("table.json", "table.md", "settings.json"):
        assert Path("killed", name).read_bytes() == Path("whole", name).read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "pubmedqa").is_dir(), reason="the real question sets are not beside the checkout")
def test_published_questions_end_to_end(tmp_path, make_checkpoint, capsys):
    from corl.data.items import read_items
    from corl.data.prompts import prompt_text

    pubmedqa, biology = tmp_path / "pubmedqa.jsonl", tmp_path / "bio.jsonl"
    main(["data", "import", "pubmedqa", str(DATA / "pubmedqa"), "--split", "test", "--out", str(pubmedqa)])
    main(["data", "import", "mmlu_pro", str(DATA / "mmlu_pro" / "biology.jsonl"), "--out", str(biology)])
    texts = [prompt_text(item) for file in (pubmedqa, biology) for item in read_items(file)]
    model = make_checkpoint(tmp_path / "model", texts, tokens=1000, max_position_embeddings=4096)
    capsys.readouterr()
    few = ["--limit", "24", "--max-tokens", "8", "--out", str(tmp_path / "out")]
    main(["eval", str(model), "--items", str(pubmedqa), str(biology), *few])
    said = capsys.readouterr().out
    assert "| PubMedQA | partial: 24 of 500 |" in said and "| MMLU-Pro Bio | partial: 24 of 717 |" in said

    # Recorded answers to all of them: both sets are complete.
    recorded = tmp_path / "right.jsonl"
    items = [item for file in (pubmedqa, biology) for item in read_items(file)]
    lines = [{"id": item.id, "completion": f"<answer>{item.answer}</answer>"} for item in items]
    recorded.write_text("".join(json.dumps(line) + "\n" for line in lines))
    folder = tmp_path / "right"
    main(["eval", "--items", str(pubmedqa), str(biology), "--completions", str(recorded), "--out", str(folder)])
    found = json.loads((folder / "table.json").read_text())
    assert [(s["key"], s["n"], s["status"], s["accuracy"]["value"]) for s in found["sets"]] == [
        ("pubmedqa", 500, "complete", 1.0), ("mmlu_pro_biology", 717, "complete", 1.0)
    ]  # fmt: skip
    assert found["sets"][0]["golds"] == {"A": 276, "B": 169, "C": 55}
