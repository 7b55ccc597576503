"""A proof as a train of thought: a first hypothesis, the clue that breaks it, a step back, another try, the check.

Everything said rests on the item's meta. What the graph does not hold is called unrecorded, never false. The phrasing
of each sentence is drawn by the item's id.
"""

import hashlib

from corl.data.items import Item, Trace
from corl.grading import grade
from corl.rods.reasoning import chinese, english
from corl.rods.reasoning.case import Case, Wrong, read_case
from corl.rods.wording import Told, clauses, opposite

_WORDS = {"en": english, "zh": chinese}


def proof_trace(item: Item) -> Trace:
    """The trace of an item with meta.shape; teacher "proof".

    `checks`: answer (graded), bridges (every masked node is named), violated_clue (what breaks the nearest wrong option
    is said; null for an exception, whose wrong options break nothing).
    Raises ValueError as `read_case`.
    """
    case = read_case(item)
    writer = _Writer(case, item.id)
    thought = writer.thought()
    completion = f"<think>{thought}</think>\n<answer>{case.letter}</answer>"
    verdict = grade(completion, item.options, item.answer)
    checks = {
        "answer": verdict.format_ok and verdict.correct,
        "bridges": all(_found(name, thought) for name in case.masked),
        "violated_clue": writer.broken,
    }
    return Trace(item, completion, "proof", checks, label_conditioned=False)


class _Writer:
    """Sentences of one case; `broken` once the nearest wrong option has been refuted."""

    def __init__(self, case: Case, key: str) -> None:
        self.case, self.words = case, _WORDS[case.language.code]
        self.broken: bool | None = None if case.shape == "exception" else False
        self._bits = int.from_bytes(hashlib.sha256(key.encode()).digest(), "little")

    def thought(self) -> str:
        case = self.case
        if case.shape == "exception":
            sentences = self._exception()
        else:
            sentences = [*self._described(), *self._tried(), *self._settled()]
        sentences += [self._say("unsure"), self._say("answer", g=self._chosen())]
        return self.words.SPACE.join(text[0].upper() + text[1:] for text in sentences)

    def _described(self) -> list[str]:
        case = self.case
        sentences = [self._say("opening", clues=self._clauses(case.told))] if any(c.path for c in case.told) else []
        if case.asked is not None:
            kind = "exception goal" if case.shape == "exception" else "goal"
            sentences.append(self._say(kind, ask=self._ask(self._it())))
        if case.contrast is not None:
            sentences.append(self._say("contrast", b=case.contrast))
        return sentences

    def _tried(self) -> list[str]:
        if not self.case.wrong:
            return []
        first, *others = self.case.wrong
        sentences = [*self._hypothesis(first)]
        if others:
            # Another way of failing shows more than the same one twice.
            second = next((w for w in others if w.via != first.via or w.via is None), others[0])
            sentences.append(self._exploration(first, second))
        return sentences

    def _hypothesis(self, wrong: Wrong) -> list[str]:
        slots = {"o": self._option(wrong), "v": wrong.via or wrong.text}
        shared = tuple(clue for clue in wrong.shared if clue.path)
        if self.case.asked is None:
            kind = "hypothesis star" if shared else "hypothesis star bare"
        elif wrong.excluded:
            kind, shared = "hypothesis direct", ()
            slots["ask"] = self._ask(self._it())
        else:
            kind = "hypothesis" if shared else "hypothesis bare"
            slots["links"] = self._links(wrong.text)
        if shared:
            slots["shared"] = self._clauses(shared, 1)
        return [self._say(kind, **slots), self._refuted(wrong)]

    def _refuted(self, wrong: Wrong) -> str:
        self.broken = True
        if wrong.excluded:
            return self._say("ruled out", out=self._out())
        violated = tuple(clue for clue in wrong.violated if clue.path)[:2]
        if not violated:
            return self._say("other entity", x=str(self.case.entity), v=wrong.via or wrong.text)
        return self._say("violated", v=wrong.via or wrong.text, violated=self._clauses(violated, 2))

    def _exploration(self, first: Wrong, wrong: Wrong) -> str:
        slots = {"o": self._option(wrong), "v": wrong.via or wrong.text, "x": str(self.case.entity)}
        if wrong.excluded:
            return self._say("next ruled out", out=self._out(), **slots)
        if wrong.via is not None and wrong.via == first.via:
            return self._say("same", **slots)
        violated = tuple(clue for clue in wrong.violated if clue.path)[:2]
        if not violated:
            return self._say("next other entity", **slots)
        slots["violated"] = self._clauses(violated, 3)
        if self.case.asked is None:
            return self._say("next star", **slots)
        return self._say("next", links=self._links(wrong.text), **slots)

    def _settled(self) -> list[str]:
        case = self.case
        if case.asked is None:
            settled = self._say("settle star", g=case.answer, clues=self._clauses(case.told, 1))
            return [settled, *self._hidden(case.masked)]
        sentences = []
        if any(clue.path for clue in case.told):
            sentences.append(self._say("settle", x=str(case.entity), clues=self._clauses(case.told, 1)))
        sentences += self._hidden(tuple(name for name in case.masked if name != case.entity))
        sentences.append(self._say("verify", x=str(case.entity), links=self._links(case.answer)))
        if case.excluded is not None:
            sentences.append(self._say("allowed", g=case.answer, out=self._out()))
        return sentences

    def _exception(self) -> list[str]:
        case = self.case
        slots = {"ask": self._ask(str(case.entity))}
        sentences = self._described()
        for kind, wrong in zip(("exception first", "exception next"), case.wrong, strict=False):
            sentences.append(self._say(kind, o=self._option(wrong), v=wrong.text, **slots))
        return [*sentences, *self._hidden(case.masked), self._say("exception settle", g=case.answer, **slots)]

    def _hidden(self, names: tuple[str, ...]) -> list[str]:
        return [self._say("hidden", hidden=self.case.language.join_names(names))] if names else []

    def _clauses(self, told: tuple[Told, ...], turn: int = 0) -> str:
        language = self.case.language
        return language.join_clauses(clauses(told, language, start=self._draw("clauses") + turn))

    def _it(self) -> str:
        """The entity as long as it has not been found out: its name where the stem says it."""
        named = any(not clue.path for clue in self.case.told)
        return str(self.case.entity) if named else self.words.IT

    def _ask(self, entity: str) -> str:
        """What the question says of its answer."""
        assert self.case.asked is not None
        return self._predicate(opposite(self.case.asked), entity)

    def _links(self, option: str) -> str:
        """What is said of an entity that an option answers for."""
        assert self.case.asked is not None
        return self._predicate(self.case.asked, option)

    def _out(self) -> str:
        assert self.case.excluded is not None
        return self._predicate(*self.case.excluded)

    def _predicate(self, step: tuple[str, str], text: str) -> str:
        options = self.case.language.predicate(step)
        return options[self._draw("predicate") % len(options)].text.format(n=text)

    def _option(self, wrong: Wrong) -> str:
        return self.words.OPTION.format(text=wrong.text, letter=wrong.letter)

    def _chosen(self) -> str:
        return self.words.CHOSEN.format(text=self.case.answer, letter=self.case.letter)

    def _say(self, kind: str, **slots: str) -> str:
        variants = self.words.PARTS[kind]
        return variants[self._draw(kind) % len(variants)].format_map(slots)

    def _draw(self, kind: str) -> int:
        """A number drawn by the item and by what it is for."""
        return self._bits >> (sum(kind.encode()) % 192) & 0xFFFF


def _found(name: str, text: str) -> bool:
    return name.casefold() in text.casefold()
