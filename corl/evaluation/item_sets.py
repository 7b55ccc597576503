"""Items grouped into the sets that an evaluation reports: the paper's nine columns, and whatever else there is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from corl.data.benchmarks import NINE, Benchmark, benchmark_of
from corl.data.items import Item, read_items

SPLIT_SOURCES = frozenset(benchmark.source for benchmark in NINE if benchmark.category is not None)


@dataclass(frozen=True, slots=True)
class ItemSet:
    """Items that one accuracy is about.

    column  the paper's, where it is one of the nine
    whole   how many items make the set complete: the paper's number, else what the files held
    """

    key: str
    title: str
    items: list[Item]
    column: Benchmark | None
    whole: int

    def status(self, n: int) -> str:
        """ "complete", or what a result over n of its items has to be called instead."""
        if n < self.whole:
            return f"partial: {n:,} of {self.whole:,}"
        if n > self.whole:
            return f"not the official set: {n:,} items instead of {self.whole:,}"
        if self.column is not None:
            fewest, most = self.column.options
            strange = [item for item in self.items if not fewest <= len(item.options) <= most]
            if strange:
                return (
                    f"not the official set: {len(strange):,} items have another number of options than {fewest} to "
                    f"{most}, the first is {strange[0].id}"
                )
        return "complete"


def read_sets(files: Sequence[str | Path]) -> list[ItemSet]:
    """The sets of all items of the files, the nine columns first. Raises ValueError for an id that comes twice."""
    found: dict[str, ItemSet] = {}
    file_of: dict[str, str | Path] = {}
    for file in files:
        for item in read_items(file):
            if item.id in file_of:
                raise ValueError(
                    f"{file}: item {item.id!r} is in {file_of[item.id]} too; answers are kept by id, remove one"
                )
            file_of[item.id] = file
            column = benchmark_of(item)
            key = column.key if column else _other_key(item)
            if key not in found:
                found[key] = ItemSet(key, column.title if column else key, [], column, column.rows if column else 0)
            found[key].items.append(item)
    nine = [found.pop(benchmark.key) for benchmark in NINE if benchmark.key in found]
    return nine + [replace(other, whole=len(other.items)) for other in found.values()]


def read_suite(folder: str | Path) -> tuple[list[ItemSet], list[str], list[Path]]:
    """Those of the nine columns that have items in a folder's *.jsonl, notes on what is missing or left out, the files.

    What an item is says its own source, language, split and category, so the names of the files are free. Raises
    ValueError when the folder holds no item of the nine.
    """
    folder = Path(folder)
    advice = "make them with `corl data import SET SRC --out " + f"{folder}/SET.jsonl`"
    if not folder.is_dir():
        raise ValueError(
            f"{folder}: no such folder, the suite's items are read from there; {advice}, or use --items-dir"
        )
    files = sorted(path for path in folder.glob("*.jsonl") if not path.name.startswith("."))
    sets = read_sets(files)
    nine = [found for found in sets if found.column is not None]
    if not nine:
        titles = ", ".join(benchmark.title for benchmark in NINE)
        raise ValueError(f"{folder}: its {len(files)} files *.jsonl hold no item of {titles}; {advice}")
    held = {found.key for found in nine}
    notes = [
        f"missing: {benchmark.title} (no item of source {benchmark.source} in {folder})"
        for benchmark in NINE
        if benchmark.key not in held
    ]
    notes += [f"left out: {len(s.items):,} items of {s.title}, no column" for s in sets if s.column is None]
    return nine, notes, files


def limited(sets: Sequence[ItemSet], limit: int | None) -> list[ItemSet]:
    """Each set's first `limit` items."""
    return [replace(found, items=found.items[:limit]) for found in sets]


def _other_key(item: Item) -> str:
    """Source, and what tells apart the parts of a source that must not be averaged into one."""
    sources = {benchmark.source: benchmark.lang for benchmark in NINE}
    parts = [item.source]
    if item.source in SPLIT_SOURCES and item.meta.get("category"):
        parts.append(str(item.meta["category"]))
    if item.lang != sources.get(item.source, item.lang):
        parts.append(item.lang)
    if item.meta.get("split"):
        parts.append(str(item.meta["split"]))
    return ":".join(parts)
