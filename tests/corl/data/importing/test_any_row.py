"""Whatever the values of its rows are, an import ends in items that can be read and counts that add up, or refuses."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corl.data.importing import DATASETS, import_dataset
from corl.data.items import read_items

LETTERED = {"A": "x", "B": "y", "C": "z"}
OPA = {"opa": "x", "opb": "y", "opc": "z", "opd": "w"}
GOOD = {
    "medqa": {"question": "?", "options": LETTERED, "answer_idx": "A", "answer": "x", "context": ["Seen."], "id": 1},
    "medmcqa": {"question": "?", **OPA, "cop": 4, "id": "1", "subject_name": "x"},
    "pubmedqa": {"pubid": 1, "question": "?", "context": {"contexts": ["x"], "labels": ["y"]}, "final_decision": "no"},
    "medxpertqa": {"question": "? Answer Choices: (A) x (B) y (C) z", "options": LETTERED, "label": ["A"], "id": "1"},
    "mmlu_pro": {"question": "?", "options": ["x", "y"], "answer": "A", "answer_index": 0, "category": "x"},
    "careqa": {"question": "?", "op1": "x", "op2": "y", "op3": "z", "op4": "w", "cop": 1.0, "year": 2021.0},
    "medbullets": {"question": "?", **OPA, "ope": "v", "answer_idx": "A", "link": "x"},
    "jmed": {"question": "?", "options": LETTERED, "answer": "A"},
    "cmexam": {"Question": "?", "Options": "A x\nB y", "Answer": "AB"},
    "medkgqa": {"question": "?", "choices": "A. x B. y", "answer": "A", "graph_idx": 3},
    "items": {"question": "?", "options": LETTERED, "answer": "A", "meta": {"flags": []}, "difficulty": "easy"},
}
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 30)
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["A", "C,A", "x", "A. x\nB. y", "{'A': 1}", "[", "\ud800", "None", "nan"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["A", "B", "D", "letter", "x"]), inner),
    max_leaves=6,
)


def test_every_set_is_tried():
    assert set(GOOD) == set(DATASETS)


@pytest.mark.parametrize("name", GOOD)
@settings(max_examples=25, deadline=None, database=None)
@given(data=st.data())
def test_any_values(name, data):
    row = GOOD[name]
    changes = data.draw(st.lists(st.dictionaries(st.sampled_from(sorted(row)), VALUES, max_size=3), max_size=3))
    rows = [row, *[row | change for change in changes], row]
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder, "source"), Path(folder, "out", "items.jsonl")
        source.write_text("".join(json.dumps(row) + "\n" for row in rows))
        Path(folder, "test_ground_truth.json").write_text('{"2": "no"}')
        try:
            report = import_dataset(name, source, out)
        except ValueError as error:
            assert str(error).strip() and not out.exists() and not Path(f"{out}.report.json").exists()
            return
        items = read_items(out)
        told = json.loads(Path(f"{out}.report.json").read_text())
        assert len(items) == report.written == told["written"]
        assert len(rows) == told["read"] == told["written"] + len(told["dropped"]) + told["not_selected"]
        assert items[0].answer == {"medmcqa": "D", "pubmedqa": "B", "cmexam": "A,B"}.get(name, "A")
