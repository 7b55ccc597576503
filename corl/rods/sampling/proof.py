"""What makes one option right and the others wrong, for a block of questions at once.

Right answers are kept as sorted keys row * N + node, over strong and weak edges of the whole graph.
"""

import numpy as np

from corl.rods.graph import Ints
from corl.rods.sampling.draws import MAX_CLUES
from corl.rods.sampling.evidence import Clues, Evidence
from corl.rods.sampling.grammar import kin_step
from corl.rods.sampling.keyed import uniform
from corl.rods.sampling.ragged import POPCOUNT, distinct, is_in
from corl.rods.sampling.sources import KINDRED_STEP, Bools, Sources

MASKS = 1 << MAX_CLUES
MOST_ENTITIES = 400  # that may satisfy the clues of one question; more would make it a question about everything


_SETS = [mask for mask in range(MASKS) if POPCOUNT[mask] >= 2]  # of clues


def select_clues(
    sources: Sources,
    stage: str,
    indices: Ints,
    clues: Clues,
    rivals: Evidence,
    count: Ints,
    *,
    spare: int = 0,
    alone: bool = False,
) -> Ints:
    """[n] the mask of `count` [n] of the clues, or of fewer down to two, each of them needed; 0 where there is none.

    Needed: some rival satisfies all the others and not this one. `spare` more rivals than that must be there;
    `alone`: one of them must satisfy the whole set, and no other one. Among the sets of one size a keyed one is taken.
    """
    size, full = len(indices), clues.full
    present = np.bincount(rivals.row * MASKS + rivals.mask, minlength=size * MASKS).reshape(size, MASKS)
    holders = _at_least(present)  # [n, set]
    kept = np.zeros(size, np.int64)
    best = np.zeros(size)
    for mask in _SETS:
        without = [mask & ~(1 << slot) for slot in range(MAX_CLUES) if mask >> slot & 1]
        shut_out = holders[:, without] - holders[:, [mask]]
        good = (full & mask == mask) & (POPCOUNT[mask] <= count)
        good &= (shut_out > 0).all(1) & (shut_out.sum(1) >= POPCOUNT[mask] + spare)
        if alone:
            good &= holders[:, mask] == 1
        # Larger sets stand above smaller ones, whatever their number.
        score = np.where(good, POPCOUNT[mask] + uniform(sources.seed, f"{stage}.set", indices, mask), 0.0)
        kept, best = np.where(score > best, mask, kept), np.maximum(score, best)
    return kept


def _at_least(present: Ints) -> Ints:
    """[n, MASKS] how many hold all of a mask, from how many hold exactly it: sums over supersets, a bit at a time.

    As a matrix product with a table it doubled what drawing costs: numpy starts a thread a core for one, and these wait
    by turning round, beside a worker a core.
    """
    held = present.copy()
    for slot in range(MAX_CLUES):
        halves = held.reshape(len(held), MASKS >> slot + 1, 2, 1 << slot)
        halves[:, :, 0] += halves[:, :, 1]
    return held


def with_relatives(sources: Sources, rows: Ints, nodes: Ints) -> tuple[Ints, Ints]:
    """(row, node) of the nodes and of all that may be taken for them, each once, sorted."""
    owner, kindred = sources.relatives.expand(nodes, KINDRED_STEP)
    size = len(sources.graph)
    keys = distinct(np.concatenate([rows * size + nodes, rows[owner] * size + kindred]))
    return keys // size, keys % size


def may_have(sources: Sources, nodes: Ints, steps: Ints, targets: Ints) -> Bools:
    """Whether a careful reader might say so: the node, or what may be taken for it, has the target, or what may be
    taken for that, under the step or a kindred one, strongly or weakly."""
    pair, kindred = with_relatives(sources, np.arange(nodes.size), nodes)
    owner, ends = sources.kin.expand(kindred, kin_step(steps[pair]))
    pair = pair[owner]
    out = np.zeros(nodes.size, bool)
    out[pair[sources.related(ends, targets[pair])]] = True
    return out


def barred(sources: Sources, rows: Ints, entities: Ints, asked: Ints, clue_nodes: Ints) -> Ints:
    """Keys of all that can be no wrong option, sorted.

    rows, entities: who satisfies the clues; asked [n]; clue_nodes [n, K]. Barred is what stands in the asked or a
    kindred relation to such an entity or to a relative of it, relatives of that, the entities, the clues.
    """
    size = len(sources.graph)
    rows, entities = with_relatives(sources, rows, entities)
    owner, answers = sources.kin.expand(entities, kin_step(asked[rows]))
    answer_rows, answers = with_relatives(sources, rows[owner], answers)
    clue_rows, slots = np.nonzero(clue_nodes >= 0)
    parts = (
        rows * size + entities,
        answer_rows * size + answers,
        clue_rows * size + clue_nodes[clue_rows, slots],
    )
    return distinct(np.concatenate(parts))


def acceptable(sources: Sources, rows: Ints, nodes: Ints, answers: Ints, barred_keys: Ints) -> Bools:
    """Whether each (row, node) can be a wrong option: of the answer's type, not generic, no hub, not barred."""
    fits = (sources.graph.types[nodes] == sources.graph.types[answers[rows]]) & ~sources.blunt[nodes]
    at = np.flatnonzero(fits)
    fits[at] = ~is_in(barred_keys, rows[at] * len(sources.graph) + nodes[at])
    return fits


def reach(sources: Sources, clue: Ints, steps: Ints) -> tuple[Ints, Ints, Bools]:
    """Everything at the end of each clue's path on strong and weak edges: (row, entity) sorted, and [n] whether a row
    stayed within MOST_ENTITIES; the others have no entities.

    clue [n]; steps [n, P] from the clue on, -1 where the path has ended.
    """
    size = len(sources.graph)
    rows, nodes = np.arange(len(clue)), clue
    small = np.ones(len(clue), bool)
    for place in range(steps.shape[1]):
        step = steps[rows, place]
        goes = step >= 0
        count = np.where(goes, sources.graph.any.slices(nodes, np.maximum(step, 0))[1], 1)
        small &= np.bincount(rows, weights=count, minlength=len(clue)) <= 4 * MOST_ENTITIES
        keep = small[rows]
        rows, nodes, step, goes = rows[keep], nodes[keep], step[keep], goes[keep]
        owner, ends = sources.graph.any.expand(nodes[goes], step[goes])
        keys = distinct(np.concatenate([rows[goes][owner] * size + ends, rows[~goes] * size + nodes[~goes]]))
        rows, nodes = keys // size, keys % size
        small &= np.bincount(rows, minlength=len(clue)) <= MOST_ENTITIES
        keep = small[rows]
        rows, nodes = rows[keep], nodes[keep]
    return rows, nodes, small
