"""The proof of a question in words, as a chain of thought to imitate: no language model takes part."""

from corl.rods.reasoning.proof import proof_trace

__all__ = ["proof_trace"]
