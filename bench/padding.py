"""Rows that the head's GEMMs compute over the rows that hold a token to learn from, for packs as the recipes make them.

    python -m bench.padding [--packs 2000]

Needs no GPU: the packs are those of corl.training.batch.pack over sequences of random lengths, and the rows of a call
are those of corl_kernels.chunks.chunk_rows; beside them stands what chunks of a fixed 4,096 rows cost.
"""

import argparse
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from corl.training.batch import TrainSequence, pack
from corl_kernels.chunks import ROWS_CUDA, chunk_rows

_PROMPT = (200, 600)
# (tokens of a micro-batch, shortest and longest completion)
SETTINGS = (
    (8192, (100, 1500)), (8192, (300, 4000)), (16384, (100, 1500)), (16384, (300, 4000)), (16384, (300, 8000)),
)  # fmt: skip
_STEP = 256  # sequences that are packed together


@dataclass(frozen=True, slots=True)
class Padding:
    """Of `packs` micro-batches: mean rows that are needed, and all rows computed over all rows needed."""

    budget: int
    completions: tuple[int, int]
    packs: int
    needed: float
    fixed: float
    even: float


def targets_of_packs(budget: int, completions: tuple[int, int], seed: int = 0) -> Iterator[int]:
    """Tokens with a target in one micro-batch after the other, without end."""
    draw = random.Random(seed)
    while True:
        sequences = []
        for index in range(_STEP):
            prompt, completion = draw.randint(*_PROMPT), draw.randint(*completions)
            ids = [0] * min(prompt + completion, budget + 1)
            sequences.append(TrainSequence(str(index), ids, prompt, 0.0))
        yield from (sum(s.num_targets for s in held) for held in pack(sequences, budget, 1)[0])


def measure(budget: int, completions: tuple[int, int], packs: int) -> Padding:
    needed = [rows for _, rows in zip(range(packs), targets_of_packs(budget, completions), strict=False)]

    def computed(rows_of: list[int]) -> float:
        return sum(-(-rows // chunk) * chunk for rows, chunk in zip(needed, rows_of, strict=True)) / sum(needed)

    even = computed([chunk_rows(rows, True) for rows in needed])
    return Padding(budget, completions, packs, sum(needed) / packs, computed([ROWS_CUDA] * packs), even)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.padding", description=__doc__.splitlines()[0])
    parser.add_argument("--packs", type=int, default=2000, help="of each setting")
    packs = parser.parse_args(arguments).packs
    if packs < 1:
        parser.error(f"--packs {packs} must be 1 or more")
    print(f"rows computed over rows needed, {packs} packs each, prompts of {_PROMPT[0]} to {_PROMPT[1]} tokens")
    print(f"{'budget':>7}  {'completions':>12}  {'rows needed':>11}  {'chunks of 4,096':>15}  {'even chunks':>11}")
    for budget, completions in SETTINGS:
        found = measure(budget, completions, packs)
        lengths = f"{completions[0]}-{completions[1]}"
        print(f"{budget:>7}  {lengths:>12}  {found.needed:>11.0f}  {found.fixed:>15.3f}  {found.even:>11.3f}")


if __name__ == "__main__":
    main()
