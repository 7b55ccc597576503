import json
from pathlib import Path

import pytest

from corl.data.importing import import_dataset
from corl.data.items import read_items
from corl.data.prompts import prompt_text

REAL = Path(__file__).parents[5] / "shared" / "data" / "pubmedqa"


def row(decision, **change):
    return {
        "QUESTION": "Does walking help? ",
        "CONTEXTS": ["Ninety people walked.", "Forty slept better."],
        "LABELS": ["METHODS", "RESULTS"],
        "MESHES": ["Walking"],
        "YEAR": "2001",
        "final_decision": decision,
        "LONG_ANSWER": "Walking helps indeed.",
        **change,
    }


def make_set(folder, rows, truth, name="ori_pqal.json"):
    (folder / name).write_text(json.dumps(rows, indent=4))
    if truth is not None:
        (folder / "test_ground_truth.json").write_text(json.dumps(truth))
    return folder


def imported(folder, source=None, **choices):
    report = import_dataset("pubmedqa", source or folder, folder / "items.jsonl", **choices)
    return read_items(folder / "items.jsonl"), report


ROWS = {"11": row("yes"), "12": row("no"), "13": row("maybe"), "14": row("no")}
TRUTH = {"12": "no", "13": "maybe", "99": "yes"}


@pytest.mark.parametrize(
    ("split", "ids"), [(None, "11 14"), ("train", "11 14"), ("test", "12 13"), ("all", "11 12 13 14")]
)
def test_test_ids_are_never_training_data(tmp_path, split, ids):
    items, report = imported(make_set(tmp_path, ROWS, TRUTH), split=split)
    assert [item.id for item in items] == [f"pubmedqa:{pmid}" for pmid in ids.split()]
    assert (report.read, report.written, report.not_selected) == (4, len(items), 4 - len(items))
    for item in items:
        assert item.meta["split"] == ("test" if item.id.removeprefix("pubmedqa:") in TRUTH else "train")


def test_an_item_in_full(tmp_path):
    items, _ = imported(make_set(tmp_path, ROWS, TRUTH), split="all")
    assert [item.answer for item in items] == ["A", "B", "C", "B"]
    item = items[0]
    assert item.question == "Does walking help?"
    assert item.context == "METHODS: Ninety people walked.\nRESULTS: Forty slept better."
    assert item.options == {"A": "yes", "B": "no", "C": "maybe"}
    assert "indeed" not in (tmp_path / "items.jsonl").read_text() and "indeed" not in prompt_text(item)


def test_any_file_name_and_fewer_labels_than_texts(tmp_path):
    make_set(tmp_path, {"11": row("yes", LABELS=["METHODS"]), "12": row("no", CONTEXTS=[])}, {"99": "no"}, "part.txt")
    items, _ = imported(tmp_path, tmp_path / "part.txt")
    assert [item.context for item in items] == ["METHODS: Ninety people walked.\nForty slept better.", None]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"final_decision": None}, "no usable gold ('' names no option)"),
        ({"final_decision": ["no"]}, "no usable gold ('' names no option)"),
        ({"final_decision": "perhaps"}, "no usable gold ('perhaps' names no option)"),
        ({"final_decision": "yes"}, "no usable gold (final_decision is yes, test_ground_truth.json says no)"),
        ({"QUESTION": ""}, "no question"),
    ],
)
def test_rows_that_are_dropped(tmp_path, change, reason):
    rows = {"12": {**ROWS["12"], **change}, "13": ROWS["13"]}
    items, report = imported(make_set(tmp_path, rows, TRUTH), split="test")
    assert [item.id for item in items] == ["pubmedqa:13"]
    assert [(drop.row, drop.id, drop.reason) for drop in report.dropped] == [(1, "pubmedqa:12", reason)]


@pytest.mark.parametrize(
    ("rows", "truth", "choices", "said"),
    [
        (ROWS, None, {}, r"test_ground_truth\.json is missing"),
        (ROWS, None, {"split": "all"}, r"test_ground_truth\.json is missing"),
        (ROWS, ["12"], {}, "does not map PMIDs"),
        (ROWS, {"12": ["no"]}, {}, "does not map PMIDs"),
        (ROWS, TRUTH, {"split": "dev"}, "split='dev'; pubmedqa has train, test, all"),
        ({"12": row("no")}, TRUTH, {}, "no row of pubmedqa survives .1 rows read, 0 dropped, 1 not selected"),
        ([row("no")], TRUTH, {}, "no layout of pubmedqa .* keys found are: CONTEXTS, LABELS"),
        ({"11": {"question": "Why?"}}, TRUTH, {}, "keys found are: question"),
        (row("no"), TRUTH, {}, "no layout of pubmedqa"),
        ({**ROWS, "15": "text"}, TRUTH, {}, "no layout of pubmedqa"),
        ({**ROWS, "15": row("no", CONTEXTS="one text")}, TRUTH, {}, "PMID 15: no layout of pubmedqa"),
    ],
)
def test_nothing_is_written_when_the_source_is_wrong(tmp_path, rows, truth, choices, said):
    make_set(tmp_path, rows, truth)
    with pytest.raises(ValueError, match=said):
        imported(tmp_path, **choices)
    assert not list(tmp_path.glob("items*"))


@pytest.mark.skipif(not REAL.is_dir(), reason="the real set is not here")
@pytest.mark.parametrize("split", ["train", "test"])
def test_the_real_file(tmp_path, split):
    source = json.loads((REAL / "ori_pqal.json").read_text(encoding="utf-8"))
    truth = json.loads((REAL / "test_ground_truth.json").read_text(encoding="utf-8"))
    report = import_dataset("pubmedqa", REAL, tmp_path / "items.jsonl", split=split, strict=True)
    items = {item.id.removeprefix("pubmedqa:"): item for item in read_items(tmp_path / "items.jsonl")}
    assert (report.read, report.written, report.not_selected) == (1000, 500, 500)
    assert items.keys() == (truth.keys() if split == "test" else source.keys() - truth.keys())
    for pmid, item in items.items():
        assert item.options[item.answer] == source[pmid]["final_decision"]
        assert item.context.count("\n") == len(source[pmid]["CONTEXTS"]) - 1
        assert source[pmid]["LONG_ANSWER"] not in prompt_text(item)
