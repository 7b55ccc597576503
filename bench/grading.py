"""Completions graded per second on one core, and how long a hostile megabyte takes.

`python -m bench.grading --out FILE.jsonl`. Times are processor time of this process: what else the machine does is not
in them. How often grading errs is asked with `corl grade --labelled`.
"""

import argparse
import json
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bench.report import environment
from bench.timing import Timing
from corl.grading import MAX_ANSWERS, grade
from corl.grading.payload import choices_of

MEGABYTE = 1_000_000
KINDS = ("letter", "text", "letter and text", "remark", "sentence", "four blocks")
_WORDS = ("acute", "renal", "artery", "stenosis", "infusion", "of", "5", "mg/dl", "(left)", "mild", "beta-blocker")
_FOUR = {"A": "Serum ferritin", "B": "Bone marrow biopsy", "C": "Vitamin B12 level", "D": "Haemoglobin (capillary)"}
_REMARK = "B. Bone marrow biopsy, for "
# U+FDFA becomes 18 characters in NFKC. Marks of two classes in turn are what makes sorting them slow.
_LONGEST, _MARKS, _DECOMPOSING_MARK, _FULL_WIDTH = "\ufdfa", "\u0345\u0334", "\u0f73", "\uff58"
_FILLERS = {
    "blanks": " ",
    "zero-width characters": "\u200b",
    "U+FDFA": _LONGEST,
    "marks": _MARKS,
    "marks that decompose": _DECOMPOSING_MARK,
    "surrogates": "\ud800",
    "stops": ".",
    "B,": "B,",
    "words": "the answer is ",
    "Chinese lead-ins": "选项",
}


@dataclass(frozen=True, slots=True)
class Case:
    """One call of grade, and the answer it has to find."""

    completion: str
    options: Mapping[str, str]
    extracted: str | None


def ordinary(kind: str, count: int) -> list[Case]:
    """Well-formed completions of one of KINDS for items of ten options, every item another."""
    rng, cases = random.Random(0), []
    for _ in range(count):
        # The last word keeps them apart.
        options = {letter: " ".join([*rng.choices(_WORDS, k=6), letter.lower() * 2]) for letter in "ABCDEFGHIJ"}
        letter = rng.choice("ABCDEFGHIJ")
        text = options[letter]
        payloads = {
            "letter": [letter],
            "text": [text],
            "letter and text": [f"{letter}. {text}"],
            "remark": [f"{letter}. {text}, because the pressure fell at once and the lactate rose"],
            "sentence": ["It depends on the pressure, which nobody has measured yet"],
            "four blocks": [text, text.upper(), f"{letter}) {text}", f"The answer is {letter}."],
        }[kind]
        blocks = "\n".join(f"<answer>{payload}</answer>" for payload in payloads)
        thought = "The pressure fell at once. " * 40
        cases.append(Case(f"<think>{thought}</think>\n{blocks}", options, None if kind == "sentence" else letter))
    return cases


