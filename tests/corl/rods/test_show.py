"""`corl rods show`: the first items or traces, the right option marked."""

from pathlib import Path

import pytest

from corl.cli import main
from corl.data.items import write_items, write_traces
from corl.rods.traces import templated_trace


def test_items_and_traces(tmp_path: Path, capsys: pytest.CaptureFixture[str], make_item) -> None:
    items = [make_item(0, "easy"), make_item(1, answer="A,C")]
    write_items(tmp_path / "items.jsonl", items)
    main(["rods", "show", str(tmp_path / "items.jsonl")])
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "[easy] Question 0?", "    *A. yes   B. no   *C. perhaps".replace("*C", "C"), "",
        "[test] Question 1?", "    *A. yes   B. no   *C. perhaps", "",
    ]  # fmt: skip
    write_traces(tmp_path / "traces.jsonl", [templated_trace(items[0])])
    main(["rods", "show", str(tmp_path / "traces.jsonl"), "--n", "1"])
    assert capsys.readouterr().out.splitlines()[2].startswith("    <think>The options are: A. yes")


@pytest.mark.parametrize(("file", "count"), [("nowhere.jsonl", "1"), ("items.jsonl", "0"), ("other.jsonl", "1")])
def test_wrong_calls(tmp_path: Path, capsys: pytest.CaptureFixture[str], make_item, file: str, count: str) -> None:
    write_items(tmp_path / "items.jsonl", [make_item(0)])
    (tmp_path / "other.jsonl").write_text("no json\n")
    with pytest.raises(SystemExit) as ended:
        main(["rods", "show", str(tmp_path / file), "--n", count])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: ")
