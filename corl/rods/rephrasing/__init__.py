"""Questions in a teacher's words: the template stays wherever the new wording is not proven to ask the same."""

from corl.rods.rephrasing.command import Rephrased, rephrase_file

__all__ = ["Rephrased", "rephrase_file"]
