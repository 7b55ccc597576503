"""Question shapes: each draws a block of indices and returns the questions it can prove."""

from collections.abc import Callable

from corl.rods.graph import Ints
from corl.rods.sampling.draws import Draws
from corl.rods.sampling.shapes.chain import draw_chain
from corl.rods.sampling.shapes.compare import draw_compare
from corl.rods.sampling.shapes.constraint import draw_constraint
from corl.rods.sampling.shapes.exception import draw_exception
from corl.rods.sampling.shapes.star import draw_star
from corl.rods.sampling.shapes.star_tail import draw_star_tail
from corl.rods.sampling.sources import Sources

DRAW: dict[str, Callable[[Sources, Ints, Ints], Draws]] = {
    "chain": draw_chain,
    "star": draw_star,
    "star_tail": draw_star_tail,
    "compare": draw_compare,
    "exception": draw_exception,
    "constraint": draw_constraint,
}
BLOCK = 1024  # questions at once: what they share clues with stays in some hundred megabytes


def draw_questions(sources: Sources, shape: str, indices: Ints, langs: Ints) -> Draws:
    """The questions of a shape that can be proven, ascending by index; rows whose draw proves nothing are not there.

    indices ascending; langs 0 en, 1 zh. A row is a function of graph, settings, seed, its index and its lang.
    """
    find = DRAW[shape]
    at = range(0, max(len(indices), 1), BLOCK)
    return Draws.join([find(sources, indices[i : i + BLOCK], langs[i : i + BLOCK]) for i in at])
