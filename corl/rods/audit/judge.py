"""One item against the graph: which options are right, what each clue does, and everything that is wrong with it.

E are the entities of the whole graph that satisfy all clues, on strong and weak edges (compare: without the contrast,
which the question rules out by name). Right is, for star, an option in E; else an option that stands in the asked
relation to any entity of E and lacks the excluded edge. An exception turns the roles: one option does not stand there.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from corl.data.items import Item
from corl.rods.audit.claim import Claim, Clue, Unclaimed, read_claim
from corl.rods.audit.facts import Facts, Nodes, Step, turned
from corl.rods.audit.leaks import Answer, find_leak
from corl.rods.audit.surfaces import Surfaces, fold
from corl.rods.graph import RELATIONS

Option = tuple[int, ...]  # the nodes that its text may mean
# What treats a condition and what must not be given in it; a pair that stands in both is no fact to ask for.
_FOR, _AGAINST = ("treated_with_drug", "treated_by"), "contraindicated_in"


@dataclass(frozen=True, slots=True)
class Finding:
    id: str
    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the file's bounds need of an item. `answer`: the answer's node; -1 where its text is none."""

    findings: tuple[Finding, ...]
    answer: int
    options: tuple[Option, ...]
    claim: Claim | None
    best_single: float | None  # chance of a solver that knows the best single clue; None below two clues


