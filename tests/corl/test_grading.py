"""Rules R0 to R9, rule by rule. What a payload is worth is in fixtures/grading_payloads.json: rule, options, payload,
answer."""

import json
import sys
import time
import unicodedata
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.grading import KINDS, graded, graded_anew, hostile, ordinary
from corl.cli import main
from corl.grading import (
    END_OF_TURN,
    MAX_ANSWERS,
    MAX_PAYLOAD,
    Grade,
    check_labels,
    grade,
    grade_file,
    grade_lines,
    normal_form,
)
from corl.grading.normal_form import _LONG_RUN, collapse

SHARED = Path(__file__).resolve().parents[2] / "../shared/data"
SHARED_CASES = SHARED / "grading" / "reward_cases.jsonl"
FIXTURE = Path(__file__).parent / "fixtures" / "grading_payloads.json"
PAYLOADS = json.loads(FIXTURE.read_text(encoding="utf-8"))
OPTIONS = PAYLOADS["options"]
ANEMIA = OPTIONS["anemia"]


def extracted(payload: str, options: dict[str, str] = ANEMIA) -> str | None:
    return grade(f"<think>Weigh them.</think>\n<answer>{payload}</answer>", options, "A").extracted


@pytest.mark.parametrize(("rule", "options", "payload", "expected"), PAYLOADS["cases"])
def test_payload(rule, options, payload, expected):
    assert extracted(payload, OPTIONS[options]) == expected, rule


def test_every_rule_has_answers_and_nulls() -> None:
    cases = Counter((rule.split()[0], expected is None) for rule, _, _, expected in PAYLOADS["cases"])
    assert all(cases[rule, null] >= 15 for rule in ("R4", "R5", "R6", "R7") for null in (False, True))
    assert cases["R8", True] >= 80 and not cases["R8", False]


# R0 and R1


@pytest.mark.parametrize(
    ("text", "format_ok"),
    [
        ("<think>t</think><answer>B</answer>", True),
        ("  <think>t</think>\n\n\t<answer>\nB\n</answer>\n", True),
        ("<think>t</think><answer>nothing that is an option</answer>", True),
        ("<think>t</think><answer>B</answer></s> <|eot_id|>\n<|end_of_text|><|im_end|>", True),
        ("<think>t</think><answer>B</answer>\u3000</s></s><|endoftext|>", True),
        ("<think></s></think><answer><|im_end|></answer>", True),
        ("<think>t</think><answer>B</answer><|other|>", False),
        ("<think>t</think><answer>B</answer></S>", False),
        ("<think>t</think><answer>B</answer></s>.</s>", False),
        ("<|im_end|><think>t</think><answer>B</answer>", False),
        ("\ufeff<think>t</think><answer>B</answer>", False),
        ("<think>t</think> so <answer>B</answer>", False),
        ("<think>t</think></s><answer>B</answer>", False),
        ("<think>t</think><answer>B</answer>.", False),
        ("x<think>t</think><answer>B</answer>", False),
        ("<think> \n</think><answer>B</answer>", False),
        ("<think></think><answer>B</answer>", False),
        ("<think>t</think><answer> </answer>", False),
        ("<answer>B</answer><think>t</think>", False),
        ("<think><answer>B</answer>t</think>", False),
        ("<think>t<answer></think>B</answer>", False),
        ("<think>t</answer></think><answer>B", False),
        ("<think>t</think></think><answer>B</answer>", False),
        ("<think><think>t</think><answer>B</answer>", False),
        ("<think>t</think><answer>B</answer><answer>B</answer>", False),
        ("<think>t</think><answer><answer>B</answer>", False),
        ("<Think>t</Think><answer>B</answer>", False),
        ("< think>t</think><answer>B</answer>", False),
        ("<think>t</think><answer>B</ answer>", False),
        ("<thi\u200bnk>t</think><answer>B</answer>", False),
        ("＜think＞t</think><answer>B</answer>", False),
        ("<think>t</think><answer>B", False),
        ("<think>t<answer>B</answer>", False),
        ("t</think><answer>B</answer>", False),
        ("<answer>B</answer>", False),
        ("<think>t</think>", False),
        ("<think>", False),
        ("", False),
    ],
)
def test_format(text, format_ok):
    assert grade(text, ANEMIA, "B").format_ok is format_ok


