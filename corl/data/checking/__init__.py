"""Is a file of items fit to train on: rows, encodings, near-duplicates, contamination with test sets."""

from corl.data.checking.check import (
    CheckReport,
    check_items,
    check_places,
    describe,
    write_fingerprint,
    write_kept,
    write_report,
)
from corl.data.checking.rows import Finding

__all__ = [
    "CheckReport",
    "Finding",
    "check_items",
    "check_places",
    "describe",
    "write_fingerprint",
    "write_kept",
    "write_report",
]
