import pytest


def row(k, cop, **change):
    return {
        "id": f"q{k}",
        "question": f" Question {k}? ",
        "opa": "one",
        "opb": "two",
        "opc": "three",
        "opd": "four",
        "cop": cop,
        "choice_type": "multi",
        "exp": "It is two, as the text says.",
        "subject_name": "Surgery",
        "topic_name": None,
        **change,
    }


def rows(*cops):
    return [row(k, cop) for k, cop in enumerate(cops)]


@pytest.mark.parametrize(
    ("cops", "choices", "golds"),
    [
        ((1, 4, 2, 3), {}, "ADBC"),
        ((0, 1, 3, 2), {}, "ABDC"),
        (("1", "4", 2.0), {}, "ADB"),
        ((1, 2), {"cop_base": 1}, "AB"),
        ((1, 2), {"cop_base": 0}, "BC"),
        ((4, 1, -1, None), {}, "DA"),
        ((0, -1, 2), {}, "AC"),
        ((0, 4, 1), {"cop_base": 1}, "DA"),
        ((0, 4, 1), {"cop_base": 0}, "AB"),
        ((4, 5, "x", True, 1), {}, "DA"),
    ],
)
def test_what_cop_counts_from_is_told_by_the_whole_file(imported, cops, choices, golds):
    items, report = imported("medmcqa", *rows(*cops), **choices)
    assert "".join(item.answer for item in items) == golds
    assert len(report.dropped) == len(cops) - len(golds)
    assert all("no usable gold" in drop.reason for drop in report.dropped)


@pytest.mark.parametrize(
    ("cops", "said"),
    [((0, 4, 2), "both a cop of 0 and one of 4.*say --cop-base"), ((1, 2, 3), "no cop of 0 and none of 4.*--cop-base")],
)
def test_a_file_that_does_not_tell_asks(tmp_path, refused, cops, said):
    import json

    (tmp_path / "source").write_text("".join(json.dumps(row) + "\n" for row in rows(*cops)))
    refused("medmcqa", said, tmp_path / "source")


def test_every_file_tells_for_itself(tmp_path, imported):
    import json

    folder = tmp_path / "set"
    folder.mkdir()
    for name, cops in {"a": (1, 4), "b": (0, 3), "c": (None, None)}.items():
        content = [row(f"{name}{k}", cop) for k, cop in enumerate(cops)]
        if name == "c":  # the authors' test file has no such column
            content = [{key: value for key, value in row.items() if key != "cop"} for row in content]
        (folder / name).write_text(json.dumps(content))
    items, report = imported("medmcqa", source=folder)
    assert [item.answer for item in items] == ["A", "D", "A", "D"]
    assert [drop.row for drop in report.dropped] == [5, 6]


def test_a_file_without_golds_gives_nothing(tmp_path, refused):
    import json

    (tmp_path / "source").write_text(json.dumps(rows(-1, -1)))
    refused("medmcqa", "no row of medmcqa survives.*-1 names no option", tmp_path / "source")


def test_an_item(imported):
    (item, *_), report = imported("medmcqa", row(1, 4, opc="None", opd="None"), row(2, 1, opb=""))
    assert (item.id, item.question, item.lang, item.context) == ("medmcqa:q1", "Question 1?", "en", None)
    assert item.options == {"A": "one", "B": "two", "C": "None", "D": "None"} and item.answer == "D"
    assert item.meta == {
        "subject_name": "Surgery",
        "choice_type": "multi",
        "flags": ["duplicate_options", "none_option"],
    }
    assert [repair.id for repair in report.repaired] == ["medmcqa:q2"]
