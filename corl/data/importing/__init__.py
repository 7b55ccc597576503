"""Published question sets to item files: one file per set reads its layout, rows.py does the rest."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from corl.data.importing import (
    careqa,
    cmexam,
    jmed,
    medbullets,
    medkgqa,
    medmcqa,
    medqa,
    medxpertqa,
    mmlu_pro,
    own_items,
    pubmedqa,
)
from corl.data.importing.layout import Layout
from corl.data.importing.report import Drop, Repair, Report, write_report
from corl.data.importing.rows import Row, items_from
from corl.data.importing.source import read_source
from corl.data.items import write_items

__all__ = ["DATASETS", "Drop", "Repair", "Report", "import_dataset"]


@dataclass(frozen=True, slots=True)
class Dataset:
    """How a set is read; `choices` are those that its reader takes, a split is otherwise chosen in the source."""

    layout: Layout
    read: Callable[..., Iterator[Row]]
    choices: frozenset[str] = frozenset()
    distinct_stems: int | None = None


DATASETS = {
    dataset.layout.name: dataset
    for dataset in (
        Dataset(medqa.LAYOUT, medqa.read),
        Dataset(medmcqa.LAYOUT, medmcqa.read, frozenset({"cop_base"})),
        Dataset(pubmedqa.LAYOUT, pubmedqa.read, frozenset({"split"})),
        Dataset(medxpertqa.LAYOUT, medxpertqa.read),
        Dataset(mmlu_pro.LAYOUT, mmlu_pro.read, frozenset({"category"})),
        Dataset(careqa.LAYOUT, careqa.read),
        Dataset(medbullets.LAYOUT, medbullets.read, distinct_stems=medbullets.DISTINCT_STEMS),
        Dataset(jmed.LAYOUT, jmed.read),
        Dataset(cmexam.LAYOUT, cmexam.read),
        Dataset(medkgqa.LAYOUT, medkgqa.read),
        Dataset(own_items.LAYOUT, own_items.read),
    )
}


def import_dataset(
    name: str,
    src: str | Path,
    out: str | Path,
    *,
    split: str | None = None,
    category: str | None = None,
    cop_base: int | None = None,
    strict: bool = False,
) -> Report:
    """Write the set `name` found at `src` as items to `out`, and what happened to its rows to `out`.report.json.

    src  a file, a folder, a folder that `datasets` saved, or a hub id
    Raises ValueError, with nothing written, for an unknown name, a choice the set does not have, a layout that is not
    recognised, when no row survives, and with `strict` when any row is dropped.
    """
    if name not in DATASETS:
        raise ValueError(f"unknown set {name!r}; known are {', '.join(DATASETS)}")
    dataset, out = DATASETS[name], Path(out)
    of_reader, of_source = (split, None) if "split" in dataset.choices else (None, split)
    given = {"split": of_reader, "category": category, "cop_base": cop_base}
    chosen = {choice: value for choice, value in given.items() if value is not None}
    if excess := sorted(chosen.keys() - dataset.choices):
        raise ValueError(f"{name} has no choice of {', '.join(excess)}; leave it out")
    report_path = Path(f"{out}.report.json")
    if report_path.is_dir():
        raise ValueError(f"{report_path} is a folder, the report goes there; write the items to another file")
    parts, ignored = read_source(src, dataset.layout, split=of_source, out=out)
    items, report = items_from(
        name, dataset.read(parts, **chosen), distinct_stems=dataset.distinct_stems, say_place=len(parts) > 1
    )
    report = replace(report, files={part.name: len(part.rows) for part in parts}, ignored=ignored)
    counts = f"{report.read} rows read, {len(report.dropped)} dropped, {report.not_selected} not selected"
    first = "".join(f"; row {drop.row} ({drop.id}): {drop.reason}" for drop in report.dropped[:1])
    if not items:
        raise ValueError(f"{src}: no row of {name} survives ({counts}{first}); nothing was written, check the source")
    if strict and report.dropped:
        raise ValueError(f"{src}: {counts}{first}; nothing was written, correct the source or import without strict")
    write_items(out, items)
    try:
        write_report(report_path, report)
    except ValueError:
        out.unlink()
        raise
    return report
