import json

import pytest

from corl.data.items import Item, read_items, write_items

ITEM = Item("set:1", "set", "en", "Seen.", "Which?", {"A": "x", "B": "y"}, "B", "easy", {"k": 1, "flags": ["mine"]})


def test_items_stay_what_they_are(tmp_path, imported):
    others = [Item(f"o{k}", "other", "zh", None, f"{k}?", {"A": "x", "B": "y"}, "A,B", None, {}) for k in (1, 2)]
    write_items(tmp_path / "some.txt", [ITEM, *others])
    items, report = imported("items", source=tmp_path / "some.txt")
    assert items[0] == ITEM and [item.id for item in items[1:]] == ["o1", "o2"]
    assert items[1].answer == "A,B" and items[1].meta == {"flags": []}
    assert not report.repaired


def test_importing_twice_changes_nothing(tmp_path, imported):
    from corl.data.importing import import_dataset

    write_items(tmp_path / "a", [ITEM])
    import_dataset("items", tmp_path / "a", tmp_path / "b")
    import_dataset("items", tmp_path / "b", tmp_path / "c")
    assert (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()
    assert read_items(tmp_path / "c") == [ITEM]


def test_three_keys_are_enough(imported):
    (item, zh), _ = imported(
        "items",
        {"question": "Which?", "options": {"A": "x", "B": "y"}, "answer": "BA"},
        {"question": "哪个？", "options": {"A": "甲", "B": "乙"}, "answer": "A"},
    )
    assert (item.source, item.lang, item.answer, zh.lang) == ("items", "en", "A,B", "zh")
    assert item.id.startswith("items:") and item.context is None and item.difficulty is None


def test_rows_that_are_dropped_and_repeated_ids(imported):
    row = {"id": "q", "source": "s", "question": "Which?", "options": {"A": "x", "B": "y"}, "answer": "A"}
    items, report = imported("items", row, row, row | {"answer": "C"}, row | {"options": {"A": "x"}})
    assert [item.id for item in items] == ["q", "q-2"] and [drop.row for drop in report.dropped] == [3, 4]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"options": ["x", "y"]}, "row 1: no layout of items"),
        ({"meta": [1]}, "row 1: no layout of items"),
        ({"meta": {"flags": "x"}}, "row 1: no layout of items"),
        ({"context": ["x"]}, "row 1: no layout of items"),
        ({"difficulty": "hard"}, "row 1: difficulty is 'hard'; make it null or one of easy"),
    ],
)
def test_values_of_another_shape_are_refused(tmp_path, refused, change, said):
    row = {"question": "Which?", "options": {"A": "x", "B": "y"}, "answer": "A"}
    (tmp_path / "source").write_text(json.dumps(row | change))
    refused("items", said, tmp_path / "source")
