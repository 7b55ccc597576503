"""star: clues that one entity of the whole graph satisfies; that entity is asked for."""

import numpy as np

from corl.rods.graph import Ints
from corl.rods.sampling.draws import MAX_CLUES, Draws
from corl.rods.sampling.evidence import (
    compact,
    draw_clues,
    draw_seeds,
    gather,
    remaining,
    seed_kinds,
    violates,
)
from corl.rods.sampling.keyed import pick
from corl.rods.sampling.options import choose
from corl.rods.sampling.proof import acceptable, select_clues, with_relatives
from corl.rods.sampling.ragged import distinct
from corl.rods.sampling.shapes.pools import Candidates, make_pool, share_of, thin
from corl.rods.sampling.shapes.rows import to_draws
from corl.rods.sampling.sources import Sources
from corl.rods.sampling.walk import worth_proving

STAGE = "star"


def draw_star(sources: Sources, indices: Ints, langs: Ints) -> Draws:
    """Proven questions; fewer than indices where a draw proves nothing."""
    rows, entities = draw_seeds(sources, STAGE, indices, seed_kinds(sources, STAGE, indices))
    wanted = worth_proving(sources, STAGE, indices[rows], entities)
    rows, entities = rows[wanted], entities[wanted]
    indices, langs = indices[rows], langs[rows]
    most = min(sources.settings.max_clues, MAX_CLUES)
    count = 2 + pick(sources.seed, "star.count", indices, np.full(len(indices), most - 1))
    drawn = draw_clues(sources, STAGE, indices, entities, np.full(len(indices), MAX_CLUES), common=count > 2)
    evidence = gather(sources, drawn)
    evidence = evidence.take(sources.graph.types[evidence.entity] == sources.graph.types[entities[evidence.row]])
    kept = select_clues(sources, STAGE, indices, drawn, evidence, count, alone=True)
    clues, evidence = compact(drawn, kept, evidence)
    full = clues.full
    proven = kept > 0

    near = thin(sources, STAGE, indices, evidence.take((evidence.mask != full[evidence.row]) & proven[evidence.row]))
    kin_rows, kin = with_relatives(sources, np.arange(len(indices)), entities)
    clue_rows, slots = np.nonzero(clues.nodes >= 0)
    size = len(sources.graph)
    keys = distinct(np.concatenate([kin_rows * size + kin, clue_rows * size + clues.nodes[clue_rows, slots]]))
    near = near.take(acceptable(sources, near.row, near.entity, entities, keys))
    near = near.take(violates(sources, clues, near) > 0)
    found = Candidates(near.row, near.entity, np.full_like(near.entity, -1), near.mask)
    pool = make_pool(sources, STAGE, indices, found, near.mask, share_of(near.mask, full[near.row]))
    done = np.flatnonzero(proven)
    chosen, valid = choose(sources, STAGE, indices[done], langs[done], entities[done], pool.take(done), full[done])
    draws = to_draws(
        "star", indices[done], langs[done], entities[done], clues.nodes[done], clues.steps[done], entities[done],
        chosen, remaining(clues, evidence)[done],
    )  # fmt: skip
    return draws.take(np.flatnonzero(valid))
