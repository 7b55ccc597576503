"""What one call of generate did, in counts that add up."""

from collections.abc import Sequence
from dataclasses import dataclass

from corl.rollout.sample import Group, Sample


@dataclass(slots=True)
class EngineStats:
    """Tokens, rows and pages of one generate.

    prefill_tokens  forwarded in prefills, recomputed ones among them
    recomputed      of those, the ones that had been in the cache before: after a preemption or an early stop
    decode_tokens   drawn by decode steps and kept
    beyond          drawn by decode steps after the end of their sample, and dropped
    idle            rows of decode steps that drew nothing: max_seqs x decode_steps = decode_tokens + beyond + idle
    first_token_s   until the first prefill's tokens were there; seconds: the whole call
    """

    prefill_tokens: int = 0
    recomputed: int = 0
    decode_tokens: int = 0
    beyond: int = 0
    idle: int = 0
    decode_steps: int = 0
    preemptions: int = 0
    peak_pages: int = 0
    num_pages: int = 0
    first_token_s: float = 0.0
    seconds: float = 0.0

    def count_prefill(self, groups: Sequence[Group], seconds: float) -> None:
        self.prefill_tokens += sum(len(group.prefix) for group in groups)
        self.recomputed += sum(len(group.prefix) for group in groups if group.again)
        self.first_token_s = self.first_token_s or seconds

    def count_decode(self, rows: Sequence[Sample], before: Sequence[tuple[int, int]], steps: int, width: int) -> None:
        """`before` holds, of every row, its tokens before the steps and how many they could draw at most."""
        kept = sum(len(sample.ids) - had for sample, (had, _) in zip(rows, before, strict=True))
        drawn = sum(left for _, left in before)
        self.decode_tokens += kept
        self.beyond += drawn - kept
        self.idle += width * steps - drawn
        self.decode_steps += steps
