"""Which items are fit to train on: format, leak, ambiguity, repeats, contamination, anonymisation, language."""

from corl.rods.filtering.pipeline import FILTERS, FilterReport, Request, describe, filter_files

__all__ = ["FILTERS", "FilterReport", "Request", "describe", "filter_files"]
