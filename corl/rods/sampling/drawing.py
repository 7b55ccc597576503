"""The work of one block: draw, prove, and drop what cannot stand; and of one batch of chosen ones: words and lines."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from corl.config.rods import Shapes
from corl.rods.graph import Ints
from corl.rods.sampling.draws import SHAPES, Draws
from corl.rods.sampling.keyed import pick, uniform
from corl.rods.sampling.leak import Leaks
from corl.rods.sampling.naming import OptionNames
from corl.rods.sampling.options import gold_ranks
from corl.rods.sampling.rarity import Bools, Floats
from corl.rods.sampling.records import Batch, Records
from corl.rods.sampling.selection import Candidates, readings, same_question
from corl.rods.sampling.shapes import draw_questions
from corl.rods.sampling.sources import Sources
from corl.rods.sampling.wording import Wording

TURNS = 8  # phrasings tried before a question's own words are said to give its answer away
# Why a proven question cannot stand, in the order it is looked at.
REASONS = ("no_chinese_name", "ambiguous_name", "leak")


@dataclass(frozen=True, slots=True)
class Block:
    """The questions of one block that may be chosen; `lost` counts the draws that gave none, by reason."""

    draws: Draws
    candidates: Candidates
    lost: Counter[str]

    def without(self, unfit: Mapping[int, str]) -> "Block":
        """The block as if the draws of these indices had been lost for these reasons."""
        met = np.isin(self.draws.index, list(unfit))
        lost = self.lost + Counter(unfit[index] for index in self.draws.index[met].tolist())
        rows = np.flatnonzero(~met)
        return Block(self.draws.take(rows), self.candidates.take(rows), lost)


@dataclass(frozen=True, slots=True)
class Finished:
    """The lines of a batch, the index of each one's draw, its question, and what the manifest counts.

    leaking   indices of questions whose own words give the answer away however they are put
    """

    lines: list[bytes]
    indices: list[int]
    questions: list[str]
    leaking: list[int]
    counts: dict[str, Counter[str]]


class Drawing:
    """All that drawing needs, made once and held by every worker. `lang` is en, zh or both."""

    def __init__(self, sources: Sources, lang: str, rare: Bools, rarity: Floats) -> None:
        graph = sources.graph
        self.sources, self.lang, self.rare = sources, lang, rare
        self._names = OptionNames(graph)
        self._leaks = Leaks(graph)
        self._wording = Wording(graph, sources.seed)
        self._records = Records(graph, sources.settings, sources.seed, rare, rarity, self._names.texts)

    def block(self, indices: Ints) -> Block:
        """What these indices give: each a question or none, whatever block it is drawn in."""
        proven = self._draw(indices)
        named, chinese = self._names.worded(proven)
        reasons = np.select([~chinese, ~named, self._leaks.leaking(proven)], [1, 2, 3], 0)
        # Common answers that nobody tried to prove are among them, see walk.worth_proving.
        lost = Counter({"not_proven": len(indices) - len(proven)})
        lost.update({name: int((reasons == number).sum()) for number, name in enumerate(REASONS, 1)})
        draws = proven.take(np.flatnonzero(reasons == 0))
        candidates = Candidates(
            same=same_question(draws),
            reading=readings(draws, self._names.namesake),
            answer=draws.answer,
            rare=self.rare[draws.answer],
            ranks=gold_ranks(self.sources, draws).astype(np.int64),
            leans=gold_leans(self.sources, draws),
        )
        return Block(draws, candidates, lost)

    def finish(self, draws: Draws, letters: Ints) -> Finished:
        """Chosen questions worded and written down; only these, since words cost as much as a draw."""
        indices, leaking = draws.index.tolist(), []
        questions = []
        for row, answer in enumerate(draws.answer.tolist()):
            worded = (self._wording.question(draws, row, turn) for turn in range(TURNS))
            told = next((text for text in worded if not self._leaks.in_text(text, answer)), "")
            questions.append(told)
            leaking += [] if told else [indices[row]]
        lines, counts = self._records.lines(Batch(draws, questions, letters))
        return Finished(lines, indices, questions, leaking, counts)

    def _draw(self, indices: Ints) -> Draws:
        seed = self.sources.seed
        shape = shape_of(seed, self.sources.settings.shapes, indices)
        langs = pick(seed, "lang", indices, np.full(len(indices), 2))
        if self.lang != "both":
            langs = np.full(len(indices), int(self.lang == "zh"))
        rows = [np.flatnonzero(shape == number) for number in range(len(SHAPES))]
        pairs = zip(SHAPES, rows, strict=True)
        return Draws.join([draw_questions(self.sources, name, indices[at], langs[at]) for name, at in pairs])


def shape_of(seed: int, shares: Shapes, indices: Ints) -> Ints:
    """The shape that each index draws, by the shares."""
    edges = np.cumsum([getattr(shares, name) for name in SHAPES])
    return np.searchsorted(edges, uniform(seed, "shape", indices) * edges[-1], side="right")


def gold_leans(sources: Sources, draws: Draws) -> Floats:
    """[n, 2 F] the answer's features, and whether it shares them with another option, standardised within the options.

    0 where all options are level. Wrong options that are chosen to be like the answer are like it more often than like
    one another, so being level with another option tells as much as being the longest.
    """
    nodes = np.column_stack([draws.answer, draws.distractors])
    values = np.stack(sources.features)[draws.lang[:, None], nodes]  # [n, O, F]
    tied = (values[:, :, None] == values[:, None]).sum(axis=2) > 1
    seen = np.concatenate([values, tied], axis=2)
    spread = seen.std(axis=1)
    return (seen[:, 0] - seen.mean(axis=1)) / np.where(spread > 1e-12, spread, np.inf)


def draw_block(drawing: Drawing, span: tuple[int, int]) -> Block:
    return drawing.block(np.arange(*span))


def finish_batch(drawing: Drawing, batch: tuple[Draws, Ints]) -> Finished:
    return drawing.finish(*batch)
