import random

import pytest

from corl.data.checking.contamination import Hit, Reference
from corl.data.checking.fingerprint import Section, fingerprint_lines, read_fingerprint, stem_of

OPTIONS = ["Bursitis", "Loose body", "Gout", "Sprain"]
OTHERS = ["Iron", "Zinc", "Copper", "Lead"]
SHORT = "True about bursitis is"


def text(count: int, seed: int = 0) -> str:
    return " ".join(random.Random(seed).sample([f"word{k}" for k in range(10_000)], count))


def reference(*rows: tuple[str, str, list[str]], name: str = "test") -> Section:
    return Section(name, None, None, False, [10 * k for k in range(len(rows))], [stem_of(*row)[0] for row in rows])


@pytest.fixture(params=["items", "fingerprint"])
def hits(request, tmp_path):
    """hits(row, references ..): beside the references themselves, and beside what they leave in a fingerprint file."""

    def compare(row, *sections: Section) -> list[Hit]:
        if request.param == "fingerprint":
            (tmp_path / "hashes").write_bytes(b"".join(fingerprint_lines(sections)))
            sections = tuple(read_fingerprint(tmp_path / "hashes"))
        return Reference(sections).hits(stem_of(*row)[0])

    return compare


def evidence(found: list[Hit]) -> list[tuple[str, int]]:
    return [(hit.evidence, hit.line) for hit in found]


def test_a_short_stem_counts_with_the_same_options_alone(hits) -> None:
    known = reference(("", SHORT, OPTIONS))
    assert hits(("", SHORT, OPTIONS), known) == [Hit(0, 0, "exact", 0, 0.0, True)]
    assert evidence(hits(("", "TRUE, about  'Bursitis' is:", [f" {o.upper()}." for o in OPTIONS[::-1]]), known)) == [
        ("exact", 0)
    ]
    for options in (OTHERS, [*OPTIONS[:3], "Lead"], OPTIONS[:3], [*OPTIONS, "Lead"], [*OPTIONS[:3], OPTIONS[0]]):
        assert hits(("", SHORT, options), known) == []
    assert hits(("", SHORT + " not", OPTIONS), known) == []


@pytest.mark.parametrize(
    ("words", "options", "found"), [(25, OTHERS, []), (25, OPTIONS, ["exact"]), (26, OTHERS, ["ngram"])]
)
def test_a_stem_of_26_words_is_evidence_by_itself(hits, words: int, options: list[str], found: list[str]) -> None:
    known = reference(("", text(words), OPTIONS))
    assert [hit.evidence for hit in hits(("", text(words), options), known)] == found


def test_most_options_make_up_for_a_stem_of_13_words_and_half_of_it_must_be_common(hits) -> None:
    known = reference(("", text(20), OPTIONS))
    first = " ".join(text(20).split()[:13])
    nearly = [*OPTIONS[:3], "Lead"]
    assert hits(("", first, nearly), known) == [Hit(0, 0, "ngram", 13, 1.0, True)]
    assert hits(("", first, OTHERS), known) == []
    assert evidence(hits(("", f"{first} {text(13, 1)}", nearly), known)) == [("ngram", 0)]  # 13 of the shorter one's 20
    long = reference(("", text(27), OPTIONS))
    assert hits(("", f"{first} {text(14, 1)}", nearly), long) == []  # 13 of 27
    assert hits(("", " ".join(text(20).split()[:12]), nearly), known) == []  # no run of 13


def test_a_question_inside_a_longer_one_or_cut_short_is_found(hits) -> None:
    known = reference(("", text(40), OPTIONS), ("", text(200, 5), OPTIONS))
    assert evidence(hits(("", f"{text(300, 7)} {text(40)} {text(50, 8)}", OTHERS), known)) == [("ngram", 0)]
    assert evidence(hits(("", " ".join(text(200, 5).split()[30:60]), OTHERS), known)) == [("ngram", 10)]
    edited = [word if k % 20 else "edited" for k, word in enumerate(text(200, 5).split())]
    [hit] = hits(("", " ".join(edited), OTHERS), known)
    assert (hit.line, hit.covered, hit.share) == (10, 190, 0.95)


def test_stock_phrases_are_no_contamination(hits) -> None:
    phrase = text(20, 3)
    known = reference(*[("", f"{text(40, k)} {phrase}", OPTIONS) for k in range(10, 20)])
    assert hits(("", f"{text(40, 30)} {phrase}", OPTIONS), known) == []


def test_where_one_side_lacks_the_context_the_question_counts(hits) -> None:
    yes, question = ["yes", "no", "maybe"], "Do porters who turn keys in cellar doors get more bursitis than clerks?"
    inside, bare = reference((text(60), question, yes)), reference(("", question, yes))
    assert evidence(hits(("", question, yes), inside)) == [("exact", 0)]
    assert evidence(hits((text(60), question, yes), bare)) == [("exact", 0)]
    assert evidence(hits((text(60), question, yes), inside)) == [("exact", 0)]
    assert hits((text(60, 1), question, yes), inside) == []  # another study
    assert evidence(hits((text(60), "Another question?", OTHERS), inside)) == [("ngram", 0)]


def test_context_and_question_are_one_stem(hits) -> None:
    stem = text(50)
    cut = stem.split()
    split = (" ".join(cut[:30]), " ".join(cut[30:]), OPTIONS)
    assert evidence(hits(split, reference(("", stem, OPTIONS)))) == [("exact", 0)]


def test_chinese_goes_by_characters(hits) -> None:
    stem = "搬运工每天搬木箱转动钥匙时肘部突然卡住不能伸直休息后缓解最可能的诊断是什么"
    known = reference(("", stem, ["滑囊炎", "游离体", "痛风"]))
    assert evidence(hits(("", stem.replace("时", "时，") + "？", ["铁", "锌", "铜"]), known)) == [("ngram", 0)]
    assert hits(("", stem[:20], ["铁", "锌", "铜"]), known) == []


def test_the_strongest_row_of_each_set_is_named(hits) -> None:
    one = reference(("", text(30, 1), OTHERS), ("", f"{text(30)} {text(5, 9)}", OTHERS), ("", text(30), OPTIONS))
    two = reference(("", f"{text(30)} {text(20, 4)}", OTHERS), name="other")
    three = reference(("", text(30, 6), OTHERS), name="third")
    found = hits(("", text(30), OPTIONS), one, two, three)
    assert [(hit.section, hit.line, hit.evidence) for hit in found] == [(0, 20, "exact"), (1, 0, "ngram")]


@pytest.mark.parametrize("row", [("", "?", ["+", "-"]), ("", "", []), ("", "…", ["a"])])
def test_texts_without_words_are_told_apart(hits, row) -> None:
    known = reference(("", "!", ["+", "-"]), ("", "x", ["+", "-"]), ("", "?", ["<", ">"]), ("", "?", ["-", "+"]))
    assert evidence(hits(row, known)) == ([("exact", 30)] if row[1] == "?" else [])


def test_no_reference_no_hit() -> None:
    assert Reference([]).hits(stem_of("", text(60), OPTIONS)[0]) == []
