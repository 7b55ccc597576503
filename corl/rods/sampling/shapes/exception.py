"""exception: all options but one stand in a relation to a named entity; the one that does not is asked for.

Only for near-complete relations: elsewhere an edge that is missing denies nothing.
"""

import numpy as np

from corl.rods.graph import Ints
from corl.rods.sampling.draws import Draws
from corl.rods.sampling.evidence import draw_seeds, race
from corl.rods.sampling.grammar import CLUE_STEPS, EXCEPTION_ASKED, back, step_numbers
from corl.rods.sampling.keyed import pick, uniform
from corl.rods.sampling.options import choose
from corl.rods.sampling.proof import barred
from corl.rods.sampling.ragged import is_in, order_by, starts
from corl.rods.sampling.shapes.pools import Candidates, make_pool
from corl.rods.sampling.shapes.rows import to_draws
from corl.rods.sampling.sources import Sources
from corl.rods.sampling.walk import hop, pick_end

STAGE = "exception"
NEAR, FAR = 16, 16  # outsiders looked at: some that share a feature with a member, some from anywhere
_STEPS = step_numbers(tuple(step for _, step in EXCEPTION_ASKED))
_KINDS = [kind for kind, _ in EXCEPTION_ASKED]


def draw_exception(sources: Sources, indices: Ints, langs: Ints) -> Draws:
    """Proven questions; fewer than indices where a draw proves nothing."""
    which = pick(sources.seed, "exception.relation", indices, np.full(len(indices), len(_KINDS)))
    rows, seeds = draw_seeds(sources, STAGE, indices, [_KINDS[at] for at in which.tolist()])
    indices, langs, asked = indices[rows], langs[rows], _STEPS[which[rows]]
    # A question about the members of a group starts from a member, so that rare members are asked about.
    group = pick_end(sources, f"{STAGE}.group", indices, seeds, back(asked))
    entities = np.where(asked % 2 == 1, group, seeds)
    rows = np.flatnonzero(entities >= 0)
    indices, langs, entities, asked = indices[rows], langs[rows], entities[rows], asked[rows]

    row, member = sources.solid.expand(entities, asked)
    good = ~sources.blunt[member]
    row, member = row[good], member[good]
    answers = _outsiders(sources, indices, entities, asked, row, member)
    good = (answers[row] >= 0) & (sources.graph.types[member] == sources.graph.types[answers[row]])
    good[good] = ~sources.related(member[good], answers[row[good]])
    row, member = row[good], member[good]
    found = Candidates(row, member, entities[row], np.ones_like(row))
    pool = make_pool(sources, STAGE, indices, found, np.zeros_like(row), np.zeros(row.size))
    done = np.flatnonzero((pool.nodes >= 0).sum(1) >= sources.settings.options - 1)
    indices, langs, entities, asked, answers = (part[done] for part in (indices, langs, entities, asked, answers))
    required = np.zeros(len(done), np.int64)
    chosen, valid = choose(sources, STAGE, indices, langs, answers, pool.take(done), required)
    draws = to_draws(
        "exception", indices, langs, entities, entities[:, None], np.full((len(done), 1), -1), answers, chosen,
        np.ones((len(done), 1), np.int64), asked=asked,
    )  # fmt: skip
    return draws.take(np.flatnonzero(valid))


def _outsiders(sources: Sources, indices: Ints, entities: Ints, asked: Ints, row: Ints, member: Ints) -> Ints:
    """[n] something that stands in the asked relation to another entity and not to this one; -1 where none is found.

    row, member: who stands in it to this one, sorted by row. Rare outsiders and close ones are preferred.
    """
    size, width = len(indices), NEAR + FAR
    keys = indices[:, None] * width + np.arange(width)
    shots = [uniform(sources.seed, "exception.walk", keys, slot) for slot in range(6)]
    count = np.bincount(row, minlength=size)
    first = np.searchsorted(row, np.arange(size))
    at = np.minimum(first[:, None] + (shots[0] * count[:, None]).astype(np.int64), max(row.size - 1, 0))
    start = np.where(count[:, None] > 0, member[at], -1) if row.size else np.full(keys.shape, -1, np.int64)
    steps = CLUE_STEPS[sources.graph.types[np.maximum(start, 0)]]
    feature_count = (steps >= 0).sum(2)
    step = np.take_along_axis(steps, (shots[1] * feature_count).astype(np.int64)[:, :, None], 2)[:, :, 0]
    node = hop(sources.solid, start, step, shots[2])
    near = hop(sources.solid, np.where(sources.blunt[np.maximum(node, 0)], -1, node), back(step), shots[3])
    _, far, there = sources.pick_edges(np.broadcast_to(asked[:, None], keys.shape), shots[4])
    outside = np.where(np.arange(width) < NEAR, near, np.where(there, far, -1))

    good = (outside >= 0) & (outside != entities[:, None])
    rows = np.nonzero(good)[0]
    nodes, close = outside[good], np.broadcast_to(np.arange(width) < NEAR, keys.shape)[good]
    fits = ~sources.blunt[nodes] & sources.graph.strong.has_step(nodes, back(asked[rows]))
    keys = barred(sources, np.arange(size), entities, asked, entities[:, None])
    types = _majority_type(sources, row, member, size)
    fits &= sources.graph.types[nodes] == types[rows]
    fits &= ~is_in(keys, rows * len(sources.graph) + nodes)
    rows, nodes, close = rows[fits], nodes[fits], close[fits]
    weights = np.where(close, 2.0, 1.0) / np.sqrt(sources.graph.degrees[nodes])
    clock = race(sources, "exception.outsider", indices[rows] * len(sources.graph) + nodes, weights)
    order = order_by(rows, clock)
    out = np.full(size, -1, np.int64)
    best = order[starts(rows[order])]
    out[rows[best]] = nodes[best]
    return out


def _majority_type(sources: Sources, row: Ints, member: Ints, size: int) -> Ints:
    """[n] the type that most members have, the first of equals; -1 where there are none."""
    kinds = int(sources.graph.types.max(initial=0)) + 1
    table = np.bincount(row * kinds + sources.graph.types[member], minlength=size * kinds).reshape(size, kinds)
    return np.where(table.sum(1) > 0, table.argmax(1), -1)
