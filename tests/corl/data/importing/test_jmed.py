import json

import pytest

LETTERS = "ABCDEFGHIJKLMNOPQRSTU"
OPTIONS = {letter: f"第{k}种病" for k, letter in enumerate(LETTERS, 1)} | {"U": "以上都不是"}


def row(answer, **change):
    return {"question": "男，三十岁，头晕两天。最可能的诊断是什么？", "options": OPTIONS, "answer": answer, **change}


@pytest.mark.parametrize(
    ("answer", "gold"), [("U", "U"), (["C"], "C"), ("C,A", "A,C"), (["T", "B"], "B,T"), ("['K']", "K"), ("AB", "A,B")]
)
def test_twenty_one_options(imported, answer, gold):
    (item,), _ = imported("jmed", row(answer))
    assert (item.answer, item.lang, item.options) == (gold, "zh", OPTIONS)
    assert len(item.id) == len("jmed:") + 16


def test_rows_that_are_dropped(imported):
    items, report = imported("jmed", row("A"), row("V"), row("第1种病"), row(None), row("A", question=""), row([]))
    assert len(items) == 1 and [drop.row for drop in report.dropped] == [2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    "content",
    [
        [row("A", options=["x", "y"])],
        [row("A", answer_idx="A")],
        [row("A", id="1", source="s", lang="zh", context=None, difficulty=None, meta={})],
        [{"question": "?", "choices": "A. x", "label": "A"}],
    ],
    ids=["a list", "medqa", "items", "other keys"],
)
def test_other_sets_are_refused(tmp_path, refused, content):
    (tmp_path / "source").write_text(json.dumps(content))
    refused("jmed", "no layout of jmed that is known .*the keys found are: ", tmp_path / "source")
