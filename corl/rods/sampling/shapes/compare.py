"""compare: an entity and its contrast share clues and differ in one; what else belongs to the first one is asked."""

import numpy as np

from corl.rods.graph import Ints
from corl.rods.sampling.draws import MAX_CLUES, Draws
from corl.rods.sampling.evidence import draw_clues, draw_seeds, gather, remaining, violates
from corl.rods.sampling.grammar import COMPARE_ASKED, step_numbers
from corl.rods.sampling.keyed import uniform
from corl.rods.sampling.options import choose
from corl.rods.sampling.proof import may_have, select_clues
from corl.rods.sampling.ragged import POPCOUNT, order_by, starts
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

STAGE = "compare"


def draw_compare(sources: Sources, indices: Ints, langs: Ints) -> Draws:
    """Proven questions; fewer than indices where a draw proves nothing.

    The question says that its entity is not the contrast, so no clue counts as needed only because it shuts that out.
    """
    rows, entities = draw_seeds(sources, STAGE, indices, ["disease"] * len(indices))
    indices, langs = indices[rows], langs[rows]
    steps = np.broadcast_to(step_numbers(COMPARE_ASKED), (len(indices), len(COMPARE_ASKED)))
    asked = pick_step(sources, STAGE, indices, entities, steps)
    answers = pick_end(sources, STAGE, indices, entities, asked)
    rows = np.flatnonzero(worth_proving(sources, STAGE, indices, answers))
    indices, langs, entities, asked, answers = (part[rows] for part in (indices, langs, entities, asked, answers))

    most = min(sources.settings.max_clues, MAX_CLUES, sources.settings.options - 1)
    every = np.full(len(indices), MAX_CLUES)
    drawn = draw_clues(sources, STAGE, indices, entities, every, barred=answers[:, None], common=every > 0)
    tails = Tails(indices, langs, entities, asked, answers, drawn, gather(sources, drawn))
    rivals = competitors(sources, tails)
    kept = select_clues(sources, STAGE, indices, drawn, rivals, np.full(len(indices), most), spare=1)
    tails = tails.with_clues(np.where(POPCOUNT[kept] >= 3, kept, 0))
    contrast = _contrasts(sources, tails)
    done = np.flatnonzero(contrast >= 0)
    return _finish(sources, tails.take(done), contrast[done])


def _contrasts(sources: Sources, tails: Tails) -> Ints:
    """[n] an entity that shares two or more clues, fails another one for good, is no relative, and has nothing like the
    answer; -1 where there is none."""
    graph, full, evidence = sources.graph, tails.clues.full, tails.evidence
    shared = POPCOUNT[evidence.mask]
    fits = (shared >= 2) & (evidence.mask != full[evidence.row]) & ~sources.blunt[evidence.entity]
    fits &= graph.types[evidence.entity] == graph.types[tails.entities[evidence.row]]
    near = evidence.take(fits)
    near = near.take(violates(sources, tails.clues, near) > 0)
    # Of relatives too, and every relative of the hidden entity has the answer through it.
    near = near.take(~may_have(sources, near.entity, tails.asked[near.row], tails.answers[near.row]))
    shot = uniform(sources.seed, "compare.contrast", tails.indices[near.row] * len(graph) + near.entity)
    order = order_by(near.row, np.minimum((MAX_CLUES - POPCOUNT[near.mask] + shot) / (MAX_CLUES + 1), 0.999))
    row, entity = near.row[order], near.entity[order]
    first = starts(row)
    out = np.full(len(tails.indices), -1, np.int64)
    out[row[first]] = entity[first]
    return out


def _finish(sources: Sources, tails: Tails, contrast: Ints) -> Draws:
    keys, small = barred_of(sources, tails)
    full = tails.clues.full
    found = checked(sources, tails, linked(sources, STAGE, tails), keys)
    found = found.take(found.node != contrast[found.row])
    own = sources.solid.has(contrast[found.row], tails.asked[found.row], found.node)
    pool = pool_of(sources, STAGE, tails, found, keeps_open(found, full, contrast), bonus=np.where(own, 0.5, 0.0))
    done = np.flatnonzero(small & proofs_possible(pool, full, sources.settings.options))
    tails, pool, full, contrast = tails.take(done), pool.take(done), full[done], contrast[done]
    chosen, valid = choose(sources, STAGE, tails.indices, tails.langs, tails.answers, pool, full)
    draws = to_draws(
        "compare", tails.indices, tails.langs, tails.entities, tails.clues.nodes, tails.clues.steps, tails.answers,
        chosen, remaining(tails.clues, tails.evidence), asked=tails.asked, contrast=contrast,
    )  # fmt: skip
    return draws.take(np.flatnonzero(valid))
