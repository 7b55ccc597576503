"""The `corl` command: what it says, where it writes, and exit codes; what it calls is tested with its own modules."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from corl.cli import main
from corl.data.items import Item, read_items, read_traces, write_items

ROWS = {
    "11": {"QUESTION": "Does it help?", "CONTEXTS": ["It did."], "LABELS": ["RESULTS"], "final_decision": "yes"},
    "12": {"QUESTION": "Does it harm?", "CONTEXTS": ["It did not."], "LABELS": ["RESULTS"], "final_decision": "no"},
    "13": {"QUESTION": " ", "CONTEXTS": ["?"], "LABELS": ["RESULTS"], "final_decision": "maybe"},
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch) -> Path:
    """A working directory with a small set in PubMedQA's layout, items, and completions to grade."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "ori_pqal.json").write_text(json.dumps(ROWS))
    (tmp_path / "set" / "test_ground_truth.json").write_text(json.dumps({"12": "no"}))
    options = {"A": "a fever", "B": "a rash"}
    path = {"path": ["x", "y", "a rash"]}
    with_meta = enumerate([{}, path])
    items = [Item(f"q{k}", "s", "en", None, "Which?", options, "B", None, meta) for k, meta in with_meta]
    write_items("items.jsonl", items)
    lines = [{"completion": f"<think>t</think>\n<answer>{x}</answer>", "options": options, "gold": "B"} for x in "AB"]
    (tmp_path / "graded.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def test_import_writes_items_and_a_report_and_tells_what_it_dropped(here: Path, capsys) -> None:
    main(["data", "import", "pubmedqa", "set", "--out", "out/items.jsonl"])
    assert [(item.id, item.answer) for item in read_items("out/items.jsonl")] == [("pubmedqa:11", "A")]
    said = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"dropped row 3 \(pubmedqa:13\): .*question.*", said[0])
    assert said[1:] == ["out/items.jsonl: 1 items; read 3, dropped 1, not selected 1"]
    report = json.loads((here / "out" / "items.jsonl.report.json").read_text())
    assert (report["read"], report["written"], len(report["dropped"]), report["not_selected"]) == (3, 1, 1, 1)


def test_import_takes_the_split_that_is_named(here: Path) -> None:
    main(["data", "import", "pubmedqa", "set", "--split", "test", "--out", "items_test.jsonl"])
    assert [item.id for item in read_items("items_test.jsonl")] == ["pubmedqa:12"]


def test_distill_follows_a_path_where_there_is_one(here: Path, capsys) -> None:
    main(["rods", "distill", "items.jsonl", "--out", "traces.jsonl"])
    traces = read_traces("traces.jsonl")
    assert [(t.item.id, t.label_conditioned, t.teacher) for t in traces] == [
        ("q0", True, "template"), ("q1", False, "embedded-graph")
    ]  # fmt: skip
    assert all(t.completion.endswith("</think>\n<answer>B</answer>") for t in traces)
    assert capsys.readouterr().out == "traces.jsonl: 2 traces, 1 of them written from the label by a template\n"


@pytest.mark.parametrize("out", [[], ["--out", "verdicts.jsonl"]], ids=["to standard output", "to a file"])
def test_grade_adds_three_keys_to_every_line(here: Path, capsys, out: list[str]) -> None:
    main(["grade", "graded.jsonl", *out])
    text = (here / "verdicts.jsonl").read_text() if out else capsys.readouterr().out
    lines = [json.loads(line) for line in text.splitlines()]
    assert [(line["format_ok"], line["extracted"], line["correct"]) for line in lines] == [
        (True, "A", False), (True, "B", True)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], r"the following arguments are required: COMMAND; see `corl --help`"),
        (["fly"], r"invalid choice: 'fly'.*see `corl --help`"),
        (["data", "import", "medqa"], r"required: SRC, --out; see `corl data import --help`"),
        (["data", "import", "medqb", "set", "--out", "x"], r"unknown set 'medqb'; known are medqa"),
        (["data", "import", "medqa", "nowhere", "--out", "x"], r"nowhere cannot be read \(No such file"),
        (["data", "import", "medqa", "set/ori_pqal.json", "--out", "x"], r"set/ori_pqal.json.*medqa"),
        (["data", "import", "pubmedqa", "set", "--split", "dev", "--out", "x"], r"split='dev'; pubmedqa has train"),
        (["data", "import", "pubmedqa", "set", "--cop-base", "1", "--out", "x"], r"pubmedqa has no choice of cop_base"),
        (["data", "import", "pubmedqa", "set", "--strict", "--out", "x"], r"1 dropped.*nothing was written"),
        (
            ["data", "import", "pubmedqa", "set", "--out", "items.jsonl/x"],
            r"items.jsonl/x cannot be written \(.*; choose",
        ),
        (["rods", "distill", "nowhere.jsonl", "--out", "x"], r"nowhere.jsonl cannot be read \(No such file"),
        (["rods", "distill", "graded.jsonl", "--out", "x"], r"graded.jsonl, line 1: item None: missing key id"),
        (["grade", "nowhere.jsonl"], r"nowhere.jsonl cannot be used \(No such file or directory\); check the path"),
        (["grade", "items.jsonl"], r"items.jsonl.*1.*missing completion, gold"),
        (["grade", "graded.jsonl", "--out", "items.jsonl/x"], r"items.jsonl/x cannot be written \(.*; choose another"),
        (["export", "nowhere", "--out", "x"], r"nowhere: no run directory \(config.yaml is missing\)"),
    ],
    ids=lambda value: " ".join(value) or "no arguments" if isinstance(value, list) else "",
)
def test_a_wrong_call_exits_2_with_one_line_and_writes_nothing(here: Path, capsys, arguments, message) -> None:
    before = {path: path.stat().st_mtime_ns for path in here.rglob("*")}
    with pytest.raises(SystemExit) as refused:
        main(arguments)
    assert refused.value.code == 2
    said = capsys.readouterr()
    assert said.out == "" and re.fullmatch(r"error: [^\n]+\n", said.err)
    assert re.search(message, said.err), said.err
    assert {path: path.stat().st_mtime_ns for path in here.rglob("*")} == before


def test_help_is_no_error(capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["data", "import", "--help"])
    assert ended.value.code == 0 and "--strict" in capsys.readouterr().out


@pytest.mark.slow
def test_the_installed_command_and_the_module_are_one(here: Path) -> None:
    for command in ([str(Path(sys.executable).parent / "corl")], [sys.executable, "-m", "corl.cli"]):
        done = subprocess.run([*command, "grade", "nowhere"], capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout) == (2, "") and done.stderr.startswith("error: nowhere cannot be used")


def test_a_reader_that_leaves_early_is_no_error() -> None:
    command = [sys.executable, "-m", "corl.cli", "rods", "graph", "embedded"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait() == 141
