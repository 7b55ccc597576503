import json

import pytest

from corl.data.importing import import_dataset

datasets = pytest.importorskip("datasets")


def row(k, **change):
    return {
        "question": f"Which sign is number {k}?",
        "opa": "fever",
        "opb": "rash",
        "opc": "cough",
        "opd": "None",
        "cop": k % 4 + 1,
        "id": f"q{k}",
        **change,
    }


def write(path, rows, ending="\n"):
    path.write_text("".join(json.dumps(row) + ending for row in rows))
    return path


def ids(items):
    return [item.id.removeprefix("medmcqa:") for item in items]


def test_a_folder_is_read_in_name_order_and_the_rest_is_listed(tmp_path, imported):
    folder = tmp_path / "set"
    (folder / "more").mkdir(parents=True)
    write(folder / "b.data", [row(k) for k in range(4)])
    (folder / "a").write_text("question,opa,opb,opc,opd,cop,id\nIs it?,x,y,z,NA,4,c1\nIs it so?,x,y,z,w,,c2\n")
    (folder / "LICENSE").write_text("Permission is granted, to all, for question, opa, opb, opc, opd, cop.\n")
    (folder / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\x00\xff")
    (folder / "empty.parquet").write_bytes(b"")
    (folder / "other.json").write_text('{"version": 1}')
    (folder / ".hidden").write_text("x")
    items, report = imported("medmcqa", source=folder)
    assert ids(items) == ["c1", "q0", "q1", "q2", "q3"] and items[0].options["D"] == "NA"
    assert report.files == {str(folder / "a"): 2, str(folder / "b.data"): 4}
    assert sorted(report.ignored) == [".hidden", "LICENSE", "empty.parquet", "more", "other.json", "picture.png"]
    assert (report.dropped[0].row, report.read) == (2, 6) and f"[{folder / 'a'}, row 2]" in report.dropped[0].reason


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("dev.json", json.dumps(row(1)) + "\n" + json.dumps(row(2))[:60]),
        ("dev.csv", 'question,opa,opb,opc,opd,cop\nWhich?,x,y,z,"w,4\n'),
        ("dev.parquet", "PAR1 and no more"),
        ("dev.list", json.dumps([row(1), 3])),
    ],
)
def test_a_damaged_file_of_the_set_is_no_foreign_file(tmp_path, refused, name, content):
    folder = tmp_path / "set"
    folder.mkdir()
    write(folder / "a.json", [row(k) for k in range(4)])
    (folder / name).write_text(content)
    refused("medmcqa", name, folder)


def test_a_folder_without_the_set_tells_its_files_and_keys(tmp_path, refused):
    folder = tmp_path / "set"
    folder.mkdir()
    said = "no layout of medmcqa that is known .*the files are: none; the keys found are: none"
    refused("medmcqa", said, folder)
    (folder / "x.json").write_text('[{"alpha": 1}, {"beta": 2}]')
    refused("medmcqa", "the files are: x.json; the keys found are: alpha, beta", folder)


def test_a_split_of_a_folder_are_the_files_named_after_it(tmp_path, imported, refused):
    folder = tmp_path / "set"
    folder.mkdir()
    write(folder / "train.json", [row(k) for k in range(4)])
    write(folder / "set_dev.json", [row(k) for k in range(4, 8)])
    refused(
        "medmcqa", "no file is named after the split 'test'; there are set_dev.json, train.json", folder, split="test"
    )
    items, report = imported("medmcqa", source=folder, split="validation")
    assert ids(items) == ["q4", "q5", "q6", "q7"] and list(report.ignored) == ["train.json"]
    assert ids(imported("medmcqa", source=folder)[0]) == ["q4", "q5", "q6", "q7", "q0", "q1", "q2", "q3"]
    assert ids(imported("medmcqa", source=folder / "train.json", split="train")[0]) == ["q0", "q1", "q2", "q3"]
    with pytest.raises(ValueError, match="is one file and has no splits"):
        imported("medmcqa", source=folder / "train.json", split="test")


def test_the_items_may_lie_in_the_folder_but_replace_none_of_its_files(tmp_path):
    write(tmp_path / "dev.json", [row(k) for k in range(4)])
    for _ in range(2):
        report = import_dataset("medmcqa", tmp_path, tmp_path / "items.jsonl")
        assert report.written == 4
    assert set(report.ignored) == {"items.jsonl", "items.jsonl.report.json"}
    with pytest.raises(ValueError, match="dev.json is a file of the source"):
        import_dataset("medmcqa", tmp_path, tmp_path / "dev.json")


