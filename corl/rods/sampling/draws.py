"""What a block of draws holds before it is worded: arrays, one row a question.

n questions, K clues at most, P steps of a clue's path at most, O options.
"""

from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np

from corl.rods.graph import Ints

SHAPES = ("chain", "star", "star_tail", "compare", "exception", "constraint")
MAX_CLUES, MAX_PATH = 5, 3


_DIGIT = 256  # above any step, so that a path is the digits of one number; 0 for no step


@lru_cache(maxsize=4096)
def _path(code: int) -> tuple[int, ...]:
    steps = []
    while code:
        code, digit = divmod(code, _DIGIT)
        steps += [digit - 1] if digit else []
    return tuple(reversed(steps))


@dataclass(frozen=True, slots=True)
class Draws:
    """Proven questions: of the options exactly the answer is right. -1 fills what a shape does not have."""

    index: Ints  # [n] the key every random number of the question comes from
    lang: Ints  # [n] 0 en, 1 zh
    shape: Ints  # [n] index of SHAPES
    entity: Ints  # [n] x, which satisfies every clue
    clue_nodes: Ints  # [n, K]
    clue_steps: Ints  # [n, K, P] the path from x to the clue's node; a clue without steps says that x is the node
    asked_step: Ints  # [n] from x to the answer; -1: the answer is x
    excluded_step: Ints  # [n] from the answer; the answer must not have it
    excluded_node: Ints  # [n]
    contrast: Ints  # [n] an entity that shares two or more clues and violates one
    answer: Ints  # [n]
    distractors: Ints  # [n, O - 1]
    via: Ints  # [n, O - 1] the entity that an option other than an entity itself is linked through
    satisfied: Ints  # [n, O - 1] bit k: the distractor (or its `via`) satisfies clue k
    remaining: Ints  # [n, K] how many entities satisfy clues 0..k, on strong and weak edges

    def __len__(self) -> int:
        return len(self.index)

    def clues(self) -> list[list[tuple[tuple[int, ...], int]]]:
        """Of each row its clues: (path, node). A path is one number on the way: lists of lists of lists are slow."""
        codes: Ints = np.zeros(self.clue_nodes.shape, np.int64)
        for place in range(self.clue_steps.shape[2]):
            codes = codes * _DIGIT + self.clue_steps[:, :, place] + 1
        found: list[list[tuple[tuple[int, ...], int]]] = []
        for paths, nodes in zip(codes.tolist(), self.clue_nodes.tolist(), strict=True):
            found.append([(_path(code), node) for code, node in zip(paths, nodes, strict=True) if node >= 0])
        return found

    def take(self, rows: Ints) -> "Draws":
        """The rows at these positions."""
        return Draws(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    @staticmethod
    def join(parts: "list[Draws]") -> "Draws":
        """All rows, in order of their index."""
        joined = Draws(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Draws)})
        return joined.take(np.argsort(joined.index, kind="stable"))
