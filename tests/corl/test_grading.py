import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corl.grading import END_OF_TURN, MAX_PAYLOAD, Grade, grade, grade_file, grade_lines

SHARED_CASES = Path(__file__).resolve().parents[2] / "../shared/data/grading/reward_cases.jsonl"
FIXTURE = Path(__file__).parent / "fixtures/grading_payloads.json"
PAYLOADS = json.loads(FIXTURE.read_text(encoding="utf-8"))
OPTIONS = PAYLOADS["options"]
ANEMIA = OPTIONS["anemia"]


def extracted(payload, options=ANEMIA):
    return grade(f"<think>Weigh them.</think>\n<answer>{payload}</answer>", options, "A").extracted


@pytest.mark.parametrize(("rule", "options", "payload", "expected"), PAYLOADS["cases"])
def test_payload(rule, options, payload, expected):
    assert extracted(payload, OPTIONS[options]) == expected, rule


@pytest.mark.parametrize(
    ("text", "format_ok"),
    [
        ("<think>t</think><answer>B</answer>", True),
        ("  <think>t</think>\n\n\t<answer>\nB\n</answer>\n", True),
        ("<think>t</think><answer>nothing that is an option</answer>", True),
        ("<think>t</think><answer>B</answer></s> <|eot_id|>\n<|end_of_text|><|im_end|>", True),
        ("<think>t</think><answer>B</answer><|other|>", False),
        ("<|im_end|><think>t</think><answer>B</answer>", False),
        ("<think>t</think> so <answer>B</answer>", False),
        ("<think>t</think><answer>B</answer>.", False),
        ("x<think>t</think><answer>B</answer>", False),
        ("<think> \n</think><answer>B</answer>", False),
        ("<think>t</think><answer> </answer>", False),
        ("<answer>B</answer><think>t</think>", False),
        ("<think><answer>B</answer>t</think>", False),
        ("<think>t<answer></think>B</answer>", False),
        ("<think>t</think></think><answer>B</answer>", False),
        ("<think>t</think><answer>B</answer><answer>B</answer>", False),
        ("<Think>t</Think><answer>B</answer>", False),
        ("<think>t</think><answer>B", False),
        ("", False),
    ],
)
def test_format(text, format_ok):
    assert grade(text, ANEMIA, "B").format_ok is format_ok


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("<answer>B</answer>", "B"),
        ("noise <answer>B</answer> noise", "B"),
        ("<think><answer>A</answer></think><answer>B</answer>", "B"),
        ("<think>x</think><answer>A</answer></think><answer>B</answer>", "B"),
        ("<answer>A</answer><think>x</think>", None),
        ("<think>x <answer>B</answer>", None),
        ("x</think><answer>B</answer>", "B"),
        ("<answer>B</answer> <answer>(b)</answer> <answer>Bone marrow biopsy</answer>", "B"),
        ("<answer>B</answer><answer>C</answer>", None),
        ("<answer>B</answer><answer>perhaps</answer>", None),
        ("<answer>B</answer><answer>C", "B"),
        ("</answer>A</answer><answer>B</answer></answer>", "B"),
        ("<answer>B<answer>B</answer>", None),
        ("<answer>B<think></answer>", None),
        ("＜answer＞B＜/answer＞", None),
        ("<ANSWER>B</ANSWER>", None),
        ("<answer>\n\nB\n\n</answer>", "B"),
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


def test_limits_of_a_payload():
    assert extracted("B" + " " * (MAX_PAYLOAD - 1)) == "B"
    assert extracted("B" + " " * MAX_PAYLOAD) is None
    depth = (MAX_PAYLOAD - 1) // 2
    assert extracted("(" * depth + "B" + ")" * depth) == "B"
    assert extracted("B. Bone marrow biopsy, " + "\ufdfa" * 4000) == "B"
    assert extracted("B. Bone marrow biopsy, e" + "\u0345\u0334" * 15) == "B"
    assert extracted("B. Bone marrow biopsy, e" + "\u0345\u0334" * 16) is None


