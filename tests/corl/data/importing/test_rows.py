import pytest

from corl.data.importing.rows import Row, items_from


def row(number, question="Which?", options=("w", "x", "y"), answer="B", **rest):
    return Row(place=f"file, row {number}", question=question, options=list(options), answer=answer, **rest)


def test_rows_become_items_in_source_order_and_the_counts_add_up():
    rows = [
        row(1, native_id=7, context=" seen ", meta={"part": 1}),
        row(2, question="  "),
        row(3, selected=False),
        row(4, options=["w", None, " "]),
        row(5, answer="D"),
        row(6, answer=None),
        row(7, bad_gold="two golds"),
        row(8, question=" Why? ", options=[" w ", "x"], answer="A,B", lang="zh"),
    ]
    items, report = items_from("toy", rows)
    assert [(item.id, item.context, item.question, item.lang) for item in items] == [
        ("toy:7", "seen", "Which?", "en"),
        (items[1].id, None, "Why?", "zh"),
    ]
    assert items[0].meta == {"part": 1, "flags": []}
    assert (items[1].options, items[1].answer) == ({"A": "w", "B": "x"}, "A,B")
    assert (report.read, report.written, report.not_selected, report.repaired) == (8, 2, 1, ())
    assert [(drop.row, drop.reason) for drop in report.dropped] == [
        (2, "no question"),
        (4, "fewer than two options (1)"),
        (5, "no usable gold ('D' names no option)"),
        (6, "no usable gold (None names no option)"),
        (7, "no usable gold (two golds)"),
    ]
    assert all(drop.id.startswith("toy:") for drop in report.dropped)


@pytest.mark.parametrize(
    ("options", "answer", "expected", "gold", "changes"),
    [
        (["w", "x", None], "B", {"A": "w", "B": "x"}, "B", ["option C has no text"]),
        (["w", " ", "y", "z"], "A,D", {"A": "w", "B": "y", "C": "z"}, "A,C", ["option B has no text"]),
        (["w", float("nan"), "y"], "C", {"A": "w", "B": "y"}, "B", ["option B has no text"]),
        (["w", 2, 0.5], "C", {"A": "w", "B": "2", "C": "0.5"}, "C", ["option B is a number", "option C is a number"]),
    ],
)
def test_an_option_without_text_goes_and_the_gold_moves_with_its_option(options, answer, expected, gold, changes):
    (item,), report = items_from("toy", [row(4, options=options, answer=answer)])
    assert (item.options, item.answer) == (expected, gold)
    assert [(repair.row, repair.id) for repair in report.repaired] == [(1, item.id)] * len(changes)
    assert all(repair.change.startswith(said) for repair, said in zip(report.repaired, changes, strict=True))


def test_gold_on_an_option_without_text_is_no_gold():
    items, report = items_from("toy", [row(1, options=["w", "x", ""], answer="C")])
    assert not items and report.dropped[0].reason == "no usable gold ('C' names no option)"


def test_flags_list_what_is_kept():
    rows = [
        row(1, options=["w", "w ", "y"], answer="C"),
        row(2, options=["None", "x"]),
        row(3, question="Another?", options=["none", "None"]),
        row(4, question="Another?", context="of another patient", options=["a None", "W", "w"]),
    ]
    flags = [item.meta["flags"] for item in items_from("toy", rows)[0]]
    repeated = "repeated_stem"
    assert flags == [["duplicate_options", repeated], [repeated, "none_option"], ["none_option"], []]


def test_ids_are_native_or_a_digest_and_repeats_are_numbered():
    rows = [row(1, native_id=0), row(2, native_id="0"), row(3, native_id="0-2"), row(4), row(5), row(6, answer="A")]
    rows += [row(7, options=["w", "x", "z"]), row(8, native_id=float("nan"), question="Other?")]
    ids = [item.id for item in items_from("toy", rows)[0]]
    assert ids[:3] == ["toy:0", "toy:0-2", "toy:0-2-2"]
    digest = ids[3].removeprefix("toy:")
    assert len(digest) == 16 and int(digest, 16)
    assert ids[4:6] == [f"toy:{digest}-2", f"toy:{digest}-3"]  # the gold is no part of an id
    assert len(set(ids)) == len(ids)
    assert ids[3] == items_from("toy", [row(1)])[0][0].id


@pytest.mark.parametrize("answer", ["B,A", "A,A", "A;B", "a", "", "A,", "AB", ["A"], 0, True])
def test_a_gold_that_is_no_letters_in_order_is_no_gold(answer):
    items, report = items_from("toy", [row(1, answer=answer)])
    assert not items and report.dropped[0].reason.startswith("no usable gold (")


def test_a_long_gold_is_cut_in_the_report():
    _, report = items_from("toy", [row(1, answer="x" * 5000)])
    assert len(report.dropped[0].reason) < 120


def test_an_item_of_its_own_keeps_source_id_difficulty_and_flags():
    own = {"source": "set", "difficulty": "easy", "meta": {"flags": ["mine", "repeated_stem"], "k": 1}}
    items, _ = items_from("items", [row(1, native_id="q1", **own), row(2, question="Else?", **own)])
    assert [(item.source, item.difficulty) for item in items] == [("set", "easy")] * 2
    assert items[0].id == "q1" and items[1].id.startswith("set:") and len(items[1].id) == len("set:") + 16
    assert items[0].meta == {"k": 1, "flags": ["mine"]}  # the stem is not repeated here


def test_distinct_stems_keep_the_first_usable_row_of_each():
    rows = [
        row(1, question="One ?", answer=None),
        row(2, question="One  ?"),
        row(3, question="One ?"),
        row(4, question="Two?"),
        row(5, question="Three?"),
    ]
    items, report = items_from("toy", rows, distinct_stems=2)
    assert [item.question for item in items] == ["One  ?", "Two?"]
    assert (report.read, report.written, len(report.dropped), report.not_selected) == (5, 2, 1, 2)
    assert not any(item.meta["flags"] for item in items)


def test_places_are_said_where_rows_of_several_files_are_counted_together():
    rows = [row(1), row(7, question=""), row(8, options=["w", None, "x", "y"], answer="A")]
    _, report = items_from("toy", rows, say_place=True)
    assert report.dropped[0].reason == "no question [file, row 7]" and report.dropped[0].row == 2
    assert report.repaired[0].change.endswith("move up [file, row 8]") and report.repaired[0].row == 3


def test_ids_from_columns_with_gaps_and_from_half_characters():
    items, _ = items_from("toy", [row(1, native_id=7.0), row(2, native_id="\ud800"), row(3, question="\ud800?")])
    assert [item.id for item in items[:2]] == ["toy:7", "toy:\\ud800"]
    assert items[2].id.isascii()


def test_more_options_than_letters_are_an_error_that_names_the_row():
    with pytest.raises(ValueError, match="file, row 3 has 27 options; an item holds 26"):
        items_from("toy", [row(3, options=map(str, range(27)))])
