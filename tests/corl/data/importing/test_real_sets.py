"""All rows of the published sets beside the checkout: counts, golds told again from the source, and option echo.

Their text never enters the project; without the files these tests are skipped.
"""

import json
import math
import re
from pathlib import Path

import pytest

from corl.data.benchmarks import benchmark_of
from corl.data.importing import import_dataset
from corl.data.items import read_items
from corl.grading import grade

REAL = Path(__file__).parents[5] / "shared" / "data"
# set, folder, choices, rows of the source, items
SETS = [
    ("medqa", "medqa_dev", {}, 1272, 1272),
    ("medqa", "medqa", {}, 300, 300),
    ("medmcqa", "medmcqa", {}, 1500, 1500),
    ("medxpertqa", "medxpertqa", {}, 244, 244),
    ("mmlu_pro", "mmlu_pro", {"category": "biology"}, 717, 717),
    ("careqa", "careqa", {}, 1500, 1498),
    ("pubmedqa", "pubmedqa", {"split": "test"}, 1000, 500),
    ("pubmedqa", "pubmedqa", {"split": "train"}, 1000, 500),
]

pytestmark = pytest.mark.skipif(not (REAL / "README.md").is_file(), reason="the real sets are not beside the checkout")


def rows_of(folder):
    """The source's rows by its own id or number, read here without anything of the importer."""
    (path,) = [
        path for path in (REAL / folder).iterdir() if path.suffix in (".jsonl", ".json") and "truth" not in path.name
    ]
    text = path.read_text(encoding="utf-8")
    return json.loads(text) if folder == "pubmedqa" else [json.loads(line) for line in text.split("\n") if line]


def gold_text(name, row):
    """The text of the right option, by a way of its own for every set."""
    if name == "medqa":
        return row["answer"]
    if name == "medmcqa":
        return [row[key] for key in ("opa", "opb", "opc", "opd")][row["cop"] - 1]
    if name == "medxpertqa":
        return next(option["content"] for option in row["options"] if [option["letter"]] == row["label"])
    if name == "mmlu_pro":
        return row["options"][row["answer_index"]]
    if name == "careqa":
        return row[f"op{row['cop']:.0f}"]
    return row["final_decision"]


@pytest.mark.parametrize(("name", "folder", "choices", "rows", "written"), SETS)
def test_counts_and_golds(tmp_path, name, folder, choices, rows, written):
    report = import_dataset(name, REAL / folder, tmp_path / "items.jsonl", **choices)
    items = read_items(tmp_path / "items.jsonl")
    told = json.loads((tmp_path / "items.jsonl.report.json").read_text())
    assert (report.read, report.written, len(items)) == (rows, written, written)
    assert told["read"] == told["written"] + len(told["dropped"]) + told["not_selected"]
    source = rows_of(folder)
    if name == "pubmedqa":
        truth = json.loads((REAL / folder / "test_ground_truth.json").read_text())
        source = [row for pmid, row in source.items() if (pmid in truth) == (choices["split"] == "test")]
    kept = [row for number, row in enumerate(source, 1) if number not in {drop.row for drop in report.dropped}]
    assert len(kept) == len(items)
    for row, item in zip(kept, items, strict=True):
        assert item.options[item.answer] == gold_text(name, row).strip()
        stem = row.get("question", row.get("QUESTION")).strip()
        assert stem.startswith(item.question) if name == "medxpertqa" else item.question.endswith(stem)
        assert (benchmark_of(item) is None) == (choices == {"split": "train"})


def test_the_rows_of_nan_in_careqa_are_listed(tmp_path):
    report = import_dataset("careqa", REAL / "careqa", tmp_path / "items.jsonl")
    empty = [
        number
        for number, row in enumerate(rows_of("careqa"), 1)
        if all(isinstance(value, float) and math.isnan(value) for value in row.values())
    ]
    assert [drop.row for drop in report.dropped] == empty and len(empty) == 2


def test_every_stem_of_medxpertqa_loses_its_options_and_nothing_else(tmp_path):
    report = import_dataset("medxpertqa", REAL / "medxpertqa", tmp_path / "items.jsonl")
    assert len(report.repaired) == 244
    for row, item in zip(rows_of("medxpertqa"), read_items(tmp_path / "items.jsonl"), strict=True):
        assert re.split(r"\s*Answer Choices: \(A\)", row["question"])[0] == item.question


def test_flags_say_what_the_rows_hold(tmp_path):
    import_dataset("medmcqa", REAL / "medmcqa", tmp_path / "items.jsonl")
    for row, item in zip(rows_of("medmcqa"), read_items(tmp_path / "items.jsonl"), strict=True):
        texts = [row[key].strip() for key in ("opa", "opb", "opc", "opd")]
        assert ("duplicate_options" in item.meta["flags"]) == (len(set(texts)) < 4)
        assert ("none_option" in item.meta["flags"]) == ("none" in [text.lower() for text in texts])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "folder", "choices"), [row[:3] for row in SETS])
def test_an_option_said_back_is_graded_as_that_option(tmp_path, name, folder, choices):
    """Letter and labelled text are always the label; the bare text is, unless R4 or R5 say otherwise."""
    import_dataset(name, REAL / folder, tmp_path / "items.jsonl", **choices)
    for item in read_items(tmp_path / "items.jsonl"):
        folded = [text.casefold() for text in item.options.values()]
        for letter, text in item.options.items():
            for payload in (
                letter,
                letter.lower(),
                f"{letter}. {text}",
                f"{letter}) {text}",
                f"The answer is {letter}.",
            ):
                result = grade(f"<think>x</think>\n<answer>{payload}</answer>", item.options, item.answer)
                assert result.extracted == letter and result.format_ok, (item.id, payload)
                assert result.correct == (letter == item.answer)
            if len(text) > 1 and folded.count(text.casefold()) == 1:
                said = grade(f"<think>x</think>\n<answer>{text}</answer>", item.options, item.answer)
                assert said.extracted == letter, (item.id, text)
