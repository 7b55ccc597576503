"""A drawn question as a line of the item file: its options in order, and under `meta` what a reader needs to check it.

shape, hops, clues, asked, excluded, contrast, answer_type, masked, option_nodes   what is asked, by node names
surfaces           how the nodes that are no option are written in the item's language, by node name
options_evidence   of each wrong option: the clues it shares and violates, and the entity it is linked through
proof              claim (see CLAIMS), the edges it holds on, how many entities satisfy the first k clues
provenance         the edges that clues, answer and wrong options rest on, each with its source
rare, rarity, difficulty, graph, graph_idx, licence
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from string import ascii_uppercase
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corl.config.rods import RodsSample
from corl.data.items import DIFFICULTIES
from corl.rods.graph import NODE_TYPES, STEPS, Graph, Ints, relation_of
from corl.rods.sampling.difficulty import scores
from corl.rods.sampling.draws import SHAPES, Draws
from corl.rods.sampling.keyed import uniform
from corl.rods.sampling.provenance import EdgeTable, Place, hidden_between, licence
from corl.rods.wording import Surfaces

LANGS = ("en", "zh")
CLAIMS = {  # of the options, or of all entities of the graph, exactly one ...
    "star": "one_entity_satisfies_all_clues",
    "chain": "one_option_stands_in_the_asked_relation",
    "star_tail": "one_option_stands_in_the_asked_relation",
    "compare": "one_option_stands_in_the_asked_relation",
    "constraint": "one_option_stands_in_the_asked_relation_and_not_in_the_excluded_one",
    "exception": "one_option_does_not_stand_in_the_asked_relation",
}

_STEPS = [relation_of(step) for step in range(STEPS)]
_ENCODE = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


@dataclass(frozen=True, slots=True)
class Batch:
    """Chosen questions with their wording and the place of the answer among the options, 0 for A."""

    draws: Draws
    questions: Sequence[str]
    letters: Ints


class Records:
    """Lines of the item file. `option_texts[lang][node]` words an option, lang 0 en, 1 zh."""

    def __init__(
        self,
        graph: Graph,
        settings: RodsSample,
        seed: int,
        rare: NDArray[np.bool_],
        rarity: NDArray[np.float64],
        option_texts: Sequence[Sequence[str]],
    ) -> None:
        self.graph, self.settings, self.seed, self.rare, self.rarity = graph, settings, seed, rare, rarity
        self._option_texts = option_texts
        self._names, self._surfaces = graph.names, Surfaces(graph)
        self._edges = EdgeTable(graph)
        self._of_graph = {"name": graph.name, "hash": graph.hash}

    def lines(self, batch: Batch) -> tuple[list[bytes], dict[str, Counter[str]]]:
        """One JSON line an item, and the counts that the manifest adds up."""
        draws = batch.draws
        points, parts, tiers = scores(self.graph, self.settings.difficulty, draws, self.rare, self.rarity)
        others, places = shuffled(self.seed, draws).tolist(), batch.letters.tolist()
        rounded, levels = np.round(points, 4).tolist(), tiers.tolist()
        part_rows = {name: np.round(values, 4).tolist() for name, values in parts.items()}
        lines, counts = [], {kind: Counter[str]() for kind in ("shape", "lang", "tier", "answer", "asked")}
        for row, plain in enumerate(_rows(draws)):
            tier = DIFFICULTIES[levels[row]]
            difficulty = {
                "score": rounded[row],
                "tier": tier,
                "method": "formula",
                "parts": {name: values[row] for name, values in part_rows.items()},
            }
            item = self._item(plain, others[row], places[row], batch.questions[row], difficulty)
            lines.append(_ENCODE(item).encode() + b"\n")
            counts["shape"][item["meta"]["shape"]] += 1
            counts["lang"][item["lang"]] += 1
            counts["tier"][tier] += 1
            counts["answer"]["rare" if item["meta"]["rare"] else "not rare"] += 1
            asked = item["meta"]["asked"]
            counts["asked"][f"{asked['relation']} {asked['direction']}" if asked else "the entity itself"] += 1
        return lines, counts

    def _item(
        self, row: "_Row", order: list[int], place: int, question: str, difficulty: dict[str, Any]
    ) -> dict[str, Any]:
        """The item's fields; no Item is made, its checks would cost as much as the JSON."""
        names, shape, lang = self._names, SHAPES[row.shape], LANGS[row.lang]
        texts = self._option_texts[row.lang]
        distractors = [row.distractors[at] for at in order]
        nodes = [*distractors[:place], row.answer, *distractors[place:]]
        options = {ascii_uppercase[at]: texts[node] for at, node in enumerate(nodes)}
        strong = self.graph.strong
        shown = {row.entity, row.answer, *(node for _, node in row.clues)}
        bridges = [hidden_between(strong, row.entity, path, node, shown) for path, node in row.clues]
        masked = [] if row.asked < 0 or any(not path for path, _ in row.clues) else [row.entity]
        masked += [node for bridge in bridges for node in bridge if node not in masked]
        used, excluding = self._used(row, bridges)
        asked = _relation(row.asked) if row.asked >= 0 else None
        excluded = None
        if row.excluded_step >= 0:
            excluded = {**_relation(row.excluded_step), "node": names[row.excluded_node]}
        evidence: dict[str, dict[str, Any]] = {}
        wrong = [*ascii_uppercase[:place], *ascii_uppercase[place + 1 : len(nodes)]]
        for letter, at in zip(wrong, order, strict=True):
            shared, violated = _split(row.satisfied[at], len(row.clues))
            via = names[row.via[at]] if row.via[at] >= 0 else None
            evidence[letter] = {"shared": shared, "violated": violated, "via": via}
            if excluded:
                evidence[letter]["excluded"] = row.distractors[at] in excluding
        told = [*(node for _, node in row.clues), *masked, row.contrast, row.excluded_node, *row.via]
        provenance = self._edges.rows(used)
        content = (self._of_graph["hash"], lang, question, names[row.answer], *sorted(names[n] for n in distractors))
        meta = {
            "shape": shape,
            "hops": max(len(path) for path, _ in row.clues) + (asked is not None),
            "clues": [{"path": [_STEPS[step] for step in path], "node": names[n]} for path, n in row.clues],
            "asked": asked,
            "excluded": excluded,
            "contrast": names[row.contrast] if row.contrast >= 0 else None,
            "answer_type": NODE_TYPES[self.graph.types[row.answer]],
            "masked": [names[node] for node in masked],
            "surfaces": {names[node]: self._surfaces.text(node, lang) for node in dict.fromkeys(told) if node >= 0},
            "option_nodes": {ascii_uppercase[at]: names[node] for at, node in enumerate(nodes)},
            "options_evidence": evidence,
            "proof": {"claim": CLAIMS[shape], "edges": "S+W", "remaining": row.remaining},
            "provenance": provenance,
            "rare": bool(self.rare[row.answer]),
            "rarity": round(float(self.rarity[row.answer]), 4),
            "difficulty": difficulty,
            "graph": self._of_graph,
            "graph_idx": row.index,
            "licence": licence(provenance),
        }
        return {
            "id": f"rods:{self.graph.name}:{hashlib.sha256(chr(10).join(content).encode()).hexdigest()[:16]}",
            "source": f"rods:{self.graph.name}",
            "lang": lang,
            "context": None,
            "question": question,
            "options": options,
            "answer": ascii_uppercase[place],
            "difficulty": difficulty["tier"],
            "meta": meta,
        }

    def _used(self, row: "_Row", bridges: list[list[int]]) -> tuple[list[Place], set[int]]:
        """The edges that the item rests on, and the options that the excluded relation rules out."""
        places: list[Place] = []
        for (path, node), bridge in zip(row.clues, bridges, strict=True):
            stops = [row.entity, *bridge, node]
            places += [(stops[k], step, stops[k + 1]) for k, step in enumerate(path)]
        if row.asked >= 0:
            places.append((row.entity, row.asked, row.answer))
            linked = zip(row.via, row.distractors, strict=True)
            places += [(via if via >= 0 else row.entity, row.asked, option) for via, option in linked]
        ruled_out = [(option, row.excluded_step, row.excluded_node) for option in row.distractors]
        if row.excluded_step < 0:
            return places, set()
        ruled_out = [place for place in ruled_out if self._edges.number(place) is not None]
        return places + ruled_out, {place[0] for place in ruled_out}


