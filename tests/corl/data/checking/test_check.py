"""`corl data check` as a whole: findings, filter, fingerprint, exit codes."""

import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corl.cli import main
from corl.data.checking import check_items, check_places, describe, write_kept
from corl.data.importing import import_dataset
from corl.data.items import Item, read_items, write_items

DATA = Path(__file__).resolve().parents[5] / "shared" / "data"
OPTIONS = {"A": "Bursitis", "B": "Loose body", "C": "Gout"}


def text(count: int, seed: int) -> str:
    return " ".join(random.Random(seed).sample([f"word{k}" for k in range(10_000)], count))


def item(k: int, question: str | None = None, answer: str = "A", source: str = "own", **meta) -> Item:
    return Item(f"{source}:{k}", source, "en", None, question or text(30, k), OPTIONS, answer, None, meta)


def run(*arguments: str) -> int:
    try:
        main(["data", "check", *arguments])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


@pytest.fixture
def here(tmp_path: Path, monkeypatch) -> Path:
    """clean.jsonl with five items, test.jsonl with four, dirty.jsonl with one of every fault, one of the four in it."""
    monkeypatch.chdir(tmp_path)
    write_items("clean.jsonl", [item(k) for k in range(5)])
    write_items("test.jsonl", [item(k, source="medqa", split="test") for k in (100, 101, 102, 103)])
    good = [item(k) for k in range(5)]
    plain = [json.loads(line) for line in Path("clean.jsonl").read_text().splitlines()]
    rows = [
        plain[0],
        plain[1] | {"answer": "Z"},
        plain[2] | {"options": OPTIONS | {"B": " "}},
        plain[3] | {"options": OPTIONS | {"B": "Gout"}},
        plain[4] | {"context": "caf\ufffd"},
        plain[0] | {"question": text(30, 50)},
        plain[0] | {"id": "own:6", "question": good[0].question + " today"},
        plain[0] | {"id": "own:7", "question": text(30, 100).upper() + "?!"},
        plain[0] | {"id": "own:8", "question": text(30, 60)},
    ]
    lines = [json.dumps(row).encode() for row in rows]
    lines.insert(3, b"{broken")
    Path("dirty.jsonl").write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(lines))
    return tmp_path


def test_a_clean_file_gives_0_and_writes_nothing(here: Path, capsys) -> None:
    before = sorted(here.iterdir())
    assert run("clean.jsonl", "--against", "test.jsonl") == 0
    assert capsys.readouterr().out.splitlines() == [
        "against medqa test (4 of 1273 rows, partial)",
        "clean.jsonl: 5 rows, 0 with findings",
    ]
    assert sorted(here.iterdir()) == before


def test_every_fault_is_a_line_and_a_count_and_the_exit_code_is_1(here: Path, capsys) -> None:
    assert run("dirty.jsonl", "--against", "test.jsonl", "--report", "report.json") == 1
    said = capsys.readouterr().out
    reasons = [line.split(": ")[1] for line in said.splitlines() if line.startswith("line ")]
    assert reasons == [
        "bad_label", "empty_option", "not_an_item", "duplicate_options", "encoding", "repeated_id", "near_duplicate",
        "contaminated",
    ]  # fmt: skip
    assert "line 9 (own:7): contaminated: exact, line 1 of medqa test (4 of 1273 rows, partial)" in said
    assert "line 8 (own:6): near_duplicate: stem of line 1 (own:0), similarity 0.97" in said
    assert said.splitlines()[-1] == "dirty.jsonl: 10 rows, 8 with findings"
    report = json.loads(Path("report.json").read_text())
    assert (report["rows"], report["clean"], set(report["counts"].values())) == (10, 2, {1})
    assert [finding["line"] for finding in report["findings"]] == [2, 3, 4, 5, 6, 7, 8, 9]
    evidence = report["findings"][-1]["evidence"]
    assert (evidence["set"], evidence["set_line"], evidence["evidence"]) == ("medqa", 1, "exact")


def test_the_filter_keeps_what_is_clean_byte_for_byte(here: Path, capsys) -> None:
    assert run("dirty.jsonl", "--against", "test.jsonl", "--write-filter", "out/kept.jsonl") == 1
    assert capsys.readouterr().out.splitlines()[-1] == "out/kept.jsonl: 2 of 10 rows kept"
    assert [kept.id for kept in read_items("out/kept.jsonl")] == ["own:0", "own:8"]
    lines = Path("dirty.jsonl").read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\r\n")
    assert Path("out/kept.jsonl").read_bytes() == lines[0] + b"\n" + lines[-1] + b"\n"
    assert run("out/kept.jsonl", "--against", "test.jsonl") == 0


