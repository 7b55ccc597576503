"""Deterministic checks of a chain of thought; `check_completion` runs them all."""

from corl.rods.cot.checks.completion import Bounds, check_completion

__all__ = ["Bounds", "check_completion"]
