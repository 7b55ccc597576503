"""Steps through the graph by keyed picks: answers, paths, and the walks that find wrong options for them."""

import numpy as np

from corl.rods.graph import Adjacency, Ints
from corl.rods.sampling.evidence import race
from corl.rods.sampling.grammar import back
from corl.rods.sampling.keyed import uniform
from corl.rods.sampling.ragged import order_by, starts
from corl.rods.sampling.sources import Bools, Floats, Sources


def pick_step(sources: Sources, stage: str, indices: Ints, nodes: Ints, steps: Ints) -> Ints:
    """One of `steps` [n, S] (-1: none) that the node has a solid edge of, all as likely; -1 where it has none."""
    there = sources.solid.has_step(nodes[:, None], steps)
    count = there.sum(1)
    at = (uniform(sources.seed, f"{stage}.step", indices) * count).astype(np.int64)
    order = np.argsort(~there, axis=1, kind="stable")
    chosen = steps[np.arange(len(nodes)), order[np.arange(len(nodes)), at]] if len(nodes) else count
    return np.where(count > 0, chosen, -1)


def pick_end(sources: Sources, stage: str, indices: Ints, nodes: Ints, steps: Ints) -> Ints:
    """A target of each node's step on solid edges, neither hub nor generic; rare ones and ones of few edges are
    preferred. -1 where there is none."""
    rows = np.flatnonzero((nodes >= 0) & (steps >= 0))
    owner, targets = sources.solid.expand(nodes[rows], steps[rows])
    row = rows[owner]
    good = ~sources.blunt[targets]
    row, targets = row[good], targets[good]
    clock = race(sources, f"{stage}.end", indices[row] * len(sources.graph) + targets, sources.appeal[targets])
    order = order_by(row, clock)
    row, targets = row[order], targets[order]
    out = np.full(len(indices), -1, np.int64)
    first = starts(row)
    out[row[first]] = targets[first]
    return out


def worth_proving(sources: Sources, stage: str, indices: Ints, answers: Ints) -> Bools:
    """[n] whether there is an answer and the draw goes on with it: always with a rare one, by its key with another.

    At least `rare_share` of the file's answers are rare, fewer of what is drawn: with the default of one half two in
    five of the common ones go at once, before the work of a proof that the file has no room for.
    """
    kept = uniform(sources.seed, f"{stage}.worth", indices) >= 0.8 * sources.settings.rare_share
    return (answers >= 0) & (sources.rare[answers] | kept)


def hop(adjacency: Adjacency, nodes: Ints, steps: Ints, shot: Floats) -> Ints:
    """A target of each node's step; -1 where node or step is -1 or there is none. Any shape."""
    start, count = adjacency.slices(np.maximum(nodes, 0), np.maximum(steps, 0))
    there = (nodes >= 0) & (steps >= 0) & (count > 0)
    if not adjacency.targets.size:
        return np.full(nodes.shape, -1, np.int64)
    at = np.minimum(start + (shot * count).astype(np.int64), adjacency.targets.size - 1)
    return np.where(there, adjacency.targets[at], -1)


def walkers(
    sources: Sources,
    stage: str,
    indices: Ints,
    origin: Ints,
    starts_at: Ints,
    middle: Ints,
    asked: Ints,
    near: int,
    far: int,
) -> tuple[Ints, Ints]:
    """Answers to the same question about other entities: (entity the answer is linked through, answer), [n, W] each,
    -1 where a walk got lost.

    origin [n] an entity near the clue; starts_at [n, W] or [n, 1] steps from it to features; middle [n, P] steps from
    there on to the entity the question asks about (-1 fill); asked [n]. The first `near` walks go from the origin over
    one of its features to another holder of it, the `far` others start at an edge of that step anywhere; none passes a
    hub.
    """
    width = near + far
    keys = indices[:, None] * width + np.arange(width)
    shots = [uniform(sources.seed, f"{stage}.walk", keys, slot) for slot in range(4 + middle.shape[1])]
    feature_step = np.broadcast_to(starts_at, (len(indices), width))
    feature = hop(
        sources.solid,
        np.broadcast_to(origin[:, None], keys.shape)[:, :near],
        feature_step[:, :near],
        shots[0][:, :near],
    )
    holder = hop(sources.solid, feature, back(feature_step[:, :near]), shots[1][:, :near])
    anywhere, _, there = sources.pick_edges(feature_step[:, near:], shots[2][:, near:])
    at = np.concatenate([holder, np.where(there, anywhere, -1)], axis=1)
    at = np.where(sources.hubs[np.maximum(at, 0)], -1, at)
    for place in range(middle.shape[1]):
        step = np.broadcast_to(middle[:, place : place + 1], keys.shape)
        at = np.where(step >= 0, hop(sources.solid, at, step, shots[4 + place]), at)
        at = np.where(sources.hubs[np.maximum(at, 0)], -1, at)
    answer = hop(sources.solid, at, np.broadcast_to(asked[:, None], keys.shape), shots[3])
    return np.where(answer >= 0, at, -1), answer
