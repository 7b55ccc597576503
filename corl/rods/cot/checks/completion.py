"""All checks of one completion, as the `checks` of a trace."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from corl.data.checking.encoding import artefacts
from corl.data.items import Item
from corl.grading import END_THINK, THINK, grade
from corl.rods.cot.checks.arithmetic import arithmetic
from corl.rods.cot.checks.style import find_names, has_marker, in_language, leak_phrases, repetition, word_count
from corl.rods.cot.checks.units import conversions


@dataclass(frozen=True, slots=True)
class Bounds:
    """Words of the thought (a Chinese character is one), its repeated share, the share of masked nodes it names."""

    fewest_words: int = 20
    most_words: int = 500
    repetition: float = 0.25
    bridges: float = 0.6

    def __post_init__(self) -> None:
        if not 0 <= self.fewest_words <= self.most_words:
            raise ValueError(f"words {self.fewest_words}:{self.most_words}: give FEWEST:MOST, 0 <= FEWEST <= MOST")


def check_completion(
    item: Item, completion: str, bounds: Bounds, *, names: Mapping[str, Sequence[str]] | None = None
) -> dict[str, Any]:
    """What holds of a completion, as JSON: `answer` and `format` by corl.grading, `passed` all that must hold, `failed`
    the names of what does not; `marker` (an assumption or doubt is said) is noted and must not.

    names  every name of the item's masked nodes, in its language too; without them those in the item's meta are looked
           for
    """
    grading = grade(completion, item.options, item.answer)
    text = thought(completion)
    equations, wrong = arithmetic(text)
    converted, wrong_units, unchecked = conversions(text)
    leaks, artefact = leak_phrases(text), artefacts(completion)
    count, repeated, language = word_count(text), repetition(text), in_language(text, item.lang)
    checks: dict[str, Any] = {
        "answer": grading.correct,
        "format": grading.format_ok,
        "arithmetic": {"checked": equations, "wrong": wrong},
        "units": {"checked": converted, "wrong": wrong_units, "unchecked": unchecked},
        "leak": leaks,
        "language": language,
        "words": count,
        "repetition": round(repeated, 3),
        "encoding": artefact,
        "marker": has_marker(text),
    }
    holds = {
        "answer": grading.correct,
        "format": grading.format_ok,
        "arithmetic": not wrong,
        "units": not wrong_units,
        "leak": not leaks,
        "language": language is not False,
        "length": bounds.fewest_words <= count <= bounds.most_words,
        "repetition": repeated <= bounds.repetition,
        "encoding": not artefact,
    }
    if (recall := _bridges(item, text, names)) is not None:
        checks["bridges"] = recall
        total = len(recall["named"]) + len(recall["missing"])
        holds["bridges"] = len(recall["named"]) >= bounds.bridges * total
    checks["failed"] = [name for name, well in holds.items() if not well]
    checks["passed"] = not checks["failed"]
    return checks


def thought(completion: str) -> str:
    """What stands in <think>, or all of it where no such tags are."""
    before, closed, _ = completion.partition(END_THINK)
    return before.partition(THINK)[2] if closed and THINK in before else completion


def _bridges(item: Item, text: str, names: Mapping[str, Sequence[str]] | None) -> dict[str, list[str]] | None:
    masked = item.meta.get("masked")
    if not isinstance(masked, list) or not masked or not all(isinstance(name, str) for name in masked):
        return None
    written = item.meta.get("surfaces")
    surfaces = written if isinstance(written, dict) else {}
    known = {name: (*(names or {}).get(name, ()), name, str(surfaces.get(name, name))) for name in masked}
    # An item in another language whose nodes nobody named in it cannot be checked.
    if names is None and not surfaces and item.lang.lower().split("-")[0] != "en":
        return None
    named = [name for name in masked if find_names(text, known[name])]
    return {"named": named, "missing": [name for name in masked if name not in named]}