# R2 and R3


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("<answer>B</answer>", "B"),
        ("noise <answer>B</answer> noise", "B"),
        ("<think><answer>A</answer></think><answer>B</answer>", "B"),
        ("<think><answer>B</answer></think>", None),
        ("<think><answer>B</answer></think>The answer is B.", None),
        ("<think>x</think><answer>A</answer></think><answer>B</answer>", "B"),
        ("<think>x</think><answer>A</answer><think>y</think><answer>B</answer>", "B"),
        ("<answer>A</answer><think>x</think>", None),
        ("<think>x <answer>B</answer>", None),
        ("<answer>B</answer><think>x", None),
        ("<think>x</think><answer>B</answer><think>y", "B"),
        ("x</think><answer>B</answer>", "B"),
        ("<THINK>x <answer>B</answer>", "B"),
        ("<answer>B</answer> <answer>(b)</answer> <answer>Bone marrow biopsy</answer>", "B"),
        ("<answer>A, C</answer><answer>CA</answer>", "A,C"),
        ("<answer>B</answer><answer>B, C</answer>", None),
        ("<answer>B</answer><answer>C</answer>", None),
        ("<answer>B</answer><answer>perhaps</answer>", None),
        ("<answer>perhaps</answer><answer>perhaps</answer>", None),
        ("<answer>B</answer><answer></answer>", None),
        ("<answer>B</answer><answer>C", "B"),
        ("</answer>A</answer><answer>B</answer></answer>", "B"),
        ("<answer>B<answer>B</answer>", None),
        ("<answer><answer>B</answer></answer>", None),
        ("<answer>B</answer><answer>B<answer></answer>", None),
        ("<answer>B<think></answer>", None),
        ("＜answer＞B＜/answer＞", None),
        ("<ans\u200bwer>B</answer>", None),
        ("<ANSWER>B</ANSWER>", None),
        ("<answer >B</answer>", None),
        ("&lt;answer&gt;B&lt;/answer&gt;", None),
        ("<answer>\n\nB\n\n</answer>", "B"),
        ("<answer>B</answer", None),
        ("<answer>B", None),
        ("B", None),
        ("\\boxed{B}", None),
    ],
)
def test_scope_and_several_answers(text, letter):
    assert grade(text, ANEMIA, "B").extracted == letter


@pytest.mark.parametrize(("payload", "gold", "correct"), [("B", "B", True), ("C,A", "A,C", True), ("A,C", "A", False)])
def test_correct_is_equality_of_sets_whatever_the_format(payload, gold, correct):
    for thought, format_ok in (("<think>t</think>", True), ("", False)):
        result = grade(f"{thought}<answer>{payload}</answer>", ANEMIA, gold)
        assert (result.format_ok, result.correct) == (format_ok, correct)


def test_prefill_is_part_of_the_text():
    assert grade("t</think><answer>B</answer>", ANEMIA, "B", prefill="<think>\n") == Grade(True, "B", True)
    assert grade("t <answer>B</answer>", ANEMIA, "B", prefill="<think>") == Grade(False, None, False)
    assert grade("k>t</think><answer>B</answer>", ANEMIA, "B", prefill="\n<thin") == Grade(True, "B", True)
    assert grade("</s>", ANEMIA, "B", prefill="<think>t</think><answer>B</answer>") == Grade(True, "B", True)


# R4: lengths and the normal form


def test_limit_of_a_payload():
    assert extracted("B" + " " * (MAX_PAYLOAD - 1)) == "B"
    assert extracted("B" + " " * MAX_PAYLOAD) is None
    depth = (MAX_PAYLOAD - 1) // 2
    assert extracted("(" * depth + "B" + ")" * depth) == "B"
    remark = "B. Bone marrow biopsy, "
    assert extracted(remark + "x" * (MAX_PAYLOAD - len(remark))) == "B"
    assert extracted(remark + "x" * (MAX_PAYLOAD - len(remark) + 1)) is None