def test_a_fingerprint_finds_what_the_items_find(here: Path, capsys) -> None:
    assert run("test.jsonl", "--fingerprint", "hashes") == 0
    assert "hashes: medqa test (4 of 1273 rows, partial)" in capsys.readouterr().out
    assert "word" not in Path("hashes").read_text().replace('"words"', "")
    assert run("dirty.jsonl", "--against", "test.jsonl") == 1
    by_items = capsys.readouterr().out
    assert run("dirty.jsonl", "--against", "hashes") == 1
    assert capsys.readouterr().out == by_items and "exact, line 1 of medqa test" in by_items


def test_several_references_each_name_their_own(here: Path, capsys) -> None:
    write_items("more.jsonl", [item(0, text(30, 100), source="another")])
    assert run("clean.jsonl", "--fingerprint", "clean.hashes") == 0
    assert run("dirty.jsonl", "--against", "more.jsonl", "test.jsonl", "--against", "clean.hashes") == 1
    said = [line for line in capsys.readouterr().out.splitlines() if ": contaminated: " in line]
    assert sum("line 9 " in line for line in said) == 2
    assert sum("of own (5 rows" in line for line in said) >= 4


@pytest.mark.parametrize(("rows", "complete"), [(298, True), (297, False), (299, False)])
def test_a_set_is_complete_when_it_has_all_rows(here: Path, rows: int, complete: bool) -> None:
    write_items("set.jsonl", [item(k, source="medbullets", split="test") for k in range(rows)])
    run("set.jsonl", "--fingerprint", "hashes")
    header = json.loads(Path("hashes").read_text().splitlines()[0])
    assert (header["set"], header["rows"], header["official_rows"], header["complete"]) == (
        "medbullets", rows, 298, complete
    )  # fmt: skip


def test_training_rows_of_the_same_number_are_no_complete_test_set(here: Path) -> None:
    write_items("set.jsonl", [item(k, source="pubmedqa", split="train") for k in range(500)])
    run("set.jsonl", "--fingerprint", "hashes")
    header = json.loads(Path("hashes").read_text().splitlines()[0])
    assert (header["rows"], header["official_rows"], header["complete"]) == (500, None, False)


