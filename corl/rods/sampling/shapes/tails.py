"""What star_tail, compare and constraint have in common: clues hide an entity, something that belongs to it is asked.

An option is right when it stands in the asked relation to any entity that satisfies the clues. A wrong one stands in
it to a competitor, an entity that fails a clue.
"""

from dataclasses import dataclass, replace

import numpy as np

from corl.rods.graph import Ints
from corl.rods.sampling.evidence import Clues, Evidence, compact, complete, violates
from corl.rods.sampling.keyed import uniform
from corl.rods.sampling.options import Pool
from corl.rods.sampling.proof import MOST_ENTITIES, acceptable, barred
from corl.rods.sampling.shapes.pools import Candidates, make_pool, share_of, thin
from corl.rods.sampling.sources import Bools, Floats, Sources

TOP_UP = 8  # candidates from anywhere in the asked relation, so that a rare answer has rare company
FLAG = 1 << 5  # cover bit of the option that the shape itself asks for, behind the five clues


@dataclass(frozen=True, slots=True)
class Tails:
    """A block of questions whose wrong options are still to be found."""

    indices: Ints
    langs: Ints
    entities: Ints
    asked: Ints
    answers: Ints
    clues: Clues
    evidence: Evidence

    def take(self, rows: Ints) -> "Tails":
        """These rows, renumbered; `rows` ascending."""
        number = np.full(len(self.indices), -1, np.int64)
        number[rows] = np.arange(len(rows))
        kept = self.evidence.take(number[self.evidence.row] >= 0)
        return replace(
            self,
            indices=self.indices[rows],
            langs=self.langs[rows],
            entities=self.entities[rows],
            asked=self.asked[rows],
            answers=self.answers[rows],
            clues=self.clues.take(rows),
            evidence=replace(kept, row=number[kept.row]),
        )

    def with_clues(self, kept: Ints) -> "Tails":
        """With the clues of the mask `kept` [n] only; rows of an empty mask go."""
        clues, evidence = compact(self.clues, kept, self.evidence)
        return replace(self, clues=clues, evidence=evidence).take(np.flatnonzero(kept))


def competitors(sources: Sources, tails: Tails) -> Evidence:
    """Entities of the hidden one's type that have something in the asked relation and may be passed through."""
    row, entity = tails.evidence.row, tails.evidence.entity
    fits = sources.graph.types[entity] == sources.graph.types[tails.entities[row]]
    fits &= ~sources.hubs[entity] & sources.solid.has_step(entity, tails.asked[row])
    return tails.evidence.take(fits)


def barred_of(sources: Sources, tails: Tails) -> tuple[Ints, Bools]:
    """(keys that can be no wrong option, [n] whether few enough entities satisfy the clues to tell)."""
    full = tails.clues.full
    small = complete(tails.evidence, full, len(full)) <= MOST_ENTITIES
    holds = (tails.evidence.mask == full[tails.evidence.row]) & small[tails.evidence.row]
    keys = barred(sources, tails.evidence.row[holds], tails.evidence.entity[holds], tails.asked, tails.clues.nodes)
    return keys, small


def linked(sources: Sources, stage: str, tails: Tails) -> Candidates:
    """Answers to the same question about competitors, and some about entities from anywhere; not yet checked."""
    full = tails.clues.full
    rivals = competitors(sources, tails)
    rivals = thin(sources, stage, tails.indices, rivals.take(rivals.mask != full[rivals.row]))
    rivals = rivals.take(violates(sources, tails.clues, rivals) > 0)
    owner, nodes = sources.solid.expand(rivals.entity, tails.asked[rivals.row])
    near = Candidates(rivals.row[owner], nodes, rivals.entity[owner], rivals.mask[owner])
    far = _from_anywhere(sources, stage, tails)
    return Candidates.join([near, far])


def checked(sources: Sources, tails: Tails, found: Candidates, keys: Ints) -> Candidates:
    """Those that can be wrong options."""
    return found.take(acceptable(sources, found.row, found.node, tails.answers, keys))


def keeps_open(found: Candidates, full: Ints, unless: Ints | None = None) -> Ints:
    """The clue without which the candidate would be right, as a bit; 0 where its `via` fails more than one.

    unless [n]: an entity that the question itself sets apart, so that it is no answer whatever the clues.
    """
    gap = full[found.row] ^ found.mask
    bit = np.where((gap & (gap - 1)) == 0, gap, 0)
    return bit if unless is None else np.where(found.via == unless[found.row], 0, bit)


def pool_of(
    sources: Sources, stage: str, tails: Tails, found: Candidates, cover: Ints, bonus: Floats | float = 0.0
) -> Pool:
    closeness = np.minimum(share_of(found.mask, tails.clues.full[found.row]) + bonus, 1.0)
    return make_pool(sources, stage, tails.indices, found, cover, closeness)


def proofs_possible(pool: Pool, required: Ints, options: int) -> Bools:
    """[n] whether the pool can give every required bit and enough options."""
    covers = np.bitwise_or.reduce(pool.cover, axis=1) & required == required
    return covers & ((pool.nodes >= 0).sum(1) >= options - 1)


def _from_anywhere(sources: Sources, stage: str, tails: Tails) -> Candidates:
    """TOP_UP edges of the asked step from the whole graph, with the clue masks of their entities."""
    size = len(tails.indices)
    keys = tails.indices[:, None] * TOP_UP + np.arange(TOP_UP)
    steps = np.broadcast_to(tails.asked[:, None], keys.shape)
    via, nodes, there = sources.pick_edges(steps, uniform(sources.seed, f"{stage}.far", keys))
    there &= sources.graph.types[via] == sources.graph.types[tails.entities][:, None]
    there &= (sources.graph.types[nodes] == sources.graph.types[tails.answers][:, None]) & ~sources.hubs[via]
    row = np.repeat(np.arange(size), TOP_UP)[there.ravel()]
    via, nodes = via[there], nodes[there]
    mask = np.zeros_like(via)
    for slot in range(tails.clues.nodes.shape[1]):
        at = np.flatnonzero(tails.clues.nodes[row, slot] >= 0)
        wanted, step = tails.clues.nodes[row[at], slot], tails.clues.steps[row[at], slot]
        mask[at] |= sources.graph.any.has(via[at], step, wanted).astype(np.int64) << slot
    wrong = Evidence(row, via, mask)
    fails = violates(sources, tails.clues, wrong) > 0
    return Candidates(row[fails], nodes[fails], via[fails], mask[fails])
