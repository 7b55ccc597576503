"""From ragged candidates to a pool: each candidate once, with the best entity it is linked through."""

from dataclasses import dataclass, fields

import numpy as np

from corl.rods.graph import Ints
from corl.rods.sampling.evidence import Evidence
from corl.rods.sampling.keyed import uniform
from corl.rods.sampling.options import Pool
from corl.rods.sampling.ragged import POPCOUNT, order_by, pad, rank_within, row_or, starts
from corl.rods.sampling.sources import Bools, Floats, Sources

POOL = 32  # candidates a question chooses its wrong options from
SAME_MASK = 12  # entities with the same clues in common that are looked at


@dataclass(frozen=True, slots=True)
class Candidates:
    """Possible wrong options, flat: `node` stands in the asked relation to `via`, whose clue mask is `mask`."""

    row: Ints
    node: Ints
    via: Ints
    mask: Ints

    def take(self, keep: Bools | Ints) -> "Candidates":
        return Candidates(self.row[keep], self.node[keep], self.via[keep], self.mask[keep])

    @staticmethod
    def join(parts: "list[Candidates]") -> "Candidates":
        return Candidates(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Candidates)))


def thin(sources: Sources, stage: str, indices: Ints, evidence: Evidence) -> Evidence:
    """At most SAME_MASK entities of each question and mask, keyed."""
    shot = uniform(sources.seed, f"{stage}.thin", indices[evidence.row] * len(sources.graph) + evidence.entity)
    groups = evidence.row * 256 + evidence.mask
    order = order_by(groups, shot)
    kept = order[rank_within(groups[order]) < SAME_MASK]
    return evidence.take(np.sort(kept))


def make_pool(sources: Sources, stage: str, indices: Ints, found: Candidates, cover: Ints, closeness: Floats) -> Pool:
    """At most POOL candidates a question, taken in turns from every kind of `cover`.

    found, cover, closeness: flat, in any order; a candidate may come several times: its covers add up, its `via` is
    the closest one.
    """
    size = len(indices)
    shot = uniform(sources.seed, f"{stage}.via", indices[found.row] * len(sources.graph) + found.via)
    order = np.lexsort((shot, -closeness, found.node, found.row))
    found, cover, closeness = found.take(order), cover[order], closeness[order]
    pairs = found.row * len(sources.graph) + found.node
    first = starts(pairs)
    run = np.zeros(pairs.size, np.int64)
    run[first[1:]] = 1
    cover = row_or(np.cumsum(run), cover, first.size)
    found, closeness = found.take(first), closeness[first]

    shot = uniform(sources.seed, f"{stage}.pool", indices[found.row] * len(sources.graph) + found.node)
    groups = found.row * 256 + cover
    order = order_by(groups, shot)
    turn = np.empty(order.size, np.int64)
    turn[order] = rank_within(groups[order])
    order = order_by(found.row, np.minimum(turn + shot, 1023) / 1024)
    found, cover, closeness = found.take(order), cover[order], closeness[order]
    if not order.size:
        empty = np.full((size, POOL), -1, np.int64)
        return Pool(empty, empty, np.zeros_like(empty), np.zeros_like(empty), np.zeros(empty.shape))
    at, count = pad(found.row, size, POOL)
    there = np.arange(POOL) < count[:, None]
    return Pool(
        nodes=np.where(there, found.node[at], -1),
        via=np.where(there, found.via[at], -1),
        satisfied=np.where(there, found.mask[at], 0),
        cover=np.where(there, cover[at], 0),
        closeness=np.where(there, closeness[at], 0.0),
    )


def share_of(masks: Ints, full: Ints) -> Floats:
    """Share of the clues that a mask holds."""
    return POPCOUNT[masks & full] / np.maximum(POPCOUNT[full], 1)
