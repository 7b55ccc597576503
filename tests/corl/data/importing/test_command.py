"""`corl data import` as it is called: what it prints, exit codes, and that wrong input gives one line and no file."""

import json
import re

import pytest

from corl.cli import main

ROW = {"question": "Which?", "op1": "x", "op2": "y", "op3": "z", "op4": "w", "cop": 2.0}


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_a_folder_in_print(tmp_path, capsys):
    folder = tmp_path / "set"
    folder.mkdir()
    write(folder / "a.jsonl", ROW, {**ROW, "cop": 9.0})
    write(folder / "b.jsonl", {**ROW, "op4": ""})
    (folder / "README.md").write_text("About it.")
    out = str(tmp_path / "items.jsonl")
    main(["data", "import", "careqa", str(folder), "--out", out])
    said = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"dropped row 2 \(careqa:[0-9a-f]{16}\): no usable gold .*a\.jsonl, row 2\]", said[0])
    assert said[1:] == [
        f"repaired 1 times, listed in {out}.report.json",
        f"read {folder}/a.jsonl (2 rows), {folder}/b.jsonl (1 rows)",
        "ignored README.md: no layout of careqa",
        f"{out}: 2 items; read 3, dropped 1, not selected 0",
    ]


def test_many_drops_are_listed_in_the_report(tmp_path, capsys):
    source = write(tmp_path / "source", ROW, *[{**ROW, "question": ""}] * 51)
    main(["data", "import", "careqa", source, "--out", str(tmp_path / "items.jsonl")])
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 22 and said[20] == f"dropped 31 more rows, listed in {tmp_path}/items.jsonl.report.json"
    assert len(json.loads((tmp_path / "items.jsonl.report.json").read_text())["dropped"]) == 51


@pytest.mark.parametrize(
    ("arguments", "rows", "said"),
    [
        (["jmed"], [{"q": "x", "a": "y"}], "no layout of jmed that is known .*the keys found are: a, q"),
        (["medkgqa"], [{"text": "x"}], "the keys found are: text"),
        (["careqa", "--strict"], [ROW, {**ROW, "cop": None}], "2 rows read, 1 dropped.*nothing was written"),
        (["careqa", "--category", "x"], [ROW], "careqa has no choice of category; leave it out"),
        (["careqa", "--split", "test"], [ROW], "is one file and has no splits"),
        (["medmcqa", "--cop-base", "2"], [ROW], "invalid choice"),
        (["items"], [], "is empty"),
    ],
)
def test_wrong_input_exits_2_with_one_line(tmp_path, capsys, arguments, rows, said):
    source = write(tmp_path / "source", *rows)
    name, *rest = arguments
    with pytest.raises(SystemExit) as refused:
        main(["data", "import", name, source, "--out", str(tmp_path / "items.jsonl"), *rest])
    assert refused.value.code == 2
    output = capsys.readouterr()
    assert output.out == "" and re.fullmatch(r"error: [^\n]+\n", output.err) and re.search(said, output.err)
    assert [entry.name for entry in tmp_path.iterdir()] == ["source"]