class Judge:
    def __init__(self, facts: Facts, surfaces: Surfaces) -> None:
        self.facts, self.surfaces = facts, surfaces
        self._answers: dict[int, Answer] = {}
        self._entities: dict[tuple[tuple[Clue, ...], bool, int | None], Nodes] = {}  # of the item in hand
        self._keys: dict[int, frozenset[str]] = {}

    def judge(self, item: Item) -> Verdict:
        self._entities.clear()
        options = {letter: self.surfaces.meant(text, item.lang) for letter, text in item.options.items()}
        key = options.get(item.answer, ())
        found = list(self._options(item, options))
        claim, right, best_single = None, [], None
        try:
            claim = read_claim(item.meta, self.facts)
        except Unclaimed as reason:
            found.append((reason.kind, str(reason)))
        if claim is not None and all(options.values()):
            right = self._right_letters(claim, options)
            found += self._key(item, claim, options, right)
            if len(claim.clues) > 1:
                best_single, more = self._each_clue(claim, options)
                found += more
        answer = -1
        if len(key) == 1:
            answer = key[0]
        elif key:
            answer = next((node for node in key if claim and self._is_right(claim, node)), key[0])
        # Of a wrong key enough is said; the rest would be told of the wrong options.
        if claim is not None and answer >= 0 and (len(right) != 1 or right[0] == item.answer):
            others = [option for letter, option in options.items() if letter not in (item.answer, *right)]
            found += self._facts(claim, answer, others)
        found += self._text(item, claim, key)
        findings = tuple(Finding(item.id, kind, detail) for kind, detail in found)
        return Verdict(findings, answer, tuple(options.values()), claim, best_single)

    def entities(self, claim: Claim, clues: tuple[Clue, ...], *, strong: bool = False) -> Nodes:
        """E for these clues."""
        key = (clues, strong, claim.contrast)
        if (found := self._entities.get(key)) is None:
            held = sorted((self.facts.holders(clue.path, clue.node, strong=strong) for clue in clues), key=len)
            found = held[0].intersection(*held[1:]) if len(held) > 1 else held[0]
            if claim.contrast is not None:
                found -= {claim.contrast}
            self._entities[key] = found
        return found

    def _options(self, item: Item, options: dict[str, Option]) -> Iterator[tuple[str, str]]:
        if "," in item.answer:
            yield "wrong_key", f"answer {item.answer!r} is not one letter"
        owner: dict[int, str] = {}
        for letter, nodes in options.items():
            if not nodes:
                yield "unknown_option", f"{letter} {item.options[letter]!r} names no node of the graph in {item.lang!r}"
            for node in nodes:
                if (first := owner.setdefault(node, letter)) != letter:
                    yield "same_option", f"{first} and {letter} both name {self._name(node)!r}"

    def _right_letters(self, claim: Claim, options: dict[str, Option]) -> list[str]:
        """Letters of the right options; of an exception, those of the options that may be outside."""
        entities = self.entities(claim, claim.clues)
        if claim.shape == "exception":
            return [x for x, nodes in options.items() if not any(self._inside(claim, node, entities) for node in nodes)]
        return [x for x, nodes in options.items() if self._possible(claim, nodes, entities)]

    def _possible(self, claim: Claim, nodes: Option, entities: Nodes) -> bool:
        if claim.asked is None:
            return any(node in entities and self.facts.type_of(node) == claim.answer_type for node in nodes)
        asked = claim.asked
        return any(self.facts.stands(n, asked, entities) and not self._is_excluded(claim, n) for n in nodes)

    def _is_excluded(self, claim: Claim, node: int) -> bool:
        return claim.excluded is not None and claim.excluded[1] in self.facts.at(node, claim.excluded[0])

    def _inside(self, claim: Claim, node: int, entities: Nodes) -> bool:
        """Exception: beyond doubt in the asked relation."""
        assert claim.asked is not None
        return self.facts.stands(node, claim.asked, entities, strong=True)

    def _is_right(self, claim: Claim, node: int) -> bool:
        entities = self.entities(claim, claim.clues)
        return claim.shape != "exception" and self._possible(claim, (node,), entities)

    def _key(self, item: Item, claim: Claim, options: dict[str, Option], right: list[str]) -> Iterator[tuple[str, str]]:
        if len(right) != 1:
            yield "ambiguous", f"{len(right)} options are right: {', '.join(right) or 'none'}"
            return
        if claim.shape == "star":
            entities = self.entities(claim, claim.clues)
            same = [node for node in entities if self.facts.type_of(node) == claim.answer_type]
            if len(same) > 1:
                yield "ambiguous", f"{len(same)} entities satisfy all clues: {self._names(same)}"
        if right[0] != item.answer:
            yield "wrong_key", f"the key is {item.answer}, the one right option is {right[0]}"
        for letter, nodes in options.items():
            if letter != right[0] and (why := self._alike(options[right[0]], nodes)):
                yield "ambiguous", f"{letter} beside {right[0]}: {why}"

    def _alike(self, right: Option, wrong: Option) -> str | None:
        for node in right:
            if near := self.facts.relatives(node) & set(wrong):
                return f"{self._names(near)} is broader or narrower than {self._name(node)!r}"
            for other in wrong:
                if shared := self._surfaces(node) & self._surfaces(other):
                    return f"both are called {min(shared)!r}"
        return None

    def _each_clue(self, claim: Claim, options: dict[str, Option]) -> tuple[float, list[tuple[str, str]]]:
        """The best single clue's chance, and clues that are not needed or suffice alone."""
        found, chances = [], []
        for number, clue in enumerate(claim.clues):
            rest = self.entities(claim, (*claim.clues[:number], *claim.clues[number + 1 :]))
            left = sum(self._possible(claim, nodes, rest) for nodes in options.values())
            if claim.asked is None:
                left = max(left, sum(self.facts.type_of(node) == claim.answer_type for node in rest))
            if left < 2:
                found.append(("redundant_clue", f"clue {number + 1} ({self._name(clue.node)!r}) can be left out"))
            alone = self.entities(claim, (clue,))
            possible = sum(self._possible(claim, nodes, alone) for nodes in options.values())
            chances.append(1 / max(possible, 1))
            if possible < 2:
                found.append(("single_clue", f"clue {number + 1} ({self._name(clue.node)!r}) suffices alone"))
        return max(chances), found

    def _facts(self, claim: Claim, answer: int, others: list[Option]) -> Iterator[tuple[str, str]]:
        """What the answer and the other options must be, whatever the question asks."""
        if self.facts.type_of(answer) != claim.answer_type:
            yield "answer_type", f"{self._name(answer)!r} is a {self.facts.type_of(answer)}, not a {claim.answer_type}"
        if len(claim.clues) == 1 and claim.clues[0].path and self.facts.graph.generic[claim.clues[0].node]:
            yield "clues", f"{self._name(claim.clues[0].node)!r} is too unspecific to be the only clue"
        lengths = [len(clue.path) for clue in claim.clues]
        asks = int(claim.asked is not None)
        shortest = max(lengths) + asks
        longest = shortest if claim.shape == "chain" else sum(lengths) + asks + int(claim.excluded is not None)
        if type(claim.hops) is not int or not max(shortest, 1) <= claim.hops <= longest:
            yield "hops", f"hops is {claim.hops!r}; the clues make {shortest} to {longest}"
        if claim.shape == "exception":
            yield from self._exception(claim, answer, others)
        else:
            yield from self._support(claim, answer)
            yield from self._distractors(claim, others)

    def _support(self, claim: Claim, answer: int) -> Iterator[tuple[str, str]]:
        """Clues and answer stand on strong edges, for one and the same entity."""
        entities = self.entities(claim, claim.clues, strong=True)
        if claim.asked is None:
            held = answer in entities
        else:
            held = self.facts.stands(answer, claim.asked, entities, strong=True)
            if held and self._contradicted(claim.asked, answer, entities):
                yield "contradicted", f"{self._name(answer)!r} is both given for the entity and contraindicated in it"
        if not held:
            yield "unsupported", f"no strong edges lead from the clues to {self._name(answer)!r}"
        if claim.contrast is not None:
            shared = [claim.contrast in self.facts.holders(clue.path, clue.node) for clue in claim.clues]
            if sum(shared) < 2 or all(shared):
                yield "contrast", f"{self._name(claim.contrast)!r} satisfies {sum(shared)} of {len(shared)} clues"
            assert claim.asked is not None
            if self.facts.stands(answer, claim.asked, frozenset([claim.contrast])):
                yield "contrast", f"the answer holds of {self._name(claim.contrast)!r} too"

    def _contradicted(self, asked: Step, answer: int, entities: Nodes) -> bool:
        """Whether every entity that makes the answer right makes it wrong too."""
        relation, back = asked[0], turned(asked)[1]
        if relation not in (*_FOR, _AGAINST):
            return False
        against = [(name, back) for name in (_FOR if relation == _AGAINST else (_AGAINST,))]
        meant = self.facts.at(answer, turned(asked), strong=True) & entities
        return all(any(self.facts.stands(answer, step, frozenset([x])) for step in against) for x in meant)

    def _distractors(self, claim: Claim, others: list[Option]) -> Iterator[tuple[str, str]]:
        """Relation-preserving: what is wrong here is right elsewhere; a star's by more than a missing edge."""
        for nodes in others:
            if not nodes:
                continue
            name = self._name(nodes[0])
            if claim.asked is not None:
                if not any(self.facts.at(node, turned(claim.asked), strong=True) for node in nodes):
                    yield "distractor", f"{name!r} stands in {claim.asked[0]} to nothing"
            elif not any(self.facts.type_of(node) == claim.answer_type for node in nodes):
                yield "distractor", f"{name!r} is a {self.facts.type_of(nodes[0])}, not a {claim.answer_type}"
            elif not any(self._violates(node, clue) for node in nodes for clue in claim.clues):
                yield "distractor", f"{name!r} violates no clue: the graph knows too little of it"

    def _violates(self, node: int, clue: Clue) -> bool:
        known = not clue.path or self.facts.at(node, clue.path[0], strong=True)
        return bool(known) and node not in self.facts.holders(clue.path, clue.node)

    def _exception(self, claim: Claim, answer: int, others: list[Option]) -> Iterator[tuple[str, str]]:
        """The answer is outside beyond doubt: the relation's list is complete, and no relative is inside."""
        assert claim.asked is not None
        relation, direction = claim.asked
        entity, name = claim.clues[0].node, self._name(answer)
        if not RELATIONS[relation].near_complete:
            yield "exception", f"{relation} is open: what the graph does not say may still be true"
        for node in (answer, *self.facts.relatives(answer)):
            for place in (entity, *self.facts.relatives(entity)):
                if self.facts.stands(node, claim.asked, frozenset([place])):
                    near = f"{self._name(node)!r} does, of {self._name(place)!r}"
                    yield "ambiguous", f"the answer {name!r} may stand in {relation} too: {near}"
        head = entity if direction == "out" else answer
        if not self.facts.at(head, (relation, "out"), strong=True):
            yield "exception", f"the graph lists no {relation} of {self._name(head)!r}"
        if not self.facts.at(answer, turned(claim.asked), strong=True):
            yield "distractor", f"{name!r} stands in {relation} to nothing"

    def _text(self, item: Item, claim: Claim | None, key: Option) -> Iterator[tuple[str, str]]:
        folded = fold(item.question)
        surfaces: list[str] = []
        for node in dict.fromkeys(claim.named if claim else ()):
            named = self.surfaces.named(node, item.lang, item.question, folded)
            if not named:
                yield "not_named", f"the question does not name {self._name(node)!r}"
            surfaces += named
        for node in key:
            if node not in self._answers:
                self._answers[node] = Answer.of(s for lang in ("en", "zh") for s in self.surfaces.of(node, lang))
            if leak := find_leak(item.question, folded, surfaces, self._answers[node]):
                yield "leak", leak
                return

    def _surfaces(self, node: int) -> frozenset[str]:
        if node not in self._keys:
            self._keys[node] = self.surfaces.keys(node)
        return self._keys[node]

    def _name(self, node: int) -> str:
        return self.facts.graph.names[node]

    def _names(self, nodes: Iterable[int]) -> str:
        names = sorted(map(self._name, nodes))
        return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
