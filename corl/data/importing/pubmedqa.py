"""PubMedQA, the 1,000 expert-labelled questions: one JSON object keyed by PMID, or the hub's table of them.

Half of the ids are the official test set, named by test_ground_truth.json; they are never written as training data.
LONG_ANSWER is the abstract's conclusion and gives the label away, so it is never read.
"""

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

from corl.data.importing.content import read_content
from corl.data.importing.layout import Layout, Part, layout_error
from corl.data.importing.rows import Row
from corl.data.importing.values import structured

TRUTH = "test_ground_truth.json"
LAYOUT = Layout(
    name="pubmedqa",
    columns=(
        frozenset({"QUESTION", "CONTEXTS", "final_decision"}),
        frozenset({"pubid", "question", "context", "final_decision"}),
    ),
    wanted="an object of PMID: {QUESTION, CONTEXTS [..], LABELS [..], final_decision}; "
    "or rows with pubid, question, context {contexts, labels}, final_decision",
    hub={"qiaojin/PubMedQA": "pqa_labeled"},
    main_file="ori_pqal.json",
    aside=TRUTH,
)
DECISIONS = {"yes": "A", "no": "B", "maybe": "C"}
SPLITS = ("train", "test", "all")


def read(parts: list[Part], *, split: str = "train") -> Iterator[Row]:
    """The rows of the set, those outside `split` not selected.

    Raises ValueError when test_ground_truth.json is not beside the source, or PMIDs are missing.
    """
    if split not in SPLITS:
        raise ValueError(f"split={split!r}; pubmedqa has {', '.join(SPLITS)}")
    for part in parts:
        truth = _test_decisions(part)
        pmids = part.keys or [str(row.get("pubid")) for row in part.rows]
        for place, pmid, row in zip(part.places(), pmids, part.rows, strict=True):
            texts, labels = _contexts(row)
            if texts is None or labels is None or not (part.keys or row.get("pubid")):
                raise layout_error(f"{part.name}, PMID {pmid}", LAYOUT, row)
            own, decision = "test" if pmid in truth else "train", row.get("final_decision")
            decision = decision.strip() if isinstance(decision, str) else ""
            differs = pmid in truth and truth[pmid] != decision
            yield Row(
                place=place,
                native_id=pmid,
                question=row.get("QUESTION", row.get("question")),
                options=list(DECISIONS),
                answer=DECISIONS.get(decision, decision),
                bad_gold=f"final_decision is {decision}, {TRUTH} says {truth[pmid]}" if differs else "",
                context="\n".join(
                    f"{label}: {text}" if label else text
                    for label, text in zip_longest(labels, texts, fillvalue="")
                    if text
                ),
                meta={"split": own},
                selected=split in (own, "all"),
            )


def _contexts(row: dict[str, Any]) -> tuple[list[str] | None, list[str] | None]:
    """The abstract's parts and their labels; None for what is no list of texts."""
    if "QUESTION" in row or "CONTEXTS" in row:
        return _texts(row.get("CONTEXTS")), _texts(row.get("LABELS"))
    held = structured(row.get("context")) or {}
    return (_texts(held.get("contexts")), _texts(held.get("labels"))) if isinstance(held, dict) else (None, None)


def _texts(value: Any) -> list[str] | None:
    value = value or []
    return value if isinstance(value, list) and all(isinstance(text, str) for text in value) else None


def _test_decisions(part: Part) -> dict[str, str]:
    if part.path is None:
        raise ValueError(f"{part.name}: the hub does not have {TRUTH}; save the set to a folder and put the file there")
    places = [folder / TRUTH for folder in (part.path, part.path.parent) if folder.is_dir()]
    path = next((place for place in places if place.is_file()), places[0])
    if not path.is_file():
        raise ValueError(f"{path} is missing; put PubMedQA's file there, without it test rows would be trained on")
    truth = read_content(Path(path))
    if not isinstance(truth, dict) or not truth or not all(value in tuple(DECISIONS) for value in truth.values()):
        raise ValueError(f"{path} does not map PMIDs to yes, no or maybe; fetch the official file again")
    return truth
