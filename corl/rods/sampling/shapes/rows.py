"""A finished block of draws from the parts a shape has; -1 fills the rest."""

import numpy as np

from corl.rods.graph import Ints
from corl.rods.sampling.draws import MAX_CLUES, MAX_PATH, SHAPES, Draws
from corl.rods.sampling.options import Chosen


def to_draws(
    shape: str,
    indices: Ints,
    langs: Ints,
    entities: Ints,
    clue_nodes: Ints,
    clue_steps: Ints,
    answers: Ints,
    chosen: Chosen,
    remaining: Ints,
    *,
    asked: Ints | None = None,
    excluded_step: Ints | None = None,
    excluded_node: Ints | None = None,
    contrast: Ints | None = None,
) -> Draws:
    """clue_nodes [n, k] and clue_steps [n, k] or [n, k, p] may be narrower than a Draws holds."""
    size = len(indices)
    none = np.full(size, -1, np.int64)
    if clue_steps.ndim == 2:
        clue_steps = clue_steps[:, :, None]
    steps = np.full((size, MAX_CLUES, MAX_PATH), -1, np.int64)
    steps[:, : clue_steps.shape[1], : clue_steps.shape[2]] = clue_steps
    return Draws(
        index=np.asarray(indices, np.int64),
        lang=np.asarray(langs, np.int64),
        shape=np.full(size, SHAPES.index(shape), np.int64),
        entity=entities,
        clue_nodes=_widen(clue_nodes),
        clue_steps=steps,
        asked_step=none if asked is None else asked,
        excluded_step=none if excluded_step is None else excluded_step,
        excluded_node=none if excluded_node is None else excluded_node,
        contrast=none if contrast is None else contrast,
        answer=answers,
        distractors=chosen.nodes,
        via=chosen.via,
        satisfied=chosen.satisfied,
        remaining=_widen(remaining),
    )


def _widen(values: Ints) -> Ints:
    out = np.full((len(values), MAX_CLUES), -1, np.int64)
    out[:, : values.shape[1]] = values
    return out
