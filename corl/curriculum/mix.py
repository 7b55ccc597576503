"""Draw the prompts of a step: two sides of the pool at a ratio, least drawn first, ties by a keyed hash."""

from dataclasses import dataclass

import numpy as np

from corl.config import Mix
from corl.curriculum.pool import Pool, Side


@dataclass(frozen=True, slots=True)
class Draw:
    """indices: of the pool, in drawing order. wanted and got: prompts per side. sizes: items per side."""

    indices: list[int]
    wanted: dict[str, int]
    got: dict[str, int]
    sizes: dict[str, int]

    @property
    def degraded(self) -> bool:
        return self.wanted != self.got


def sides(pool: Pool, mix: Mix) -> list[Side]:
    """The sides of `mix` as the pool stands now; an item may be on no side.

    An item that no policy has attempted is not lost: mined counts it as wrong, drop_never_passed keeps it.
    """
    tier = np.array([t or "" for t in pool.tier])
    if mix.by == "difficulty":
        hard, simple = np.isin(tier, mix.hard_tiers), tier == "easy"
        return [Side("hard", mix.hard, np.flatnonzero(hard)), Side("simple", mix.simple, np.flatnonzero(simple))]
    rates = pool.pass_rates()
    admitted = pool.ever_passed() | np.isnan(rates) if mix.drop_never_passed else np.ones(len(pool.ids), bool)
    if mix.by == "uniform":
        return [Side("all", 1.0, np.flatnonzero(admitted))]
    wrong = np.isnan(rates) | (rates < mix.wrong_below)
    return [
        Side("right", mix.right, np.flatnonzero(admitted & ~wrong)),
        Side("wrong", mix.wrong, np.flatnonzero(admitted & wrong)),
    ]


def draw(pool: Pool, mix: Mix, count: int, *, seed: int, step: int, excluded: frozenset[int] = frozenset()) -> Draw:
    """`count` distinct items at the mix's ratio; a pure function of the pool, the mix, (seed, step) and `excluded`.

    When a side has too few items the other side fills in: the ratio degrades and the Draw tells. The fraction of a
    prompt that a ratio leaves over goes to a side by a keyed coin, so that the ratio holds over the steps.
    Adds 1 to `pool.draws` of every item drawn. Raises ValueError when there is nothing to draw and nothing `excluded`.
    """
    rng = np.random.Generator(np.random.Philox(key=[seed, step]))
    all_sides = sides(pool, mix)
    queues = []
    for side in all_sides:
        members = side.members[~np.isin(side.members, list(excluded))] if excluded else side.members
        ties = rng.random(len(pool.ids))[members]
        queues.append(members[np.lexsort((ties, pool.draws[members]))].tolist())
    if not any(queues) and not excluded:
        raise ValueError(
            f"no prompt to draw: no item of {len(pool.ids)} is on any side of the mix (by: {mix.by}); "
            "name more mix.hard_tiers, unset mix.drop_never_passed or take mix.by: uniform"
        )
    wanted = _quotas([side.share for side in all_sides], count, rng.random())
    taken = [queue[:want] for queue, want in zip(queues, wanted, strict=True)]
    for k, queue in enumerate(queues):
        missing = count - sum(map(len, taken))
        taken[k] = queue[: len(taken[k]) + missing]
    indices = [i for side in taken for i in side]
    pool.draws[indices] += 1
    names = [side.name for side in all_sides]
    return Draw(
        indices,
        wanted=dict(zip(names, wanted, strict=True)),
        got=dict(zip(names, map(len, taken), strict=True)),
        sizes={side.name: len(side.members) for side in all_sides},
    )


def _quotas(shares: list[float], count: int, coin: float) -> list[int]:
    """Whole prompts per side: the floor of each exact share, the rest to the sides whose fraction covers the coin."""
    exact = [count * share / sum(shares) for share in shares]
    edges = np.floor(np.cumsum([0.0, *exact]) + coin + 1e-9).astype(int)
    return np.diff(edges).tolist()
