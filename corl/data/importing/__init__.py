"""Published question sets to item files: one file per set reads its layout, rows.py does the rest."""

from collections.abc import Callable, Iterable
from pathlib import Path

from corl.data.importing import medqa, pubmedqa
from corl.data.importing.report import Drop, Repair, Report, write_report
from corl.data.importing.rows import Row, items_from
from corl.data.items import write_items

__all__ = ["DATASETS", "Drop", "Repair", "Report", "import_dataset"]

# name: (its reader, the choices the reader takes)
DATASETS: dict[str, tuple[Callable[..., Iterable[Row]], frozenset[str]]] = {
    "medqa": (medqa.read, frozenset()),
    "pubmedqa": (pubmedqa.read, frozenset({"split"})),
}
PLANNED = ("medmcqa", "medxpertqa", "mmlu_pro", "careqa", "medbullets", "jmed", "cmexam", "medkgqa", "items")


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

    Raises ValueError, with nothing written, for an unknown name, a choice the set does not have, a layout that is not
    recognised, when no row survives, and with `strict` when any row is dropped.
    """
    if name in PLANNED:
        raise ValueError(f"importing {name} is not yet possible; there is {', '.join(DATASETS)}")
    if name not in DATASETS:
        raise ValueError(f"unknown set {name!r}; known are {', '.join([*DATASETS, *PLANNED])}")
    read, choices = DATASETS[name]
    given = {"split": split, "category": category, "cop_base": cop_base}
    chosen = {choice: value for choice, value in given.items() if value is not None}
    if excess := sorted(chosen.keys() - choices):
        raise ValueError(f"{name} has no choice of {', '.join(excess)}; leave it out")
    if Path(src).is_file() and Path(out).exists() and Path(out).samefile(src):
        raise ValueError(f"{out} is the source itself; write the items to another file")
    items, report = items_from(name, read(Path(src), **chosen))
    counts = f"{report.read} rows read, {len(report.dropped)} dropped, {report.not_selected} not selected"
    first = "".join(f"; row {drop.row} ({drop.id}): {drop.reason}" for drop in report.dropped[:1])
    if not items:
        raise ValueError(f"{src}: no row of {name} survives ({counts}{first}); nothing was written, check the source")
    if strict and report.dropped:
        raise ValueError(f"{src}: {counts}{first}; nothing was written, correct the source or import without strict")
    write_items(out, items)
    write_report(f"{out}.report.json", report)
    return report
