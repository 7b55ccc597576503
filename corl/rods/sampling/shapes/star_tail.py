"""star_tail: clues hide an entity; what treats, tests, causes or follows it is asked for."""

import numpy as np

from corl.rods.graph import Ints
from corl.rods.sampling.draws import MAX_CLUES, Draws
from corl.rods.sampling.evidence import draw_clues, draw_seeds, gather, remaining, seed_kinds
from corl.rods.sampling.grammar import ASKED_STEPS
from corl.rods.sampling.keyed import pick
from corl.rods.sampling.options import choose
from corl.rods.sampling.proof import select_clues
from corl.rods.sampling.shapes.rows import to_draws
from corl.rods.sampling.shapes.tails import (
    Tails,
    barred_of,
    checked,
    competitors,
    keeps_open,
    linked,
    pool_of,
    proofs_possible,
)
from corl.rods.sampling.sources import Sources
from corl.rods.sampling.walk import pick_end, pick_step, worth_proving

STAGE = "star_tail"


def draw_star_tail(sources: Sources, indices: Ints, langs: Ints) -> Draws:
    """Proven questions; fewer than indices where a draw proves nothing."""
    rows, entities = draw_seeds(sources, STAGE, indices, seed_kinds(sources, STAGE, indices))
    indices, langs = indices[rows], langs[rows]
    asked = pick_step(sources, STAGE, indices, entities, ASKED_STEPS[sources.graph.types[entities]])
    answers = pick_end(sources, STAGE, indices, entities, asked)
    rows = np.flatnonzero(worth_proving(sources, STAGE, indices, answers))
    indices, langs, entities, asked, answers = (part[rows] for part in (indices, langs, entities, asked, answers))

    # Each clue must be the one that shuts out some option, so there is room for no more clues than wrong options.
    most = min(sources.settings.max_clues, MAX_CLUES, sources.settings.options - 1)
    count = 2 + pick(sources.seed, "star_tail.count", indices, np.full(len(indices), max(most - 1, 1)))
    every, barred = np.full(len(indices), MAX_CLUES), answers[:, None]
    drawn = draw_clues(sources, STAGE, indices, entities, every, barred=barred, asked=asked, common=count > 2)
    tails = Tails(indices, langs, entities, asked, answers, drawn, gather(sources, drawn))
    kept = select_clues(sources, STAGE, indices, drawn, competitors(sources, tails), count)
    tails = tails.with_clues(kept)

    keys, small = barred_of(sources, tails)
    full = tails.clues.full
    found = checked(sources, tails, linked(sources, STAGE, tails), keys)
    pool = pool_of(sources, STAGE, tails, found, keeps_open(found, full))
    done = np.flatnonzero(small & proofs_possible(pool, full, sources.settings.options))
    tails, pool, full = tails.take(done), pool.take(done), full[done]
    chosen, valid = choose(sources, STAGE, tails.indices, tails.langs, tails.answers, pool, full)
    draws = to_draws(
        "star_tail", tails.indices, tails.langs, tails.entities, tails.clues.nodes, tails.clues.steps, tails.answers,
        chosen, remaining(tails.clues, tails.evidence), asked=tails.asked,
    )  # fmt: skip
    return draws.take(np.flatnonzero(valid))
