"""constraint: a drug that treats the entity and is not contraindicated in a second condition.

One wrong option always treats the entity and is contraindicated there: without the condition it would be right.
"""

import numpy as np

from corl.rods.graph import Ints, step_of
from corl.rods.sampling.draws import MAX_CLUES, Draws
from corl.rods.sampling.evidence import Clues, Evidence, draw_clues, draw_seeds, gather, race, remaining
from corl.rods.sampling.grammar import CLUE_STEPS
from corl.rods.sampling.keyed import uniform
from corl.rods.sampling.options import Pool, choose
from corl.rods.sampling.proof import may_have, select_clues
from corl.rods.sampling.ragged import order_by, starts
from corl.rods.sampling.shapes.pools import Candidates
from corl.rods.sampling.shapes.rows import to_draws
from corl.rods.sampling.shapes.tails import (
    FLAG,
    Tails,
    barred_of,
    checked,
    competitors,
    keeps_open,
    linked,
    pool_of,
    proofs_possible,
)
from corl.rods.sampling.sources import Bools, Sources
from corl.rods.sampling.walk import walkers, worth_proving

STAGE = "constraint"
TREATS, FORBIDDEN = step_of("treated_with_drug"), step_of("contraindicated_in")
MASKED = 0.6  # of the questions; the others name the entity
NEAR, FAR = 16, 8  # walks for wrong options where the entity is named


def draw_constraint(sources: Sources, indices: Ints, langs: Ints) -> Draws:
    """Proven questions; fewer than indices where a draw proves nothing."""
    rows, entities = draw_seeds(sources, STAGE, indices, ["disease"] * len(indices))
    indices, langs = indices[rows], langs[rows]
    forbidding, condition = _conditions(sources, indices, entities)
    answers = _answers(sources, indices, entities, forbidding, condition)
    going = worth_proving(sources, STAGE, indices, answers)
    masked = uniform(sources.seed, "constraint.masked", indices) < MASKED
    parts = []
    for wanted, find in ((masked, _masked), (~masked, _named)):
        at = np.flatnonzero(wanted & going)
        parts.append(find(sources, indices[at], langs[at], entities[at], answers[at], condition[at]))
    return Draws.join(parts)


def _conditions(sources: Sources, indices: Ints, entities: Ints) -> tuple[Ints, Ints]:
    """(a drug that treats the entity, a condition that forbids it), -1 where there is no such pair."""
    row, drug = sources.solid.expand(entities, TREATS)
    owner, condition = sources.solid.expand(drug, FORBIDDEN)
    row, drug = row[owner], drug[owner]
    good = ~sources.blunt[drug] & ~sources.blunt[condition] & ~sources.related(condition, entities[row])
    row, drug, condition = row[good], drug[good], condition[good]
    # On a huge graph this wraps around, which makes as good a key.
    keys = (indices[row] * len(sources.graph) + drug) * len(sources.graph) + condition
    order = order_by(row, uniform(sources.seed, "constraint.pair", keys))
    first = order[starts(row[order])]
    drugs, conditions = np.full(len(indices), -1, np.int64), np.full(len(indices), -1, np.int64)
    drugs[row[first]], conditions[row[first]] = drug[first], condition[first]
    return drugs, conditions


def _answers(sources: Sources, indices: Ints, entities: Ints, forbidding: Ints, condition: Ints) -> Ints:
    """A drug that treats the entity and that nothing forbids in the condition; -1 where there is none."""
    row, drug = sources.solid.expand(entities, TREATS)
    there = forbidding[row] >= 0
    row, drug = row[there], drug[there]
    good = ~sources.blunt[drug] & (sources.graph.types[drug] == sources.graph.types[forbidding[row]])
    good &= ~sources.related(drug, forbidding[row])
    row, drug = row[good], drug[good]
    allowed = ~may_have(sources, drug, np.full(drug.shape, FORBIDDEN), condition[row])
    row, drug = row[allowed], drug[allowed]
    order = order_by(
        row, race(sources, "constraint.answer", indices[row] * len(sources.graph) + drug, sources.appeal[drug])
    )
    first = order[starts(row[order])]
    out = np.full(len(indices), -1, np.int64)
    out[row[first]] = drug[first]
    return out


def _forbidden(sources: Sources, row: Ints, nodes: Ints, condition: Ints, *, strong: bool) -> Bools:
    adjacency = sources.solid if strong else sources.graph.any
    return adjacency.has(nodes, FORBIDDEN, condition[row])


