"""Every set as the hub has it: rows of invented content in the hub's columns, saved by `datasets`, imported again."""

import json

import pytest

from corl.data.importing import DATASETS

datasets = pytest.importorskip("datasets")

MEDQA = {
    "question": "Which vein is it?",
    "answer": "Portal",
    "options": {"A": "Caval", "B": "Portal", "C": "Renal", "D": "None"},
    "meta_info": "step1",
    "answer_idx": "B",
    "metamap_phrases": ["vein"],
}
ENDINGS = {"id": "d-1", "sent1": "Which vein is it?", "sent2": "", "ending0": "Caval", "ending1": "Portal", "label": 1}
CAREQA = {
    "exam_id": 3, "question": "It is true that:", "op1": "a", "op2": "b", "op3": "c", "op4": "d", "cop": 2,
    "year": 2022, "category": "Nursing", "unique_id": "u1",
}  # fmt: skip
MMLU = {
    "question_id": 9, "question": "Which gene?", "options": ["Aa", "aa", "N/A"], "answer": "B", "answer_index": 1,
    "cot_content": "", "category": "biology", "src": "made-up",
}  # fmt: skip
MEDMCQA = {
    "id": "m1", "question": "Which tooth?", "opa": "one", "opb": "two", "opc": "three", "opd": "four", "cop": 1,
    "choice_type": "single", "exp": "Two.", "subject_name": "Dental", "topic_name": None,
}  # fmt: skip
MEDXPERTQA = {
    "id": "Text-1", "question": "Which joint?\nAnswer Choices: (A) knee (B) hip", "options": {"A": "knee", "B": "hip"},
    "label": "B", "medical_task": "Diagnosis", "body_system": "Skeletal", "question_type": "Reasoning",
}  # fmt: skip
MEDBULLETS = {
    "link": "https://example.org", "question": "What next?", "opa": "rest", "opb": "ice", "opc": "heat", "opd": "cold",
    "answer_idx": "B", "answer": "ice", "explanation": "Ice.",
}  # fmt: skip
JMED = {"question": "什么病？", "options": {letter: f"病{letter}" for letter in "ABCDEFGHIJKLMNOPQRSTU"}, "answer": "B"}
CMEXAM = {"Question": "哪个？", "Options": [{"key": "A", "value": "甲"}, {"key": "B", "value": "乙"}], "Answer": "B"}
MEDKGQA = {"graph_idx": 3, "question": "Which gene?", "choices": "A. this one\nB. that one", "answer": "B"}
ITEM = {"id": "s:1", "source": "s", "lang": "en", "context": None, "question": "Which?",
        "options": {"A": "x", "B": "y"}, "answer": "B", "difficulty": None, "meta": {"k": 1}}  # fmt: skip
ROWS = [
    ("medqa", MEDQA, "Portal"), ("medqa", ENDINGS, "Portal"), ("careqa", CAREQA, "b"), ("mmlu_pro", MMLU, "aa"),
    ("medxpertqa", MEDXPERTQA, "hip"), ("medbullets", MEDBULLETS, "ice"), ("jmed", JMED, "病B"),
    ("cmexam", CMEXAM, "乙"), ("medkgqa", MEDKGQA, "that one"), ("items", ITEM, "y"), ("medmcqa", MEDMCQA, "two"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "row", "gold"), ROWS, ids=[f"{name}-{len(row)}" for name, row, _ in ROWS])
def test_rows_saved_by_datasets(tmp_path, imported, name, row, gold):
    table = datasets.Dataset.from_list([row])
    datasets.DatasetDict({"test": table}).save_to_disk(tmp_path / "saved")
    table.to_parquet(tmp_path / "file")
    (tmp_path / "lines").write_text(json.dumps(row))
    choices = {"cop_base": 0} if name == "medmcqa" else {}
    of_saved, of_parquet, of_lines = (
        imported(name, source=tmp_path / source, **choices)[0] for source in ("saved", "file", "lines")
    )
    assert of_parquet == of_lines and len(of_saved) == 1
    for (item,) in (of_saved, of_lines):
        assert item.options[item.answer] == gold and item.answer == "B"
        assert None not in item.options.values() and item.context is None
    assert of_saved[0].meta.get("split") == (None if name == "items" else "test")


def test_every_set_is_tried():
    assert {name for name, *_ in ROWS} | {"pubmedqa"} == set(DATASETS)


def test_letters_that_a_table_fills_up_with_nulls_are_no_repair(tmp_path, imported):
    five = {**MEDQA, "options": {**MEDQA["options"], "E": "Jugular"}}
    datasets.Dataset.from_list([MEDQA, five]).save_to_disk(tmp_path / "saved")
    items, report = imported("medqa", source=tmp_path / "saved")
    assert [len(item.options) for item in items] == [4, 5] and not report.repaired


@pytest.mark.parametrize(("label", "answer"), [(0, "A"), (3, "D"), ("2", "C"), (4, None), (-1, None), (None, None)])
def test_endings_and_their_label(imported, label, answer):
    row = {**ENDINGS, "sent2": "Look.", "ending2": "Renal", "ending3": "None", "label": label}
    items, report = imported("medqa", row, {**ENDINGS, "id": "d-2"})
    assert [item.answer for item in items] == [*([answer] if answer else []), "B"]
    assert len(report.dropped) == (answer is None)
    if answer:
        assert items[0].question == "Which vein is it? Look." and items[0].id == "medqa:d-1"
        assert list(items[0].options.values()) == ["Caval", "Portal", "Renal", "None"]


def pubmedqa_row(pubid, decision):
    context = {"contexts": ["Ten walked.", "Four slept."], "labels": ["METHODS", "RESULTS"], "meshes": ["Walking"]}
    return {
        "pubid": pubid,
        "question": "Does walking help?",
        "context": context,
        "long_answer": "Walking helps indeed.",
        "final_decision": decision,
    }


@pytest.mark.parametrize(("split", "ids"), [(None, [11]), ("test", [12]), ("all", [11, 12])])
@pytest.mark.parametrize("beside", [False, True])
def test_pubmedqa(tmp_path, imported, split, ids, beside):
    table = datasets.Dataset.from_list([pubmedqa_row(11, "yes"), pubmedqa_row(12, "maybe")])
    datasets.DatasetDict({"train": table}).save_to_disk(tmp_path / "set" / "saved")
    source = tmp_path / "set" / "saved"
    (source.parent if beside else source).joinpath("test_ground_truth.json").write_text('{"12": "maybe"}')
    items, report = imported("pubmedqa", source=source, split=split)
    assert [item.id for item in items] == [f"pubmedqa:{pmid}" for pmid in ids]
    assert items[-1].context == "METHODS: Ten walked.\nRESULTS: Four slept." and report.read == 2
    assert items[-1].meta["split"] == ("test" if ids[-1] == 12 else "train")
    assert "indeed" not in (tmp_path / "out" / "items.jsonl").read_text()


def test_pubmedqa_without_the_official_test_ids(tmp_path, refused, monkeypatch):
    table = datasets.Dataset.from_list([pubmedqa_row(11, "yes")])
    table.save_to_disk(tmp_path / "saved")
    refused("pubmedqa", r"test_ground_truth\.json is missing", tmp_path / "saved")
    monkeypatch.setattr(datasets, "load_dataset", lambda *_: datasets.DatasetDict({"train": table}))
    refused("pubmedqa", r"the hub does not have test_ground_truth\.json", "qiaojin/PubMedQA")