def test_the_limit_holds_after_nfkc_too():
    room = MAX_PAYLOAD - len("B. Bone marrow biopsy, ")
    assert extracted("B. Bone marrow biopsy, " + "\ufdfa" * (room // 18)) == "B"
    assert extracted("B. Bone marrow biopsy, " + "\ufdfa" * (room // 18 + 1)) is None
    assert extracted("B. Bone marrow biopsy, " + "\ufdfb" * (room // 8)) == "B"
    assert extracted("B. Bone marrow biopsy, " + "\ufdfb" * (room // 8 + 1)) is None


def test_the_limit_is_one_for_each_payload():
    answers = [f"<answer>B. Bone marrow biopsy, {k} {'x' * 4000}</answer>" for k in range(9)]
    assert grade("".join(answers[:8]), ANEMIA, "B").extracted == "B"
    assert grade("".join(answers[:8]) * 9, ANEMIA, "B").extracted == "B", "repeated ones are read once"
    assert sum(map(len, answers)) > MAX_ANSWERS and grade("".join(answers), ANEMIA, "B").extracted is None
    assert grade(answers[0] + "<answer>B</answer>" + " " * 100_000, ANEMIA, "B").extracted == "B"


def test_an_option_text_over_the_limit_is_named_by_its_letter_only():
    options = {"A": "x" * MAX_PAYLOAD, "B": "y" * (MAX_PAYLOAD + 1)}
    assert extracted(options["A"], options) == "A"
    assert extracted(options["B"], options) is None
    assert extracted("B", options) == "B" and extracted("A. " + "x" * 4000, options) is None


@pytest.mark.parametrize("count", [1, 29, 30, 31, 59, 60, 61, 1000])
@pytest.mark.parametrize("marks", ["\u0301", "\u0345\u0334", "\u0f73", "\uff9e\u0f71", "\U0001d165\u0301"])
def test_long_runs_of_combining_marks_are_text_like_any_other(marks, count):
    text = f"e{marks * count}f"
    assert collapse(text) == collapse(text + "\u034f") == collapse(f" {text}\n")
    if count * len(marks) < 30:
        assert collapse(text) == unicodedata.normalize("NFKC", text)
    assert extracted(text, {"A": "x", "B": text}) == "B"
    assert extracted(f"B. Bone marrow biopsy, {text}") == "B"


def test_every_character_that_combines_counts_towards_a_run():
    """NFKC of a long run is quadratic, so that none may be forgotten; the Unicode version is the interpreter's."""
    combining = [
        char
        for char in map(chr, range(sys.maxunicode + 1))
        if unicodedata.combining(unicodedata.normalize("NFKD", char)[0])
    ]
    assert len(combining) > 900
    assert [char for char in combining if not _LONG_RUN.fullmatch(char * 30)] == []
    assert not _LONG_RUN.search("e" * 30 + "肾" * 30 + "。" * 30)


def test_what_must_be_over_the_limit_is_never_normalised(monkeypatch):
    monkeypatch.setattr(normal_form, "unicodedata", None)
    assert collapse("\ufdfa" * (MAX_PAYLOAD // 18 + 1)) == collapse("\u0301" * (MAX_PAYLOAD + 1)) == ""


def test_no_character_grows_more_than_the_one_that_is_counted():
    longest = max(len(unicodedata.normalize("NFKC", chr(k))) for k in range(sys.maxunicode + 1))
    assert longest == len(unicodedata.normalize("NFKC", "\ufdfa")) == 18


# What each of these does to a careless parser would take minutes at this size.
def test_hostile_text_gets_its_answer():
    for name, case in hostile(400_000):
        assert graded(case) == case.extracted, name


def best_of_five(run) -> float:
    """Processor time in seconds: what else the machine does is not in it."""
    samples = []
    for _ in range(5):
        start = time.process_time()
        run()
        samples.append(time.process_time() - start)
    return min(samples)


# Four times the text takes four times as long, quadratic work sixteen times.
@pytest.mark.slow
def test_time_is_linear_in_hostile_text():
    for (name, case), (_, longer) in zip(hostile(250_000), hostile(1_000_000), strict=True):
        short, long = (best_of_five(partial(graded_anew, one)) for one in (case, longer))
        assert long < 8 * short + 0.02, name
        assert long < 0.5, name  # ten times what bench.grading has to show


@pytest.mark.parametrize("marks", ["\u0345\u0334", "\u0f73", "\uff9e\u0f71"])
def test_time_is_linear_in_combining_marks(marks):
    short, long = (best_of_five(partial(collapse, marks * (count // len(marks)))) for count in (1000, 4000))
    assert long < 8 * short + 0.002


@pytest.mark.parametrize("kind", KINDS)
def test_ordinary_completions_are_what_the_benchmark_says(kind):
    assert all(graded(case) == case.extracted for case in ordinary(kind, 50))


# Items


@pytest.mark.parametrize(
    ("options", "gold", "message"),
    [
        ({"A": "x"}, "A", "2 to 26"),
        ({}, "A", "2 to 26"),
        ({str(i): "x" for i in range(27)}, "A", "2 to 26"),
        ([("A", "x"), ("B", "y")], "A", "2 to 26.*list"),
        (None, "A", "2 to 26.*NoneType"),
        ({"A": "x", "C": "y"}, "A", "in order"),
        ({"B": "x", "A": "y"}, "A", "in order"),
        ({"a": "x", "b": "y"}, "a", "in order"),
        ({1: "x", 2: "y"}, "A", "in order"),
        ({"A": "x", "B": None}, "A", "option B is None.*string"),
        ({"A": "x", "B": ["y"]}, "A", "string"),
    ]
    + [(ANEMIA, gold, "gold=") for gold in ("", "E", "a", "AB", "A, C", "C,A", "A,A", "A,", "A;C", None, 1, ["A"])],
)
def test_bad_items_are_refused(options, gold, message):
    with pytest.raises(ValueError, match=message):
        grade("<answer>A</answer>", options, gold)


def test_twenty_six_options():
    options = {chr(65 + i): f"drug {i}" for i in range(26)}
    assert grade("<answer>Z</answer>", options, "Z").correct
    assert extracted("AND", options) == "A,D,N"
    assert extracted("A AND O", options) is None
    assert extracted("A OR Z", options) is None
    assert extracted("Z, Y and A", options) == "A,Y,Z"
    assert extracted("O. drug 14", options) == "O" and extracted("I think so", options) is None


# Lines


def test_grade_lines_keeps_keys_and_order():
    record = {"id": 7, "correct": "old", "options": ANEMIA, "gold": "B", "completion": "t</think><answer>B</answer>"}
    record |= {"prefill": "<think>", "note": "肾"}
    line, *others = grade_lines(["\n", json.dumps(record) + "\n"])
    assert not others
    assert list(json.loads(line)) == [*record, "format_ok", "extracted"]
    assert json.loads(line) == record | {"format_ok": True, "extracted": "B", "correct": True}
    assert "肾" in line


def test_half_a_surrogate_pair_stays_writable():
    line = '{"completion": "\\ud800<answer>B</answer>", "options": {"A": "x", "B": "y"}, "gold": "B"}'
    (graded_line,) = grade_lines([line])
    assert json.loads(graded_line.encode()) == json.loads(line) | {
        "format_ok": False, "extracted": "B", "correct": True
    }  # fmt: skip


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"completion": ', "Expecting value"),
        ("[1]", "expected a JSON object, got list"),
        ('{"completion": "x"}', "missing options, gold"),
        ('{"completion": null, "options": {"A": "x", "B": "y"}, "gold": "A"}', "must be strings"),
        ('{"completion": "", "prefill": 1, "options": {"A": "x", "B": "y"}, "gold": "A"}', "must be strings"),
        ('{"completion": "", "options": {"A": "x", "B": "y"}, "gold": "C"}', "gold='C'"),
        ("[" * 100_000, "recursion"),
        (b'{"completion": "\xff"}', "utf-8"),
    ],
)
def test_bad_line_names_file_and_line(tmp_path, line, message):
    path = tmp_path / "rollouts.jsonl"
    good = b'{"completion": "", "options": {"A": "x", "B": "y"}, "gold": "A"}\n'
    path.write_bytes(good + (line if isinstance(line, bytes) else line.encode()) + b"\n")
    with pytest.raises(ValueError, match=rf"rollouts\.jsonl line 2: .*{message}"):
        grade_file(path)
    path.write_bytes(good)
    assert len(grade_file(path)) == 1


def labelled(path: Path, *labels: tuple[str, bool, str | None, bool]) -> Path:
    """Lines of a payload and what they are labelled: format_ok, extracted, correct; gold is B."""
    records = [
        {
            "completion": f"<think>t</think><answer>{payload}</answer>", "options": ANEMIA, "gold": "B",
            "format_ok": format_ok, "extracted": letter, "correct": correct,
        }
        for payload, format_ok, letter, correct in labels
    ]  # fmt: skip
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_labels_and_grades_are_held_against_each_other(tmp_path, capsys):
    path = labelled(tmp_path / "cases.jsonl", ("B", True, "B", True), ("C", True, "C", False), ("?", True, None, False))
    assert str(check_labels(path)) == (
        "grading: ok n=3 false_positives=0/2 false_negatives=0/1 wrong_letters=0 format=0"
    )
    main(["grade", str(path), "--labelled"])
    assert capsys.readouterr().out == str(check_labels(path)) + "\n"

    labelled(path, ("B", True, None, False), ("C", True, "B", True), ("?", True, "B", True), ("B", False, "B", True))
    with pytest.raises(SystemExit) as ended:
        main(["grade", str(path), "--labelled"])
    assert ended.value.code == 1
    assert capsys.readouterr().out.splitlines() == [
        'line 1: graded format_ok=true, extracted="B", correct=true, '
        "labelled format_ok=true, extracted=null, correct=false",
        'line 2: graded format_ok=true, extracted="C", correct=false, '
        'labelled format_ok=true, extracted="B", correct=true',
        "line 3: graded format_ok=true, extracted=null, correct=false, "
        'labelled format_ok=true, extracted="B", correct=true',
        'line 4: graded format_ok=true, extracted="B", correct=true, '
        'labelled format_ok=false, extracted="B", correct=true',
        "grading: FAILED n=4 false_positives=1/1 false_negatives=2/3 wrong_letters=3 format=1",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"correct": "yes"}, r"line 1: .*correct='yes'; label both true or false"),
        ({"format_ok": None}, r"line 1: format_ok=None"),
        ({"extracted": 2}, r"line 1: extracted=2; label it with letters or null"),
        ({"gold": "F"}, r"line 1: gold='F'"),
    ],
)
def test_labels_that_are_none_are_refused(tmp_path, capsys, change, message):
    path = labelled(tmp_path / "cases.jsonl", ("B", True, "B", True))
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=message):
        check_labels(path)
    record = json.loads(path.read_text())
    del record["extracted"]
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match="line 1: missing extracted; a line needs completion"):
        check_labels(path)
    path.write_text("\n")
    with pytest.raises(ValueError, match="holds no lines"):
        check_labels(path)


def test_a_file_of_grades_counts_null_apart_from_wrong(tmp_path, capsys):
    path = labelled(
        tmp_path / "cases.jsonl", *((payload, True, None, True) for payload in ("B", "C", "D", "?", "", "b"))
    )
    main(["grade", str(path), "--out", str(tmp_path / "out.jsonl")])
    expected = "6 completions: 2 correct, 2 wrong, 2 null; 5 well-formed"
    assert capsys.readouterr().out == f"{tmp_path / 'out.jsonl'}: {expected}\n"
    with pytest.raises(SystemExit) as ended:
        main(["grade", str(path), "--out", "x", "--labelled"])
    assert ended.value.code == 2


# Properties

TAGS_AND_TEXTS = ["<think>", "</think>", "<answer>", "</answer>", *END_OF_TURN, *ANEMIA.values()]
WORDS = ["\\boxed{", "The answer is ", " and ", " or ", " because ", " - ", "not ", "答案是", "选项", "不", "选", ": "]
CHARACTERS = "ABCDEab.,:;()[]{}$*_'\"、。项\n\u200b\ufdfa\u0301\u0f73\ud800Ｂ\x00"
PIECES = st.lists(st.sampled_from([*TAGS_AND_TEXTS, *WORDS, *CHARACTERS]), max_size=8).map("".join)
PAYLOAD_PIECES = PIECES.map(lambda payload: f"<think>t</think><answer>{payload}</answer>")
# Surrogates are in: a tokenizer's output never holds one, a line of JSON may.
ANY_TEXT = st.text(st.characters(codec=None), max_size=40)
COMPLETIONS = ANY_TEXT | PIECES | PAYLOAD_PIECES | ANY_TEXT.map(lambda text: f"<answer>{text}</answer>")
ENDING = st.lists(st.sampled_from([*END_OF_TURN, " ", "\n"]), max_size=5).map("".join)
SOME_OPTIONS = st.sampled_from(list(OPTIONS.values())) | st.lists(PIECES, min_size=2, max_size=26).map(
    lambda texts: dict(zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", texts, strict=False))
)


@settings(deadline=None, max_examples=300)
@given(COMPLETIONS, SOME_OPTIONS)
def test_never_raises_nor_leaves_the_options(completion, options):
    result = grade(completion, options, "A")
    letters = result.extracted.split(",") if result.extracted else []
    assert result.extracted != "" and letters == sorted(set(letters)) and set(letters) <= options.keys()
    assert result.correct == (letters == ["A"])


@settings(deadline=None, max_examples=300)
@given(COMPLETIONS, st.text(" \n\t\u3000\x1c", max_size=3), ENDING)
def test_blanks_around_and_tokens_after_change_nothing(completion, blanks, ending):
    assert grade(blanks + completion + ending + blanks, ANEMIA, "A") == grade(completion, ANEMIA, "A")


@settings(deadline=None, max_examples=300)
@given(COMPLETIONS, st.sets(st.sampled_from("ABCD"), min_size=1))
def test_gold_decides_correct_and_nothing_else(completion, letters):
    gold = ",".join(sorted(letters))
    result, other = grade(completion, ANEMIA, gold), grade(completion, ANEMIA, "A")
    assert (result.format_ok, result.extracted) == (other.format_ok, other.extracted)
    assert result.correct == (result.extracted == gold)


@settings(deadline=None, max_examples=300)
@given(COMPLETIONS, st.integers(0, 100))
def test_where_the_prefill_ends_changes_nothing(completion, at):
    assert grade(completion[at:], ANEMIA, "A", prefill=completion[:at]) == grade(completion, ANEMIA, "A")


@settings(deadline=None, max_examples=300)
@given(PIECES, st.text(" \n\t\u3000\u200b\u2060", max_size=3), st.text(" \n\t\ufeff", max_size=3))
def test_blanks_and_zero_width_around_a_payload_change_nothing(payload, before, after):
    assert extracted(before + payload + after) == extracted(payload)


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["()", "[]", "【】", "**", "__", '""', "$$", "\\boxed{ }", "\\text{ }", " ."]), max_size=8)
)
def test_any_nesting_of_wrappers_is_unwrapped(wrappers):
    payload = "C"
    for wrapper in wrappers:
        opening, closing = wrapper.split(" ") if " " in wrapper else wrapper
        payload = opening + payload + closing
    assert extracted(payload) == "C"


# The real data, where it lies beside the checkout


@pytest.mark.skipif(not SHARED_CASES.exists(), reason="the labelled cases live beside the repository")
def test_labelled_cases():
    agreement = check_labels(SHARED_CASES)
    assert agreement.n == 62 and agreement.notes == []


FORMS = "{letter}", "{lower}", "{letter}. {text}", "{letter}) {text}", "The answer is {letter}."
SETS = [
    ("pubmedqa", "pubmedqa"), ("medqa", "medqa_dev"), ("medqa", "medqa"), ("medmcqa", "medmcqa"),
    ("medxpertqa", "medxpertqa"), ("mmlu_pro", "mmlu_pro"), ("careqa", "careqa"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("name", "folder"), SETS, ids=[folder for _, folder in SETS])
def test_every_option_of_the_real_sets_is_recognised(tmp_path, name, folder):
    """Every form grades to its letter; a bare text to its letter, to null where two options have it, or, where it is
    one letter, to that label (R4)."""
    if not (SHARED / folder).is_dir():
        pytest.skip("the real question sets are not beside the checkout")
    from corl.data.importing import import_dataset
    from corl.data.items import read_items

    import_dataset(name, SHARED / folder, tmp_path / "items.jsonl")
    for item in read_items(tmp_path / "items.jsonl"):
        folded = Counter(collapse(text).casefold() for text in item.options.values())
        for letter, text in item.options.items():
            for form in FORMS:
                payload = form.format(letter=letter, lower=letter.lower(), text=text)
                assert extracted(payload, item.options) == letter, (item.id, payload)
            found = extracted(text, item.options)
            if found != letter:
                assert len(text) == 1 or (found is None and folded[collapse(text).casefold()] > 1), (item.id, text)