def hostile(size: int) -> Iterator[tuple[str, Case]]:
    """Inputs of about `size` characters by name, each against something that a careless parser does."""
    for name, completion, extracted in _hostile_completions(size):
        yield name, Case(completion, _FOUR, extracted)
    for name, text in (("words", "word "), ("a pattern", "(a|a)*+?["), ("U+FDFA", _LONGEST), ("marks", _MARKS)):
        long = text * (size // len(text))
        yield f"an option of {name}", Case(_one("neither"), {"A": long, "B": "x"}, None)
        for each in (size // 10, 4000):
            options = {chr(65 + k): f"{k} {long[:each]}" for k in range(26)}
            yield f"26 options of {each} characters of {name}", Case(_one("neither"), options, None)
    patterns = {chr(65 + k): "(.*)+$" * (k + 1) for k in range(26)}
    yield "options that are patterns", Case(_one("(.*)+$" * 26), patterns, "Z")


def _hostile_completions(size: int) -> Iterator[tuple[str, str, str | None]]:
    for tag in ("<think>", "</think>", "<answer>", "</answer>"):
        tags = tag * (size // len(tag))
        yield f"repeated {tag}", tags, None
        yield f"repeated {tag}, then an answer", tags + "<answer>B</answer>", "B" if "/" in tag else None
    yield "identical answers", _answers(size, "B"), "B"
    yield "alternating answers", _answers(size, "B", "C"), None
    yield "alternating spellings", _answers(size, "B", "(b)", "**B**", "Bone marrow biopsy"), "B"
    yield "nested answers", _answers(size, "(" * 2000 + "B" + ")" * 2000, "[" * 2000 + "B" + "]" * 2000), "B"
    yield "blanks between answers", "".join(f"{k:7}<answer>B</answer>" for k in range(size // 25)), "B"
    # All of these agree, so each of them is parsed: as many as MAX_ANSWERS admits.
    agreeing: dict[str, Callable[[int], str]] = {
        "spellings": lambda k: _wrapped("B", k + 6**6),
        "remarks": lambda k: f"{_REMARK}{k:7} {'x ' * 2000}",
        "remarks in full width": lambda k: f"{_REMARK}{k:7}{_FULL_WIDTH * 4000}",
        "remarks of marks": lambda k: f"{_REMARK}{k:7}{_MARKS * 2000}",
        "remarks of marks that decompose": lambda k: f"{_REMARK}{k:7}{_DECOMPOSING_MARK * 2000}",
        "lists": lambda k: f"{k:010b}{'B, ' * 1300}B".replace("1", "B, ").replace("0", "B; "),
    }
    for name, payload in agreeing.items():
        blocks = "".join(f"<answer>{payload(k)}</answer>" for k in range(size // (17 + len(payload(0)))))
        few = blocks[: blocks.rindex("</answer>", 0, MAX_ANSWERS) + len("</answer>")]
        yield f"different {name}, few enough", few, "B"
        yield f"different {name}", blocks, None
    for opening, closing in ("()", "[]", "{}", "【】", "《》", "「」", "**", '""', "$$", ("\\boxed{", "}")):
        pairs = size // len(opening + closing)
        yield f"nested {opening}{closing}", _one(opening * pairs + "B" + closing * pairs), None
        yield f"{opening} alone", _one(opening * (size // len(opening))), None
    for token in ("</s>", "<|im_end|>", "<|end_of_text|> \n"):
        tokens = token * (size // len(token))
        yield f"repeated {token.strip()}", _one("B") + tokens, "B"
        yield f"{token.strip()} first", tokens + _one("B"), "B"
    yield "end tokens and blanks", _one("B") + "</s> <|im_end|>\t" * (size // 16), "B"
    yield "blanks before </s>", _one("B") + " " * size + "</s>", "B"
    for name, filler in _FILLERS.items():
        long, short = filler * (size // len(filler)), filler * (4000 // len(filler))
        yield f"a payload of {name}", _one(long), None
        yield f"a thought of {name}", f"<think>{long}</think><answer>B</answer>", "B"
        yield f"a tail of {name}", _one(_REMARK + long), None
        yield f"4,000 characters of {name}, twice", _one(short) + _one(short + " "), None


def _one(payload: str) -> str:
    return f"<think>t</think><answer>{payload}</answer>"


def _answers(size: int, *payloads: str) -> str:
    turn = "".join(f"<answer>{payload}</answer>" for payload in payloads)
    return turn * (size // len(turn))


def _wrapped(text: str, number: int) -> str:
    """The text in wrappers that spell the number."""
    while number:
        number, kind = divmod(number, 6)
        opening, closing = ("()", "[]", "{}", "**", '""', "$$")[kind]
        text = f"{opening}{text}{closing}"
    return text


def graded(case: Case) -> str | None:
    return grade(case.completion, case.options, "A").extracted


def graded_anew(case: Case) -> str | None:
    """With nothing remembered of the options."""
    choices_of.cache_clear()
    return graded(case)


def processor_ms(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return (time.process_time() - start) * 1e3


def throughput(cases: list[Case], repeats: int) -> dict[str, Any]:
    """Per completion; the options of every repeat are new objects, so that no hash of a text is known already."""
    samples = []
    for _ in range(repeats):
        fresh = [Case(case.completion, json.loads(json.dumps(case.options)), case.extracted) for case in cases]
        samples.append(processor_ms(partial(list, map(graded, fresh))) / len(cases))
    return _percentiles(samples)


def _percentiles(samples_ms: list[float]) -> dict[str, Any]:
    timing = Timing.of(samples_ms)
    return {"p20_ms": timing.p20, "p50_ms": timing.p50, "p80_ms": timing.p80, "samples": timing.samples}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="append JSON lines here")
    parser.add_argument("--labelled", type=Path, metavar="FILE", help="labelled completions, to be timed as well")
    parser.add_argument("--repeats", type=int, default=20)
    arguments = parser.parse_args()
    sets = {kind: ordinary(kind, 500) for kind in KINDS}
    if arguments.labelled:
        lines = [json.loads(line) for line in arguments.labelled.read_text().splitlines()]
        sets["labelled"] = [Case(line["completion"], line["options"], line["extracted"]) for line in lines] * 8
    rows = []
    for name, cases in sets.items():
        assert all(graded(case) == case.extracted for case in cases), name
        numbers = throughput(cases, arguments.repeats)
        rows.append({"op": "throughput", "name": name, **numbers})
        print(f"{1e3 / numbers['p50_ms']:9.0f} per second  {name}")
    for name, case in hostile(MEGABYTE):
        assert graded(case) == case.extracted, name
        numbers = _percentiles([processor_ms(partial(graded_anew, case)) for _ in range(arguments.repeats)])
        rows.append({"op": "hostile", "name": name, **numbers})
        print(f"{numbers['p50_ms']:9.2f} ms  {name}")
    if arguments.out:
        surroundings = environment(torch.device("cpu")) | {"suite": "grading"}
        with arguments.out.open("a") as file:
            file.writelines(json.dumps(surroundings | row) + "\n" for row in rows)


if __name__ == "__main__":
    main()