def _treating_but_forbidden(sources: Sources, tails: Tails, condition: Ints) -> Candidates:
    """What treats the entity itself and is contraindicated in the condition."""
    row, drug = sources.solid.expand(tails.entities, TREATS)
    good = _forbidden(sources, row, drug, condition, strong=True) & ~sources.blunt[drug]
    good &= sources.graph.types[drug] == sources.graph.types[tails.answers[row]]
    good &= ~sources.related(drug, tails.answers[row])
    good &= (drug[:, None] != tails.clues.nodes[row]).all(1)
    row, drug = row[good], drug[good]
    return Candidates(row, drug, tails.entities[row], tails.clues.full[row])


def _masked(sources: Sources, indices: Ints, langs: Ints, entities: Ints, answers: Ints, condition: Ints) -> Draws:
    asked = np.full(len(indices), TREATS)
    # One wrong option is spoken for; each clue needs another one.
    most = max(min(sources.settings.max_clues, MAX_CLUES, sources.settings.options - 2), 2)
    every, named = np.full(len(indices), MAX_CLUES), np.stack([answers, condition], axis=1)
    drawn = draw_clues(sources, STAGE, indices, entities, every, barred=named, asked=asked)
    tails = Tails(indices, langs, entities, asked, answers, drawn, gather(sources, drawn))
    rivals = competitors(sources, tails)
    kept = select_clues(sources, STAGE, indices, drawn, rivals, np.full(len(indices), most))
    tails, condition = tails.with_clues(kept), condition[kept > 0]
    keys, small = barred_of(sources, tails)
    found = checked(sources, tails, linked(sources, STAGE, tails), keys)
    opens = keeps_open(found, tails.clues.full)
    opens = np.where(_forbidden(sources, found.row, found.node, condition, strong=False), 0, opens)
    pool = _with_forbidden(sources, tails, condition, found, opens)
    rows = np.flatnonzero(small)
    return _finish(sources, tails.take(rows), pool.take(rows), condition[rows], tails.clues.full[rows] | FLAG)


def _named(sources: Sources, indices: Ints, langs: Ints, entities: Ints, answers: Ints, condition: Ints) -> Draws:
    size = len(indices)
    asked = np.full(size, TREATS)
    clues = Clues(entities[:, None], np.full((size, 1), -1))
    alone = Evidence(np.arange(size), entities, np.ones(size, np.int64))
    tails = Tails(indices, langs, entities, asked, answers, clues, alone)
    keys, _ = barred_of(sources, tails)
    steps = CLUE_STEPS[sources.graph.types[entities]]
    shot = uniform(sources.seed, "constraint.feature", indices[:, None] * 32 + np.arange(NEAR + FAR))
    features = np.take_along_axis(steps, (shot * (steps >= 0).sum(1)[:, None]).astype(np.int64), 1)
    none = np.full((size, 0), -1, np.int64)
    via, node = walkers(sources, STAGE, indices, entities, features, none, asked, NEAR, FAR)
    there = (node >= 0) & (via != entities[:, None])
    row = np.nonzero(there)[0]
    found = checked(sources, tails, Candidates(row, node[there], via[there], np.zeros(row.size, np.int64)), keys)
    pool = _with_forbidden(sources, tails, condition, found, np.zeros(found.row.size, np.int64))
    return _finish(sources, tails, pool, condition, np.full(size, FLAG))


def _with_forbidden(sources: Sources, tails: Tails, condition: Ints, found: Candidates, opens: Ints) -> Pool:
    own = _treating_but_forbidden(sources, tails, condition)
    both = Candidates.join([own, found])
    cover = np.concatenate([np.full(own.row.size, FLAG), opens])
    return pool_of(sources, STAGE, tails, both, cover)


def _finish(sources: Sources, tails: Tails, pool: Pool, condition: Ints, required: Ints) -> Draws:
    done = np.flatnonzero(proofs_possible(pool, required, sources.settings.options))
    tails, pool, condition, required = tails.take(done), pool.take(done), condition[done], required[done]
    chosen, valid = choose(sources, STAGE, tails.indices, tails.langs, tails.answers, pool, required)
    draws = to_draws(
        "constraint", tails.indices, tails.langs, tails.entities, tails.clues.nodes, tails.clues.steps, tails.answers,
        chosen, remaining(tails.clues, tails.evidence), asked=tails.asked,
        excluded_step=np.full(len(done), FORBIDDEN), excluded_node=condition,
    )  # fmt: skip
    return draws.take(np.flatnonzero(valid))
