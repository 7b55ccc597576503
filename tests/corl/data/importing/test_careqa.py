NAN = float("nan")


def row(k, **change):
    return {
        "exam_id": float(k),
        "question": f"Regarding the valve number {k}, it is true that:",
        "op1": "a",
        "op2": "b",
        "op3": "a and b",
        "op4": "none",
        "cop": 3.0,
        "year": 2021.0,
        "category": "Nursing",
        "unique_id": f"u-{k}",
        **change,
    }


EMPTY = dict.fromkeys(row(0), NAN)


def test_an_item_from_floats(imported):
    (item,), _ = imported("careqa", row(1))
    assert (item.id, item.answer, item.lang) == ("careqa:u-1", "C", "en")
    assert item.options == {"A": "a", "B": "b", "C": "a and b", "D": "none"}
    assert item.meta == {"category": "Nursing", "year": 2021, "flags": ["none_option"]}


def test_rows_of_nan_are_among_the_drops(imported):
    items, report = imported("careqa", row(1), EMPTY, row(2), EMPTY)
    assert (report.read, report.written, len(report.dropped)) == (4, 2, 2)
    assert [(drop.row, drop.reason) for drop in report.dropped] == [(2, "no question"), (4, "no question")]


def test_golds(imported):
    rows = [row(k, cop=cop) for k, cop in enumerate([1, "2", 4.0, 0, 5.0, 2.5, NAN, None])]
    items, report = imported("careqa", *rows)
    assert [item.answer for item in items] == ["A", "B", "D"] and len(report.dropped) == 5


def test_a_table(tmp_path, imported):
    (tmp_path / "careqa").write_text("question,op1,op2,op3,op4,cop,unique_id\nIs it?,None,NA,null,nan,2.0,7\n")
    (item,), _ = imported("careqa", source=tmp_path / "careqa")
    assert list(item.options.values()) == ["None", "NA", "null", "nan"] and item.answer == "B" and item.id == "careqa:7"


def test_the_spanish_half_says_so(imported):
    rows = [row(k, question=f"Señale la opción falsa número {k}:") for k in range(3)]
    assert [item.lang for item in imported("careqa", *rows)[0]] == ["es"] * 3
