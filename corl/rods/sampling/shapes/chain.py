"""chain: from one named thing along two to four steps to the answer."""

from dataclasses import dataclass, fields

import numpy as np

from corl.rods.graph import Ints
from corl.rods.sampling.draws import Draws
from corl.rods.sampling.evidence import draw_seeds
from corl.rods.sampling.grammar import CHAINS, Step, back, step_numbers
from corl.rods.sampling.keyed import pick, uniform
from corl.rods.sampling.options import choose
from corl.rods.sampling.proof import acceptable, barred, reach
from corl.rods.sampling.shapes.pools import Candidates, make_pool
from corl.rods.sampling.shapes.rows import to_draws
from corl.rods.sampling.sources import Bools, Floats, Sources
from corl.rods.sampling.walk import pick_end, pick_step, walkers, worth_proving

STAGE = "chain"
HOPS = ((2, 0.25), (3, 0.4), (4, 0.35))
NEAR, FAR = 24, 8  # walks for wrong options


def _table(parts: list[tuple[Step, ...]]) -> Ints:
    """[patterns, most steps] step numbers, -1 behind the last."""
    out = np.full((len(parts), max(map(len, parts))), -1, np.int64)
    for at, steps in enumerate(parts):
        out[at, : len(steps)] = step_numbers(steps)
    return out


_STARTS, _MIDDLES, _ASKED = (_table(parts) for parts in zip(*(chain[1:] for chain in CHAINS), strict=True))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Paths:
    """clue <- start - seed - middle -> entity - asked -> answer, on solid edges, no node twice."""

    indices: Ints
    langs: Ints
    seeds: Ints
    start: Ints  # the step from the seed to the clue
    clue: Ints
    middle: Ints  # [n, P] the steps from the seed to the entity
    entities: Ints
    asked: Ints
    answers: Ints

    def take(self, rows: Ints | Bools) -> "Paths":
        return Paths(*(getattr(self, field.name)[rows] for field in fields(self)))


def draw_chain(sources: Sources, indices: Ints, langs: Ints) -> Draws:
    """Proven questions; fewer than indices where a draw proves nothing."""
    paths = _draw_paths(sources, indices, langs)
    onward = np.concatenate([back(paths.start)[:, None], paths.middle], axis=1)  # from the clue to the entity
    rows, holders, small = reach(sources, paths.clue, onward)
    found, close = _wrong_options(sources, paths, rows, holders)
    pool = make_pool(sources, STAGE, paths.indices, found, np.zeros_like(found.row), close * 0.5)
    count = np.bincount(rows, minlength=len(onward))
    done = np.flatnonzero(small & ((pool.nodes >= 0).sum(1) >= sources.settings.options - 1))
    paths, required = paths.take(done), np.zeros(len(done), np.int64)
    chosen, valid = choose(sources, STAGE, paths.indices, paths.langs, paths.answers, pool.take(done), required)
    draws = to_draws(
        "chain", paths.indices, paths.langs, paths.entities, paths.clue[:, None], _path(onward[done]), paths.answers,
        chosen, count[done][:, None], asked=paths.asked,
    )  # fmt: skip
    return draws.take(np.flatnonzero(valid))


def _draw_paths(sources: Sources, indices: Ints, langs: Ints) -> Paths:
    which = _pattern(sources, indices)
    rows, seeds = draw_seeds(sources, STAGE, indices, [CHAINS[at][0] for at in which.tolist()])
    indices, langs, which = indices[rows], langs[rows], which[rows]
    start = pick_step(sources, "chain.start", indices, seeds, _STARTS[which])
    clue = pick_end(sources, "chain.clue", indices, seeds, start)
    at, middle = seeds, _MIDDLES[which]
    alive = (clue >= 0) & (sources.graph.degrees[np.maximum(clue, 0)] <= sources.settings.clue_degree)
    for place in range(middle.shape[1]):
        goes = middle[:, place] >= 0
        there = pick_end(sources, f"chain.{place}", indices, np.where(alive, at, -1), middle[:, place])
        alive &= ~goes | ((there >= 0) & (there != clue) & (there != seeds) & (there != at))
        at = np.where(goes & alive, there, at)
    asked = pick_step(sources, "chain.asked", indices, at, _ASKED[which])
    # Along the step that the clue came by: another answer of the clue's kind, which the clue says nothing about.
    alive &= (asked >= 0) & ~((middle < 0).all(1) & (asked == start))
    answers = pick_end(sources, "chain.answer", indices, np.where(alive, at, -1), asked)
    alive &= worth_proving(sources, STAGE, indices, answers) & (answers != clue) & (answers != seeds) & (answers != at)
    return Paths(indices, langs, seeds, start, clue, middle, at, asked, answers).take(alive)


def _wrong_options(sources: Sources, paths: Paths, rows: Ints, holders: Ints) -> tuple[Candidates, Floats]:
    """What stands in the asked relation to an entity off the path, and whether that one is close.

    rows, holders: the entities that the clue leads to. The others are reached by the same steps from another clue, so
    the graph knows clues of their kind.
    """
    keys = barred(sources, rows, holders, paths.asked, np.stack([paths.clue, paths.seeds], axis=1))
    via, node = walkers(
        sources, STAGE, paths.indices, paths.seeds, paths.start[:, None], paths.middle, paths.asked, NEAR, FAR
    )
    there = node >= 0
    row = np.nonzero(there)[0]
    close = np.broadcast_to(np.arange(NEAR + FAR) < NEAR, there.shape)[there].astype(np.float64)
    found = Candidates(row, node[there], via[there], np.zeros_like(row))
    good = acceptable(sources, row, found.node, paths.answers, keys)
    good &= sources.graph.types[found.via] == sources.graph.types[paths.entities[row]]
    return found.take(good), close[good]


def _path(onward: Ints) -> Ints:
    """[n, 1, P] the steps from x to the clue, of those from the clue to x."""
    length = (onward >= 0).sum(1)
    place = length[:, None] - 1 - np.arange(onward.shape[1])
    turned = np.take_along_axis(back(onward), np.maximum(place, 0), 1)
    return np.where(place >= 0, turned, -1)[:, None, :]


def _pattern(sources: Sources, indices: Ints) -> Ints:
    """[n] the pattern of each question: first how many steps, then one of that length."""
    bounds = np.cumsum([share for _, share in HOPS])
    shot = uniform(sources.seed, "chain.hops", indices)
    hops = np.array([steps for steps, _ in HOPS])[np.searchsorted(bounds, shot * bounds[-1], side="right")]
    out = np.zeros(len(indices), np.int64)
    for steps, _ in HOPS:
        choices = np.array([at for at, chain in enumerate(CHAINS) if len(chain[2]) + 2 == steps])
        rows = np.flatnonzero(hops == steps)
        out[rows] = choices[pick(sources.seed, "chain.pattern", indices[rows], np.full(rows.size, choices.size))]
    return out
