"""Edges from prose: a teacher reads, the text and the schema have the last word."""

from corl.rods.prose.command import Found, triples_file

__all__ = ["Found", "triples_file"]
