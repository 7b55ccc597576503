"""Settings of `corl rods sample`; the defaults are ours, the paper names none of these numbers."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Shapes:
    """Shares of the question shapes among the draws; what a graph cannot give goes to the others."""

    chain: float = 0.1
    star: float = 0.25
    star_tail: float = 0.3
    compare: float = 0.1
    exception: float = 0.1
    constraint: float = 0.15


@dataclass(frozen=True, slots=True)
class Difficulty:
    """Score in [0, 1] = weighted parts, each in [0, 1]; fixed cut points, so that tiers mean the same in every run."""

    hops: float = 0.30
    masked: float = 0.15
    rarity: float = 0.25
    closeness: float = 0.20  # of the best distractor
    obscurity: float = 0.10  # 1 - the most telling clue
    moderate_from: float = 0.35
    difficult_from: float = 0.60


@dataclass(frozen=True, slots=True)
class RodsSample:
    options: int = 4
    max_clues: int = 4
    rare_share: float = 0.5  # at least this share of the answers is rare
    answer_share: float = 0.02  # no answer in more than this share of the items
    rarity_weight: float = 0.7  # of a seed's weight; the rest is uniform
    hub_quantile: float = 0.999  # nodes of a higher degree are never passed through
    clue_degree: int = 2000  # a clue that more entities than this share says too little
    shapes: Shapes = field(default_factory=Shapes)
    difficulty: Difficulty = field(default_factory=Difficulty)
