"""The questions of files by set: hashed, counted against the set's published size, read as items or as fingerprints."""

from pathlib import Path

from corl.data.checking.fingerprint import Section, Stem, is_fingerprint, read_fingerprint, stem_of
from corl.data.checking.rows import REPEATED_ID, RawRow, read_rows

_Key = tuple[str, str | None, int | None]  # set, split, rows of the complete set


class SectionsOfRows:
    """Collects the questions of a file by set and split. A set that is none of the paper's nine has no known size."""

    def __init__(self) -> None:
        self._made: dict[_Key, tuple[list[int], list[Stem]]] = {}
        self._repeated: dict[_Key, int] = {}

    def add(self, row: RawRow, stem: Stem) -> None:
        key = row.set_name, row.split, row.official_rows
        lines, stems = self._made.setdefault(key, ([], []))
        lines.append(row.line)
        stems.append(stem)
        repeats = any(finding.reason == REPEATED_ID for finding in row.findings)
        self._repeated[key] = self._repeated.get(key, 0) + repeats

    def sections(self) -> list[Section]:
        return [
            Section(*key, len(lines) == key[2] and not self._repeated[key], lines, stems)
            for key, (lines, stems) in self._made.items()
        ]


def read_reference(path: Path) -> list[Section]:
    """The sections of a fingerprint, or those of a file of items.

    Raises ValueError naming the line for a row without question, options or source; other faults of a row do not
    matter here.
    """
    if is_fingerprint(path):
        return read_fingerprint(path)
    made = SectionsOfRows()
    for row in read_rows(path):
        if not row.question.strip() or not row.set_name or not row.options:
            why = f" ({row.findings[0].detail})" if row.findings else ""
            raise ValueError(
                f"{path}, line {row.line}: no question to compare with{why}; give items (`corl data import`) or a "
                "fingerprint (`corl data check FILE --fingerprint OUT`)"
            )
        made.add(row, stem_of(row.context, row.question, row.options)[0])
    return made.sections()