def test_what_datasets_saves(tmp_path, imported, refused):
    tables = {
        "train": datasets.Dataset.from_list([row(k, cop=k % 4) for k in range(4)]),
        "validation": datasets.Dataset.from_list([row(k, cop=k % 4) for k in range(4, 8)]),
        "test": datasets.Dataset.from_list([row(8, cop=-1)]),
    }
    both = tmp_path / "both"
    datasets.DatasetDict(tables).save_to_disk(both)
    items, report = imported("medmcqa", source=both)
    assert ids(items) == [f"q{k}" for k in range(8)] and len(report.dropped) == 1
    assert [item.answer for item in items] == ["A", "B", "C", "D"] * 2
    assert [item.meta["split"] for item in items] == ["train"] * 4 + ["validation"] * 4
    assert list(report.files.values()) == [4, 4, 1]
    items, report = imported("medmcqa", source=both, split="dev")
    assert ids(items) == ["q4", "q5", "q6", "q7"] and set(report.ignored) == {"train", "test"}
    with pytest.raises(ValueError, match="both has no split 'other'; there are train, validation, test"):
        imported("medmcqa", source=both, split="other")
    tables["train"].save_to_disk(tmp_path / "one")
    items, _ = imported("medmcqa", source=tmp_path / "one")
    assert ids(items) == ["q0", "q1", "q2", "q3"] and "split" not in items[0].meta
    with pytest.raises(ValueError, match="one is one table without splits; leave split=test out"):
        imported("medmcqa", source=tmp_path / "one", split="test")
    with pytest.raises(ValueError, match="no layout of careqa .*the keys found are: cop, id, opa"):
        imported("careqa", source=tmp_path / "one")
    parquet = tmp_path / "train-00000-of-00001.parquet"
    tables["train"].to_parquet(parquet)
    assert ids(imported("medmcqa", source=parquet)[0]) == ["q0", "q1", "q2", "q3"]


def test_a_damaged_folder_of_datasets(tmp_path, refused):
    folder = tmp_path / "one"
    datasets.Dataset.from_list([row(k) for k in range(4)]).save_to_disk(folder)
    next(folder.glob("*.arrow")).write_bytes(b"")
    refused("medmcqa", "one: not what datasets saves", folder)
    (folder / "state.json").write_text('{"x": 1}')
    refused("medmcqa", "one: not what datasets saves", folder)
    (folder / "state.json").write_text("{")
    refused("medmcqa", "one: not what datasets saves", folder)


def test_a_hub_id_is_fetched_with_its_configuration(tmp_path, imported, refused, monkeypatch):
    rows = [{"question": "Which?", "options": {"A": "x", "B": "y"}, "label": "B", "id": "Text-1"}]
    asked = []

    def load_dataset(*arguments):
        asked.append(arguments)
        return datasets.DatasetDict({split: datasets.Dataset.from_list(rows) for split in ("dev", "test")})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    items, report = imported("medxpertqa", source="TsinghuaC3I/MedXpertQA", split="test")
    assert asked == [("TsinghuaC3I/MedXpertQA", "Text")] and items[0].meta["split"] == "test"
    assert report.files == {"TsinghuaC3I/MedXpertQA/test": 1} and set(report.ignored) == {"dev"}
    imported("medxpertqa", source="somebody/a-copy")
    assert asked[1] == ("somebody/a-copy", None)


@pytest.mark.parametrize("error", [ConnectionError("no\nnetwork"), ValueError("no config"), RuntimeError("a script")])
def test_a_hub_id_that_cannot_be_fetched(refused, monkeypatch, error):
    def load_dataset(*_):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    refused("medqa", "GBaker/MedQA: no such file or folder, and it cannot be fetched from the hub", "GBaker/MedQA")


@pytest.mark.parametrize("source", ["nowhere", "here/nothing", "some/dev.json", "a/b/c", "/no/where"])
def test_a_path_that_is_not_there_is_not_looked_for_on_the_hub(tmp_path, refused, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    monkeypatch.setattr(datasets, "load_dataset", lambda *_: pytest.fail("the hub was asked"))
    refused("medqa", rf"{source} cannot be read \(No such file or directory\)", source)


def test_content_of_every_shape(tmp_path, imported):
    rows = [row(k) for k in range(4)]
    names = list(rows[0])
    columns = {name: [row[name] for row in rows] for name in names}
    shapes = {
        "rows": rows,
        "by key": {row["id"]: row for row in rows},
        "columns": columns,
        "columns by number": {name: dict(enumerate(values)) for name, values in columns.items()},
    }
    for shape, content in shapes.items():
        (tmp_path / shape).write_text(json.dumps(content))
        assert ids(imported("medmcqa", source=tmp_path / shape)[0]) == ["q0", "q1", "q2", "q3"], shape
    (tmp_path / "one row").write_text(json.dumps(row(3)))
    assert ids(imported("medmcqa", source=tmp_path / "one row")[0]) == ["q3"]
    lines = [names, *[[str(value) for value in row.values()] for row in rows]]
    (tmp_path / "tsv").write_text("\n".join("\t".join(line) for line in lines))
    assert ids(imported("medmcqa", source=tmp_path / "tsv")[0]) == ["q0", "q1", "q2", "q3"]


def test_columns_of_different_length_are_refused(tmp_path, refused):
    content = {name: {"0": "x", "1": "y"} for name in ("question", "opa", "opb", "opc", "opd", "cop")}
    content["opd"]["2"] = "z"
    (tmp_path / "file").write_text(json.dumps(content))
    refused("medmcqa", "file: the columns cop and opd have different rows", tmp_path / "file")
