"""What a block of draws holds before it is worded: arrays, one row a question.

n questions, K clues at most, P steps of a clue's path at most, O options.
"""

from dataclasses import dataclass, fields

import numpy as np

from corl.rods.graph import Ints

SHAPES = ("chain", "star", "star_tail", "compare", "exception", "constraint")
MAX_CLUES, MAX_PATH = 5, 3


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

    def take(self, rows: Ints) -> "Draws":
        """The rows at these positions."""
        return Draws(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    @staticmethod
    def join(parts: "list[Draws]") -> "Draws":
        """All rows, in order of their index."""
        joined = Draws(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Draws)})
        return joined.take(np.argsort(joined.index, kind="stable"))