@cache
def _split(bits: int, count: int) -> tuple[list[int], list[int]]:
    """The clues whose bit is set, and the others."""
    return [k for k in range(count) if bits >> k & 1], [k for k in range(count) if not bits >> k & 1]


def shuffled(seed: int, draws: Draws) -> Ints:
    """[n, O - 1] the wrong options' order, keyed by the question alone."""
    keys = [uniform(seed, "options", draws.index, slot) for slot in range(draws.distractors.shape[1])]
    return np.argsort(np.stack(keys, axis=1), axis=1, kind="stable")


@dataclass(frozen=True, slots=True)
class _Row:
    """One question as plain numbers."""

    index: int
    lang: int
    shape: int
    entity: int
    asked: int
    excluded_step: int
    excluded_node: int
    contrast: int
    answer: int
    distractors: list[int]
    via: list[int]
    satisfied: list[int]
    remaining: list[int]
    clues: list[tuple[tuple[int, ...], int]]


def _rows(draws: Draws) -> Iterator[_Row]:
    columns = (
        draws.index,
        draws.lang,
        draws.shape,
        draws.entity,
        draws.asked_step,
        draws.excluded_step,
        draws.excluded_node,
        draws.contrast,
        draws.answer,
        draws.distractors,
        draws.via,
        draws.satisfied,
        draws.remaining,
    )
    rows = zip(*(column.tolist() for column in columns), strict=True)
    for (*plain, remaining), clues in zip(rows, draws.clues(), strict=True):
        yield _Row(*(*plain, remaining[: len(clues)], clues))


def _relation(step: int) -> dict[str, str]:
    relation, direction = _STEPS[step]
    return {"relation": relation, "direction": direction}
