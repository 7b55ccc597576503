import json

import pytest


def row(k, *, five=True, **change):
    options = {"opa": "rest", "opb": "ice", "opc": "surgery", "opd": "None"} | ({"ope": "a cast"} if five else {})
    return {
        "link": f"https://example.org/{k}",
        "question": f"A runner, case {k}. What next?",
        **options,
        "answer_idx": "B",
        "answer": "ice",
        "explanation": "Ice helps.",
        **change,
    }


def as_columns(rows):
    return {name: {str(k): row[name] for k, row in enumerate(rows)} for name in rows[0]}


def as_table(rows):
    """With the empty columns at the end that the authors' tables have."""
    lines = [list(rows[0]), *[[row[name] for name in rows[0]] for row in rows]]
    return "".join(",".join(f'"{cell}"' if "," in cell else cell for cell in line) + ",,,,,\n" for line in lines)


@pytest.mark.parametrize("five", [False, True])
@pytest.mark.parametrize("write", [json.dumps, lambda rows: json.dumps(as_columns(rows)), as_table])
def test_the_layouts(tmp_path, imported, write, five):
    (tmp_path / "file").write_text(write([row(1, five=five), row(2, five=five)]))
    items, _ = imported("medbullets", source=tmp_path / "file")
    assert [item.answer for item in items] == ["B", "B"] and len(items[0].options) == 4 + five
    assert items[0].question == "A runner, case 1. What next?"
    assert items[0].meta == {"link": "https://example.org/1", "flags": ["none_option"]}


def test_only_the_first_298_stems_are_kept(imported):
    rows = [row(k) for k in range(300)]
    rows.insert(2, row(0, opa="crutches", answer_idx="C"))
    rows.insert(0, row(0, answer_idx=None))  # its stem is taken from the next row that has a gold
    items, report = imported("medbullets", *rows)
    assert [item.question for item in items] == [row(k)["question"] for k in range(298)]
    assert items[0].options["A"] == "rest"
    assert (report.read, report.written, len(report.dropped), report.not_selected) == (302, 298, 1, 3)
    assert not any("repeated_stem" in item.meta["flags"] for item in items)


def test_four_and_five_options_are_two_benchmarks(tmp_path, imported, refused):
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "medbullets_op4.json").write_text(json.dumps([row(1, five=False)]))
    (folder / "medbullets_op5.json").write_text(json.dumps([row(1), row(2, ope="")]))
    refused("medbullets", "op4.json has four options, .*op5.json five: .*import one", folder)
    assert len(imported("medbullets", source=folder, split="op5")[0]) == 2
