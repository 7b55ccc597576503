import re
from dataclasses import replace

import pytest

from corl.data.benchmarks import NINE
from corl.data.items import write_items
from corl.evaluation.item_sets import limited, read_sets, read_suite


def test_items_go_to_their_columns_in_the_papers_order_and_the_rest_behind(make_column_items, tmp_path):
    biology, health = make_column_items("mmlu_pro_biology", 3), make_column_items("mmlu_pro_health", 2)
    law = [replace(item, id=f"law:{k}", meta={"category": "law"}) for k, item in enumerate(biology)]
    spanish = [replace(item, lang="es") for item in make_column_items("careqa", 1)]
    train = [replace(item, meta={"split": "train"}) for item in make_column_items("pubmedqa", 2)]
    own = [replace(item, id=f"own:{k}", source="own", meta={}) for k, item in enumerate(biology)]
    write_items(tmp_path / "a.jsonl", [*own, *law, *train, *spanish])
    write_items(tmp_path / "b.jsonl", [*health, *biology, *make_column_items("jmed", 4)])
    sets = read_sets([tmp_path / "a.jsonl", tmp_path / "b.jsonl"])
    assert [(s.key, len(s.items), s.whole, s.column is not None) for s in sets] == [
        ("jmed", 4, 1000, True), ("mmlu_pro_biology", 3, 717, True), ("mmlu_pro_health", 2, 818, True),
        ("own", 3, 3, False), ("mmlu_pro:law", 3, 3, False), ("pubmedqa:train", 2, 2, False),
        ("careqa:es:test", 1, 1, False),
    ]  # fmt: skip
    assert [s.items[0].id for s in sets][:3] == ["jmed:0", "mmlu_pro_biology:0", "mmlu_pro_health:0"]


@pytest.mark.parametrize(("key", "rows"), [
    ("careqa", 5621), ("jmed", 1000), ("medbullets", 298), ("medmcqa", 4183), ("medqa", 1273), ("medxpertqa", 2450),
    ("pubmedqa", 500), ("mmlu_pro_biology", 717), ("mmlu_pro_health", 818),
])  # fmt: skip
def test_the_denominators_are_the_papers(make_column_items, tmp_path, key, rows):
    write_items(tmp_path / "x.jsonl", make_column_items(key, rows + 1))
    (item_set,) = read_sets([tmp_path / "x.jsonl"])
    assert item_set.status(rows) == "complete"
    assert item_set.status(rows - 1) == f"partial: {rows - 1:,} of {rows:,}"
    assert item_set.status(rows + 1) == f"not the official set: {rows + 1:,} items instead of {rows:,}"
    assert [b.rows for b in NINE if b.key == key] == [rows]


def test_a_column_with_other_options_is_not_the_official_one(make_column_items, tmp_path):
    items = make_column_items("medbullets", 298)
    items[7] = replace(items[7], options=items[7].options | {"E": "e", "F": "f"})
    write_items(tmp_path / "x.jsonl", items)
    (item_set,) = read_sets([tmp_path / "x.jsonl"])
    assert re.match(r"not the official set: 1 items .* 4 to 5, the first is medbullets:7", item_set.status(298))


def test_a_limit_makes_every_set_partial(make_column_items, tmp_path):
    own = [replace(item, id=f"own:{k}", source="own") for k, item in enumerate(make_column_items("medqa", 5))]
    write_items(tmp_path / "x.jsonl", [*make_column_items("medqa", 9), *own])
    column, other = limited(read_sets([tmp_path / "x.jsonl"]), 4)
    assert [len(s.items) for s in (column, other)] == [4, 4]
    assert [s.status(4) for s in (column, other)] == ["partial: 4 of 1,273", "partial: 4 of 5"]
    assert [len(s.items) for s in limited([column, other], None)] == [4, 4]


def test_an_id_in_two_files_is_refused(make_column_items, tmp_path):
    for name in "ab":
        write_items(tmp_path / f"{name}.jsonl", make_column_items("medqa", 2))
    with pytest.raises(ValueError, match=r"b.jsonl: item 'medqa:0' is in .*a.jsonl too"):
        read_sets([tmp_path / "a.jsonl", tmp_path / "b.jsonl"])


def test_a_suite_says_what_is_missing_and_what_it_leaves_out(make_column_items, tmp_path):
    law = [replace(item, id=f"law:{k}", meta={"category": "law"})
           for k, item in enumerate(make_column_items("mmlu_pro_health", 3))]  # fmt: skip
    write_items(tmp_path / "mmlu.jsonl", [*law, *make_column_items("mmlu_pro_health", 2)])
    write_items(tmp_path / "any name.jsonl", make_column_items("medqa", 2))
    (tmp_path / "mmlu.jsonl.report.json").write_text("{}")
    sets, notes, files = read_suite(tmp_path)
    assert [s.key for s in sets] == ["medqa", "mmlu_pro_health"]
    assert [note.split(" (")[0] for note in notes] == [
        *(f"missing: {b.title}" for b in NINE if b.key not in ("medqa", "mmlu_pro_health")),
        "left out: 3 items of mmlu_pro:law, no column",
    ]
    assert [file.name for file in files] == ["any name.jsonl", "mmlu.jsonl"]


def test_a_suite_without_any_of_the_nine_is_refused(make_column_items, tmp_path):
    with pytest.raises(ValueError, match=r"nowhere: no such folder.*corl data import"):
        read_suite(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"its 0 files \*.jsonl hold no item of CareQA, JMED, .*corl data import"):
        read_suite(tmp_path)
    train = [replace(item, meta={"split": "train"}) for item in make_column_items("medqa", 2)]
    write_items(tmp_path / "x.jsonl", train)
    with pytest.raises(ValueError, match="its 1 files"):
        read_suite(tmp_path)
