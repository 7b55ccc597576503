"""Export in the authors' layout, and back again by the importer."""

import json
from dataclasses import replace

import pytest

from corl.cli import main
from corl.data.items import Item, read_items, write_items
from corl.rods.medkgqa import export_medkgqa, lost


def item_of(**changes) -> Item:
    fields = {"lang": "en", "context": None, "question": "Which drug lowers copper stores?", "answer": "B"}
    options = {"A": "Iron", "B": "Zinc", "C": "Salt"}
    return Item(
        id="i", source="s", difficulty=None, **({"options": options, "meta": {"graph_idx": 4}} | fields | changes)
    )


def test_sampled_items_come_back_as_they_were(tmp_path, capsys) -> None:
    made, rows, back = (tmp_path / name for name in ("made.jsonl", "rows.jsonl", "back.jsonl"))
    main(["rods", "sample", "--graph", "embedded", "--n", "60", "--seed", "8", "--lang", "both", "--out", str(made)])
    main(["rods", "export", "--medkgqa", str(made), "--out", str(rows)])
    assert capsys.readouterr().out.splitlines()[-1].endswith("read 60 = written 60 + left out 0")
    main(["data", "import", "medkgqa", str(rows), "--out", str(back)])
    assert {tuple(json.loads(line)) for line in rows.read_text().splitlines()} == {
        ("graph_idx", "question", "choices", "answer")
    }

    def told(item: Item) -> tuple:
        return item.question, item.options, item.answer, item.lang, item.context, item.meta["graph_idx"]

    assert list(map(told, read_items(back))) == list(map(told, read_items(made)))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"answer": "A,C"}, None),
        ({"options": {"A": "Vitamin B", "B": "a\nb", "C": "C. difficile"}}, None),
        ({"context": "A man."}, "context"),
        ({"lang": "zh"}, "would be read as en"),
        ({"options": {"A": "Iron\nB. Copper", "B": "Zinc"}}, "options"),
        ({"question": " Which drug? "}, "white space"),
    ],
)
def test_what_the_layout_would_lose_is_left_out(changes: dict, reason: str | None, tmp_path) -> None:
    item = item_of(**changes)
    found = lost(item)
    assert (found is None) == (reason is None) and (reason or "") in (found or "")
    write_items(tmp_path / "i.jsonl", [item, replace(item_of(), id="j")])
    report = export_medkgqa([tmp_path / "i.jsonl"], tmp_path / "rows.jsonl")
    assert report.written == 2 - (reason is not None)
    main(["data", "import", "medkgqa", str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "back.jsonl")])
    assert [i.options for i in read_items(tmp_path / "back.jsonl")][-1] == item_of().options


def test_nothing_to_write(tmp_path) -> None:
    write_items(tmp_path / "i.jsonl", [item_of(context="A man.")])
    with pytest.raises(ValueError, match="none of 1 items fits"):
        export_medkgqa([tmp_path / "i.jsonl"], tmp_path / "rows.jsonl")
    assert not (tmp_path / "rows.jsonl").exists()