def test_a_repeated_id_does_not_fill_up_a_set(here: Path) -> None:
    write_items("set.jsonl", [item(k, source="medbullets", split="test") for k in range(297)])
    lines = Path("set.jsonl").read_bytes().splitlines(keepends=True)
    Path("set.jsonl").write_bytes(b"".join([*lines, lines[0]]))
    assert run("set.jsonl", "--fingerprint", "hashes") == 1
    assert json.loads(Path("hashes").read_text().splitlines()[0])["complete"] is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere cannot be read"), ([], "required: FILE"), (["empty"], "empty is empty"),
        (["clean.jsonl", "--against"], "--against: expected at least one argument"),
        (["clean.jsonl", "--against", "nowhere"], "nowhere cannot be read"),
        (["clean.jsonl", "--against", "dirty.jsonl"], "dirty.jsonl, line 4: no question to compare with"),
        (["clean.jsonl", "--against", "raw"], "raw, line 1: no question to compare with"),
        (["clean.jsonl", "--write-filter", "clean.jsonl"], "clean.jsonl is named twice"),
        (["clean.jsonl", "--write-filter", "./sub/../clean.jsonl"], "named twice"),
        (["clean.jsonl", "--against", "test.jsonl", "--fingerprint", "test.jsonl"], "test.jsonl is named twice"),
        (["clean.jsonl", "--write-filter", "x", "--fingerprint", "x"], "x is named twice"),
        (["clean.jsonl", "--write-filter", "empty/x"], "empty/x cannot be written"),
        (["clean.jsonl", "--fingerprint", "empty/x"], "empty/x cannot be written"),
        (["bad", "--write-filter", "kept"], "bad: every row has a finding, so kept was not written"),
        (["bad", "--fingerprint", "hashes"], "bad: no row has a question, so hashes was not written"),
        (["raw", "--fingerprint", "hashes"], "raw, line 1: no source names the set; hashes was not written"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_wrong_call_gives_2_one_line_and_no_file(here: Path, capsys, arguments: list[str], message: str) -> None:
    Path("empty").write_bytes(b"\n")
    Path("bad").write_bytes(b"{}\n")
    Path("raw").write_text('{"question": "Which?", "opa": "x", "opb": "y", "cop": 1}\n')
    (here / "sub").mkdir()
    before = {path: path.stat().st_mtime_ns for path in here.rglob("*")}
    assert run(*arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and message in said, said
    assert {path: path.stat().st_mtime_ns for path in here.rglob("*")} == before


def test_output_never_breaks_a_line(here: Path, capsys) -> None:
    row = json.loads(Path("clean.jsonl").read_text().splitlines()[0])
    Path("odd.jsonl").write_text(json.dumps(row | {"id": "a\nline 9\x1b[2J\ud800", "answer": "\n"}) + "\n")
    assert run("odd.jsonl") == 1
    said = capsys.readouterr().out
    assert all(line.startswith(("line 1 ", " ", "odd.jsonl")) for line in said.splitlines()) and "\x1b" not in said


def test_golds_of_several_letters_under_a_prompt_for_one_are_noted(here: Path, capsys) -> None:
    write_items("set.jsonl", [item(0, answer="A,B"), item(1, answer="A,B", source="cmexam")])
    assert run("set.jsonl") == 0
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note")]
    assert len(notes) == 1 and "1 rows of 'own' have several right options" in notes[0]


WORDS = st.lists(st.sampled_from(["porter", "key", "door", "cellar", "pain", "字"]), min_size=1, max_size=34).map(
    " ".join
)


@settings(max_examples=60)
@given(st.lists(WORDS, min_size=1, max_size=10), st.lists(WORDS, min_size=1, max_size=4), st.data())
def test_what_is_kept_is_clean_in_itself(tmp_path_factory, train: list[str], known: list[str], data) -> None:
    folder = tmp_path_factory.mktemp("kept")
    options = [dict(zip("AB", data.draw(st.permutations(["x", "y", "z"])), strict=False)) for _ in [*train, *known]]
    made = [
        Item(str(k), "own", "en", None, q, o, "A", None, {})
        for k, (q, o) in enumerate(zip(train + known, options, strict=True))
    ]
    write_items(folder / "known", made[len(train) :])
    write_items(folder / "train", made[: len(train)])
    report = check_items(folder / "train", [folder / "known"])
    again = check_items(folder / "train", [folder / "known"])
    assert list(describe(report)) == list(describe(again))
    if len(report.dropped) == report.rows:
        with pytest.raises(ValueError, match="every row"):
            write_kept(report, folder / "kept")
        return
    assert write_kept(report, folder / "kept") == report.rows - len(report.dropped) == len(read_items(folder / "kept"))
    assert check_items(folder / "kept", [folder / "known"]).findings == ()


def test_places_may_not_meet(tmp_path: Path) -> None:
    check_places([tmp_path / "a"], [None, tmp_path / "b", None])
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with pytest.raises(ValueError, match="link is named twice"):
        check_places([tmp_path / "a"], [tmp_path / "link"])


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "medqa_dev").is_dir(), reason="the real question sets are not beside the checkout")
def test_real_sets_share_what_is_known_and_no_more(tmp_path: Path) -> None:
    """One of the given MedXpertQA rows is one of MedQA dev's; MedQA's parts share vital signs and phrases only."""
    sources = {
        "dev": ("medqa", "medqa_dev/all_dev_good.jsonl"),
        "test": ("medqa", "medqa/phrases_no_exclude_test.jsonl"),
        "expert": ("medxpertqa", "medxpertqa/medxpertqa_sampled_text_input.jsonl"),
    }
    for name, (layout, place) in sources.items():
        import_dataset(layout, DATA / place, tmp_path / name)
    report = check_items(tmp_path / "expert", [tmp_path / "dev", tmp_path / "test"])
    assert [(f.reason, f.line, f.evidence["set_line"], f.evidence["evidence"]) for f in report.findings] == [
        ("contaminated", 72, 186, "ngram")
    ]
    assert report.findings[0].evidence["share"] == 1.0
    assert check_items(tmp_path / "test", [tmp_path / "dev"]).findings == ()
    # every question of a set is found in itself, in capitals and without its punctuation too
    disguised = [
        Item(f"x:{i.id}", "x", "en", None, i.question.upper().replace(",", " ;"), i.options, i.answer, None, {})
        for i in read_items(tmp_path / "test")
    ]
    write_items(tmp_path / "disguised", disguised)
    found = check_items(tmp_path / "disguised", [tmp_path / "test"])
    assert [(f.line, f.evidence["set_line"]) for f in found.findings] == [(k, k) for k in range(1, 301)]
