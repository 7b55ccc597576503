"""A proven question in words, English or Chinese.

Which phrasing a question gets is drawn from its key, but a phrasing or a name whose own words occur in an option gives
way to one whose words do not: not in any option, so that the wording does not point at the answer.
"""

from dataclasses import dataclass
from functools import lru_cache

from corl.rods.graph import NODE_TYPES, Graph, relation_of
from corl.rods.sampling.draws import SHAPES, Draws
from corl.rods.sampling.keyed import random_words
from corl.rods.wording import LANGUAGES, Avoid, Marks, Surfaces, Told, choose, clauses, marks, name_told, opposite

LANGS = ("en", "zh")
Step = tuple[str, str]
phrase_marks = lru_cache(maxsize=1024)(marks)


@dataclass(frozen=True, slots=True)
class _Row:
    """One question out of the arrays, as plain numbers."""

    lang: str
    shape: str
    entity: int
    clues: list[tuple[tuple[Step, ...], int]]  # (path, node)
    asked: Step | None
    excluded: tuple[Step, int] | None
    contrast: int
    answer: int
    distractors: list[int]
    word: int  # 64 random bits


class Wording:
    """Questions about one graph; `seed` draws their phrasings. Names are prepared on first use."""

    def __init__(self, graph: Graph, seed: int) -> None:
        self._graph, self._seed = graph, seed
        self._surfaces = Surfaces(graph)
        self._kinds = [NODE_TYPES[kind] for kind in graph.types.tolist()]
        self._marks: dict[int, Marks] = {}
        self._block: Draws | None = None
        self._columns: list[list] = []

    def question(self, draws: Draws, row: int, turn: int = 0) -> str:
        """The stem of a row: every clue's node, the contrast and the excluded node stand in it by name or alias.

        turn   another one gives the phrasings another draw
        """
        asked = self._row(draws, row, turn)
        avoid = self._avoid(asked)
        names = [self._surfaces.text(node, asked.lang, *avoid) for _, node in asked.clues]
        told = [Told(path, name, self._kinds[node]) for (path, node), name in zip(asked.clues, names, strict=True)]
        text = self._sentence(asked, told, avoid)
        return text[0].upper() + text[1:]

    def named(self, draws: Draws, row: int) -> dict[int, str]:
        """{node: its text} of the nodes that the stem names, as they stand there."""
        asked = self._row(draws, row)
        avoid = self._avoid(asked)
        nodes = [node for _, node in asked.clues]
        nodes += [asked.contrast] if asked.contrast >= 0 else []
        nodes += [asked.excluded[1]] if asked.excluded else []
        return {node: self._surfaces.text(node, asked.lang, *avoid) for node in nodes}

    def text(self, node: int, lang: str) -> str:
        """A node's name in running text, for nodes that no stem names: the masked ones, those of the distractors."""
        return self._surfaces.text(node, lang)

    def _sentence(self, asked: _Row, told: list[Told], avoid: Avoid) -> str:
        language, kind, word = LANGUAGES[asked.lang], self._kinds[asked.entity], asked.word
        said = clauses(told, language, near=kind, start=word & 0xFF, avoid=avoid)
        together = language.join_clauses(said) if said else ""
        noun = choose(language.nouns[kind], word >> 8 & 0xFF, *avoid)
        slots = {"clues": together, "noun": noun, "a": language.some(noun), "A": _capital(language.some(noun))}
        # The options ask for one type of answer where they have one; else naming it would single some of them out.
        kinds = {self._kinds[node] for node in (asked.answer, *asked.distractors)}
        alike = kinds.pop() if len(kinds) == 1 and (asked.asked is None or asked.asked[0] != "inheritance") else "thing"
        slots["which"] = choose(language.asking[alike], word >> 8 & 0xFF, *avoid)
        slots["Which"] = _capital(slots["which"])
        start = word >> 24 & 0xFF
        if asked.asked is None:
            return choose(language.frames["star"], start, *avoid).format_map(slots)

        name = name_told(told)
        # A stem with one plain question may hold the description inside it; all others describe first.
        plain = asked.shape in ("chain", "star_tail") and all(len(clue.path) == 1 for clue in told)
        inline = plain and word >> 32 & 0xFF < 64
        intro = ""
        if inline:
            entity = language.relative(noun, together)
        elif name is None:
            entity = language.this(noun)
            intro = choose(language.frames["intro"], word >> 40 & 0xFF, *avoid).format_map(slots)
        else:
            entity = name
            if said:
                intro = choose(language.frames["named"], word >> 40 & 0xFF, *avoid).format_map(slots | {"x": name})
        answer_kind = self._kinds[asked.answer]
        # "Which symptom is typical of", not "which symptom is a symptom of".
        avoid_too = (avoid[0] | phrase_marks(slots["which"]), *avoid)
        pattern = choose(language.predicate(opposite(asked.asked), answer_kind, kind), word >> 48 & 0xFF, *avoid_too)
        slots["ask"] = pattern.format(n=entity)
        frame = "tail"
        if asked.shape == "exception":
            frame = "exception"
        elif asked.excluded is not None:
            step, node = asked.excluded
            text = self._surfaces.text(node, asked.lang, *avoid)
            pattern = choose(language.predicate(step, answer_kind, self._kinds[node]), word >> 56 & 0xFF, *avoid)
            slots["out"] = pattern.format(n=text)
            frame = "constraint"
        elif asked.contrast >= 0:
            slots["b"] = self._surfaces.text(asked.contrast, asked.lang, *avoid)
            slots["B"] = _capital(slots["b"])
            frame = "compare"
        return intro + choose(language.frames[frame], start, *avoid).format_map(slots)

    def _avoid(self, asked: _Row) -> Avoid:
        """What the stem's own words should share with no option, at the least not with the answer."""
        answer = self._marks_of(asked.answer)
        return answer.union(*map(self._marks_of, asked.distractors)), answer

    def _marks_of(self, node: int) -> Marks:
        found = self._marks.get(node)
        if found is None:
            graph = self._graph
            names = (graph.names[node], graph.names_zh[node], *graph.aliases_en[node], *graph.aliases_zh[node])
            found = self._marks[node] = marks(" / ".join(names))
        return found

    def _row(self, draws: Draws, row: int, turn: int = 0) -> _Row:
        if draws is not self._block:
            # Plain lists: a numpy element costs twenty times as much to read. One block at a time is kept.
            words = random_words(self._seed, "wording", draws.index)
            arrays = (draws.lang, draws.shape, draws.entity, draws.asked_step)
            more = (draws.excluded_step, draws.excluded_node, draws.contrast, draws.answer, draws.distractors, words)
            self._columns = [*(array.tolist() for array in (*arrays, *more)), draws.clues()]
            self._block = draws
        lang, shape, entity, asked, out_step, out_node, contrast, answer, others, word, clues = (
            column[row] for column in self._columns
        )
        return _Row(
            lang=LANGS[lang],
            shape=SHAPES[shape],
            entity=entity,
            clues=[(_path(path), node) for path, node in clues],
            asked=relation_of(asked) if asked >= 0 else None,
            excluded=(relation_of(out_step), out_node) if out_step >= 0 else None,
            contrast=contrast,
            answer=answer,
            distractors=others,
            word=_turned(word, turn),
        )


@lru_cache(maxsize=4096)
def _path(steps: tuple[int, ...]) -> tuple[Step, ...]:
    return tuple(map(relation_of, steps))


def _turned(word: int, turn: int) -> int:
    """Every byte moved on by `turn`: each picks a phrasing."""
    return sum(((word >> shift) + turn & 0xFF) << shift for shift in range(0, 64, 8)) if turn else word


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
