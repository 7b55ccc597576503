"""PubMedQA, the 1,000 expert-labelled questions: one JSON object keyed by PMID.

Half of the ids are the official test set, named by test_ground_truth.json; they are never written as training data.
LONG_ANSWER is the abstract's conclusion and gives the label away, so it is never read.
"""

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

from corl.data.importing.rows import Row, keys_of, layout_error, read_json

KEYS = frozenset({"QUESTION", "CONTEXTS", "final_decision"})
LAYOUT = "an object of PMID: {QUESTION, CONTEXTS [..], LABELS [..], final_decision}"
DECISIONS = {"yes": "A", "no": "B", "maybe": "C"}
SPLITS = ("train", "test", "all")


def read(source: Path, *, split: str = "train") -> Iterator[Row]:
    """The rows of ori_pqal.json (or of the folder that holds it), those outside `split` not selected.

    Raises ValueError when the layout is another one or test_ground_truth.json is not beside the file.
    """
    if split not in SPLITS:
        raise ValueError(f"split={split!r}; pubmedqa has {', '.join(SPLITS)}")
    path = source / "ori_pqal.json" if source.is_dir() else source
    content = read_json(path)
    if not isinstance(content, dict) or not keys_of(content) >= KEYS:
        raise layout_error(str(path), "pubmedqa", LAYOUT, content)
    truth = _test_decisions(path.with_name("test_ground_truth.json"))
    for number, (pmid, row) in enumerate(content.items(), 1):
        if not _has_layout(row):
            raise layout_error(f"{path}, PMID {pmid}", "pubmedqa", LAYOUT, row)
        part, decision = "test" if pmid in truth else "train", row.get("final_decision")
        decision = decision.strip() if isinstance(decision, str) else ""
        differs = pmid in truth and truth[pmid] != decision
        yield Row(
            number=number,
            native_id=pmid,
            question=row.get("QUESTION"),
            options=list(DECISIONS),
            answer=DECISIONS.get(decision, decision),
            bad_gold=f"final_decision is {decision}, test_ground_truth.json says {truth[pmid]}" if differs else "",
            context=_context(row),
            meta={"split": part},
            selected=split in (part, "all"),
        )


def _has_layout(row: Any) -> bool:
    lists = [row.get(key) or [] for key in ("CONTEXTS", "LABELS")] if isinstance(row, dict) else [None]
    return all(isinstance(texts, list) and all(isinstance(text, str) for text in texts) for texts in lists)


def _context(row: dict[str, Any]) -> str:
    pairs = zip_longest(row.get("LABELS") or [], row.get("CONTEXTS") or [], fillvalue="")
    return "\n".join(f"{label}: {text}" if label else text for label, text in pairs if text)


def _test_decisions(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise ValueError(f"{path} is missing; put PubMedQA's file there, without it test rows would be trained on")
    truth = read_json(path)
    if not isinstance(truth, dict) or not truth or not all(value in tuple(DECISIONS) for value in truth.values()):
        raise ValueError(f"{path} does not map PMIDs to yes, no or maybe; fetch the official file again")
    return truth
