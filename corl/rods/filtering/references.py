"""Contamination: whether an item is one of a test set's, as it stands or as it was before it was rewritten."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from corl.data.checking.contamination import Reference
from corl.data.checking.fingerprint import stem_of
from corl.data.checking.sections import read_reference
from corl.data.items import Item
from corl.rods.filtering.language import base
from corl.rods.filtering.repeats import Words
from corl.rods.filtering.rows import Reason

CHINESE_RUN = 20  # characters; 13 of them say less than 13 words


class References:
    """The test sets that items are held against. `titles` say how much of each set that is."""

    def __init__(self, files: Sequence[str | Path]) -> None:
        self._reference = Reference([section for file in files for section in read_reference(Path(file))])
        self.titles = [section.title for section in self._reference.sections]

    def reasons(self, forms: Sequence[Words]) -> Iterator[Reason]:
        """`forms` of one item; a test set is named once."""
        told: set[int] = set()
        for form in forms:
            for hit in self._reference.hits(form.stem):
                chinese = base(form.item.lang) == "zh"
                if hit.section in told or (chinese and hit.evidence != "exact" and hit.covered < CHINESE_RUN):
                    continue
                told.add(hit.section)
                how = "stem and options" if hit.evidence == "exact" else f"{hit.covered} words, {hit.share:.0%}"
                yield Reason(f"{hit.evidence}_match", f"line {hit.line} of {self.titles[hit.section]}: {how}")


def words_of(item: Item) -> Words:
    return Words(item, *stem_of(item.context or "", item.question, tuple(item.options.values())))