# Quadratic work on any of these would take minutes.
@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("<answer>B</answer>" + "</s> <|im_end|>" * 70_000, "B"),
        ("<answer>B</answer>" + " " * 1_000_000 + "</s>", "B"),
        ("</s> " * 200_000 + "<answer>B</answer>", "B"),
        ("<answer>" * 125_000, None),
        ("</answer>" * 110_000, None),
        ("<think>" * 140_000 + "<answer>B</answer>", None),
        ("</think>" * 120_000 + "<answer>B</answer>", "B"),
        ("<answer>B</answer>" * 55_000, "B"),
        ("".join(f"{i}<answer>B</answer>" for i in range(45_000)), "B"),
        ("".join(f"<answer>B{' ' * i}</answer>" for i in range(1400)), None),
        ("<answer>" + "(" * 500_000 + "B" + ")" * 500_000 + "</answer>", None),
        ("".join(f"<answer>B. Bone marrow biopsy, {i}{chr(0xFDFA) * 4000}</answer>" for i in range(240)), None),
    ],
    ids=range(12),
)
def test_a_megabyte_of_malice(text, letter):
    assert grade(text, ANEMIA, "B").extracted == letter


@pytest.mark.parametrize(
    ("options", "gold", "message"),
    [
        ({"A": "x"}, "A", "2 to 26"),
        ({str(i): "x" for i in range(27)}, "A", "2 to 26"),
        ([("A", "x"), ("B", "y")], "A", "2 to 26"),
        ({"A": "x", "C": "y"}, "A", "in order"),
        ({"B": "x", "A": "y"}, "A", "in order"),
        ({"a": "x", "b": "y"}, "a", "in order"),
        ({"A": "x", "B": None}, "A", "string"),
    ]
    + [(ANEMIA, gold, "gold=") for gold in ("", "E", "a", "AB", "A, C", "C,A", "A,A", "A,", "A;C", None, 1)],
)
def test_bad_items_are_refused(options, gold, message):
    with pytest.raises(ValueError, match=message):
        grade("<answer>A</answer>", options, gold)


def test_twenty_six_options():
    options = {chr(65 + i): f"drug {i}" for i in range(26)}
    assert grade("<answer>Z</answer>", options, "Z").correct
    assert extracted("AND", options) == "A,D,N"
    assert extracted("A AND O", options) == "A,O"
    assert extracted("A OR Z", options) is None


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
    (graded,) = grade_lines([line])
    assert json.loads(graded.encode()) == json.loads(line) | {"format_ok": False, "extracted": "B", "correct": True}


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


TAGS_AND_TEXTS = ["<think>", "</think>", "<answer>", "</answer>", *END_OF_TURN, *ANEMIA.values()]
WORDS = ["\\boxed{", "The answer is ", " and ", " or ", " because ", " - ", "not ", "答案是", "选项", "不"]
CHARACTERS = "ABCDEab.,:;()[]{}$*_'\"、。项\n\u200b\ufdfa\u0301\ud800"
PIECES = st.lists(st.sampled_from([*TAGS_AND_TEXTS, *WORDS, *CHARACTERS]), max_size=8).map("".join)
PAYLOAD_PIECES = PIECES.map(lambda payload: f"<think>t</think><answer>{payload}</answer>")
COMPLETIONS = st.text(max_size=40) | PIECES | PAYLOAD_PIECES
ENDING = st.lists(st.sampled_from([*END_OF_TURN, " ", "\n"]), max_size=5).map("".join)


@settings(deadline=None)
@given(COMPLETIONS, st.sampled_from(list(OPTIONS.values())))
def test_never_raises_nor_leaves_the_options(completion, options):
    result = grade(completion, options, "A")
    letters = result.extracted.split(",") if result.extracted else []
    assert result.extracted != "" and letters == sorted(set(letters)) and set(letters) <= options.keys()
    assert result.correct == (letters == ["A"])


@settings(deadline=None)
@given(COMPLETIONS, st.text(" \n\t\u3000", max_size=3), ENDING)
def test_blanks_around_and_tokens_after_change_nothing(completion, blanks, ending):
    assert grade(blanks + completion + ending + blanks, ANEMIA, "A") == grade(completion, ANEMIA, "A")


@settings(deadline=None)
@given(st.lists(st.sampled_from(["()", "[]", "【】", "**", "__", '""', "$$", "\\boxed{ }", " ."]), max_size=8))
def test_any_nesting_of_wrappers_is_unwrapped(wrappers):
    payload = "C"
    for wrapper in wrappers:
        opening, closing = wrapper.split(" ") if " " in wrapper else wrapper
        payload = opening + payload + closing
    assert extracted(payload) == "C"


@pytest.mark.skipif(not SHARED_CASES.exists(), reason="the labelled cases live beside the repository")
def test_labelled_cases():
    for line in SHARED_CASES.read_text(encoding="utf-8").splitlines():
        case = json.loads(line)
        result = grade(case["completion"], case["options"], case["gold"], prefill=case.get("prefill", ""))
        assert result == Grade(case["format_ok"], case["extracted"], case["correct"]), case["id"]
