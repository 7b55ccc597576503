import base64
import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corl.data.checking.fingerprint import (
    NGRAM,
    Section,
    fingerprint_lines,
    is_fingerprint,
    ngrams,
    read_fingerprint,
    stem_of,
)

LONG = "A porter lifts crates all day and feels his elbow lock whenever he turns a heavy key in the cellar door"
ROWS = [("", LONG, ["Bursitis", "Loose body", "Gout"]), ("Notes: none.", "Why?", ["yes", "no"]), ("", "+", ["<", ">"])]


def section(rows=ROWS, name="own", split="dev", official=3, complete=True) -> Section:
    return Section(name, split, official, complete, list(range(1, len(rows) + 1)), [stem_of(*row)[0] for row in rows])


def write(folder: Path, *sections: Section) -> Path:
    (folder / "hashes").write_bytes(b"".join(fingerprint_lines(sections)))
    return folder / "hashes"


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = write(tmp_path, section(), section(ROWS[:1], "other", None, None, False))
    assert is_fingerprint(file)
    one, two = read_fingerprint(file)
    assert (one.name, one.split, one.official_rows, one.complete, one.lines) == ("own", "dev", 3, True, [1, 2, 3])
    assert one.title == "own dev (3 of 3 rows, complete)" and two.title == "other (1 rows, whole size unknown)"
    assert section(complete=False, official=9).title == "own dev (3 of 9 rows, partial)"
    for stem, row in zip(one.stems, ROWS, strict=True):
        made = stem_of(*row)[0]
        assert (stem.words, stem.stem, stem.question, stem.options) == (
            made.words, made.stem, made.question, made.options
        )  # fmt: skip
        assert stem.ngrams.tolist() == sorted(set(made.ngrams.tolist()))
        assert stem.has_context == bool(row[0])


def test_nothing_of_a_text_is_in_the_file_and_the_order_of_its_runs_is_not_either(tmp_path: Path) -> None:
    text = write(tmp_path, section()).read_text()
    header, first = (json.loads(line) for line in text.splitlines()[:2])
    assert (header["set"], header["rows"], header["complete"], header["ngram"]) == ("own", 3, True, 13)
    for row in ROWS:
        for word in re.findall(r"\w{5,}", " ".join([row[0], row[1], *row[2]])):
            assert word.casefold() not in text.casefold()
    hashes = np.frombuffer(base64.b64decode(first["ngrams"]), "<u8")
    assert len(hashes) == first["words"] - NGRAM + 1 == 9 and (np.diff(hashes.astype(object)) > 0).all()


def test_hashes_are_fixed_for_good() -> None:
    """Fingerprints of other machines and years must still match."""
    stem = stem_of("", "Which tissue grows back?", ["Liver", "Lens"])[0]
    assert [f"{value:016x}" for value in (stem.stem, *stem.options)] == FIXED
    assert f"{ngrams(list('abcdefghijklm'))[0]:016x}" == FIXED_NGRAM


FIXED = ["c30ae6f0801c0c12", "1de9c5dd5d9ccb99", "99e68df9e59a9ced"]
FIXED_NGRAM = "02a72ae4f59045a5"


@given(st.lists(st.sampled_from(["a", "b", "字"]), max_size=40))
def test_equal_runs_have_equal_hashes_and_others_do_not(stem: list[str]) -> None:
    hashes = ngrams(stem).tolist()
    runs = [tuple(stem[k : k + NGRAM]) for k in range(len(stem) - NGRAM + 1)]
    assert len(hashes) == len(runs) and len(set(hashes)) == len(set(runs))
    assert all((hashes[i] == hashes[0]) == (runs[i] == runs[0]) for i in range(len(runs)))


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"{}", b"[1]", b"\xff", b"not json", b"[" * 9999, b'"corl_fingerprint"']
)
def test_other_files_are_no_fingerprints(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    assert not is_fingerprint(tmp_path / "x")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere cannot be read"):
        is_fingerprint(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("line", "change", "message"),
    [
        (0, {"corl_fingerprint": 2}, "line 1: .*corl_fingerprint is 2"), (0, {"ngram": 8}, "line 1: .*ngram is 8"),
        (0, {"hash": "md5"}, "line 1: .*hash is 'md5'"), (0, {"rows": 2}, "line 4: .*no 'corl_fingerprint'"),
        (0, {"rows": 4}, "ends on line 4, 1 rows of own too early"), (0, {"rows": 0}, "line 1: .*rows is 0"),
        (0, {"rows": "many"}, "line 1"), (1, {"ngrams": "x"}, "line 2: .*ngrams"), (1, {"ngrams": "QUJD"}, "line 2"),
        (1, {"stem": "xyz"}, "line 2"), (1, {"stem": None}, "line 2"), (1, {"options": 5}, "line 2"),
        (2, {"words": None}, "line 3"), (3, {"question": 1}, "line 4"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_named_with_its_line(tmp_path: Path, line: int, change: dict, message: str) -> None:
    file = write(tmp_path, section())
    lines = file.read_text().splitlines()
    lines[line] = json.dumps(json.loads(lines[line]) | change)
    file.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=message) as caught:
        read_fingerprint(file)
    assert "--fingerprint OUT" in str(caught.value)


def test_a_file_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path, section())
    whole = file.read_bytes()
    for end in range(1, len(whole) - 1, 37):
        file.write_bytes(whole[:end])
        with pytest.raises(ValueError, match="hashes"):
            read_fingerprint(file)
