"""Every way in which an item can be wrong is found, under its own name, and alone where nothing else is wrong."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from corl.rods.graph.tables import Node

Change = Callable[[Any, Any], None]


def change(item: dict[str, Any], **meta: Any) -> None:
    item["meta"].update(meta)


def option(world: Any, item: dict[str, Any], key: str, letter: str | None = None) -> None:
    """Put another node in the place of an option, by default of the first wrong one."""
    place = letter or next(x for x in item["options"] if x != item["answer"])
    item["options"][place] = world.name(key)


def key_of(world: Any, item: dict[str, Any]) -> str:
    """The test's key of the answer's node: what `world.name` made it from."""
    names = {word: key for key, word in world.name.made.items()}
    zh = {node.name_zh: name for name, node in world.tables.nodes.items()}
    text = item["options"][item["answer"]]
    return names[zh.get(text, text)]


def weaken(world: Any, head: str, relation: str, tail: str) -> None:
    key = (world.name(head), relation, world.name(tail))
    world.tables.edges[key] = replace(world.tables.edges[key], strong=False)


def drop(world: Any, head: str, relation: str, tail: str) -> None:
    del world.tables.edges[world.name(head), relation, world.name(tail)]


def alias(world: Any, key: str, *more: str) -> None:
    node = world.tables.nodes[world.name(key)]
    world.tables.nodes[node.name] = replace(node, aliases_en=(*node.aliases_en, *more))


def clue(relation: str, node: str) -> dict[str, Any]:
    return {"path": [[relation, "out"]], "node": node}


def also(world: Any, item: dict[str, Any], relation: str, key: str) -> None:
    """One more clue, named in the question."""
    item["meta"]["clues"].append(clue(relation, world.name(key)))
    item["question"] = f"{world.name(key)}; {item['question']}"


def moved_gold(world: Any, item: dict[str, Any]) -> None:
    item["answer"] = next(x for x in item["options"] if x != item["answer"])


def ruled_out_by_weak_edge(world: Any, item: dict[str, Any]) -> None:
    world.add_edge("tX0", "contraindicated_in", "r0", "W")


def broader_option(world: Any, item: dict[str, Any]) -> None:
    world.add_edge("B0", "has_subtype", "A1")
    world.add_edge("A1", "has_subtype", "A0")


def class_beside_member(world: Any, item: dict[str, Any]) -> None:
    letter = next(x for x, text in item["options"].items() if text == world.name("tD0"))
    item["options"][letter] = world.name("k0")
    world.add_edge("A1", "treated_with_drug", "k0")


def unname(world: Any, item: dict[str, Any], key: str) -> None:
    name = world.name.chinese(key) if item["lang"] == "zh" else world.name(key)
    assert name in item["question"]
    item["question"] = item["question"].replace(name, "...")


def needed_against_the_contrast_only(world: Any, item: dict[str, Any]) -> None:
    """Without the third clue the contrast is possible; but the question rules it out by name."""
    letter = next(x for x, text in item["options"].items() if text == world.name.chinese("lX0"))
    item["options"][letter] = world.name.chinese("lB0")
    drop(world, "X0", "has_symptom", "cp0")


# Items of group 0: star A (clues AB, AC; options A B C D), star_tail B (BA, BC), chain C, compare A against B,
# exception outside k0 (answer tB1), constraint X (answer tX0, barred uX0).
FAULTS: list[tuple[str, str, Change, set[str]]] = [
    ("gold moved", "star", moved_gold, {"wrong_key"}),
    ("gold moved", "star_tail", moved_gold, {"wrong_key"}),
    ("gold moved", "chain", moved_gold, {"wrong_key"}),
    ("gold moved", "compare", moved_gold, {"wrong_key"}),
    ("gold moved", "exception", moved_gold, {"wrong_key"}),
    ("gold moved", "constraint", moved_gold, {"wrong_key"}),
    ("two letters", "star", lambda w, i: i.update(answer="A,B"), {"wrong_key"}),
    ("second right, strong", "star_tail", lambda w, i: w.add_edge("B0", "treated_with_drug", "tC0"), {"ambiguous"}),
    ("second right, weak", "star_tail", lambda w, i: w.add_edge("B0", "treated_with_drug", "tC0", "W"), {"ambiguous"}),
    ("second right, of another entity", "chain",
     lambda w, i: w.add_edge("A0", "has_symptom", "sC0", "W"), {"ambiguous"}),
    ("second entity among the options", "star", lambda w, i: w.add_edge("B0", "has_sign", "fAC0", "W"), {"ambiguous"}),
    ("second entity elsewhere", "star", lambda w, i: [w.add_edge("A1", "has_sign", k, "W") for k in ("fAB0", "fAC0")],
     {"ambiguous"}),
    ("no option right", "constraint", ruled_out_by_weak_edge, {"ambiguous"}),
    ("a second treatment not barred", "constraint",
     lambda w, i: drop(w, "uX0", "contraindicated_in", "r0"), {"ambiguous"}),
    ("an option two steps broader", "star", broader_option, {"ambiguous"}),
    ("an option that shares an alias", "star",
     lambda w, i: [alias(w, k, "same name") for k in ("A0", "B0")], {"ambiguous"}),
    ("a class beside its member", "star_tail", class_beside_member, {"ambiguous"}),
    ("an inside option weak only", "exception", lambda w, i: weaken(w, "tA0", "in_drug_class", "k0"), {"ambiguous"}),
    ("the outside option inside, weak", "exception", lambda w, i: w.add_edge("tB1", "in_drug_class", "k0", "W"),
     {"ambiguous"}),
    ("an unknown option", "star", lambda w, i: i["options"].update({i["answer"]: "nothing known"}), {"unknown_option"}),
    ("an unknown wrong option", "star", lambda w, i: i["options"].update(B="nothing known"), {"unknown_option"}),
    ("no clues", "star", lambda w, i: change(i, clues=[]), {"clues"}),
    ("clues gone", "star", lambda w, i: i["meta"].pop("clues"), {"clues"}),
    ("clues of another kind", "star", lambda w, i: change(i, clues=["fever", None]), {"clues"}),
    ("an unknown clue node", "star", lambda w, i: i["meta"]["clues"][0].update(node="nothing"), {"clues"}),
    ("a clue node that is no text", "star", lambda w, i: i["meta"]["clues"][0].update(node=["x"]), {"clues"}),
    ("an unknown relation", "star", lambda w, i: i["meta"]["clues"][0].update(path=[["likes", "out"]]), {"clues"}),
    ("an unknown direction", "star", lambda w, i: i["meta"]["clues"][0].update(path=[["has_sign", "up"]]), {"clues"}),
    ("a path that names the answer", "star", lambda w, i: i["meta"]["clues"][0].update(path=[]), {"clues"}),
    ("a path of four steps", "chain",
     lambda w, i: i["meta"]["clues"][0].update(path=[["has_symptom", "out"]] * 4), {"clues"}),
    ("one clue of two", "star_tail", lambda w, i: i["meta"]["clues"].pop(), {"clues"}),
    ("two clues of a chain", "chain", lambda w, i: also(w, i, "has_symptom", "sA0"), {"clues"}),
    ("an unknown shape", "star", lambda w, i: change(i, shape="guess"), {"meta"}),
    ("a shape that is no text", "star", lambda w, i: change(i, shape=["star"]), {"meta"}),
    ("nothing asked", "star_tail", lambda w, i: change(i, asked=None), {"meta"}),
    ("asked as a text", "star_tail", lambda w, i: change(i, asked="treated_with_drug"), {"meta"}),
    ("nothing excluded", "constraint", lambda w, i: change(i, excluded=None), {"meta"}),
    ("a contrast where none belongs", "star_tail", lambda w, i: change(i, contrast=w.name("A0")), {"meta"}),
    ("the wrong answer type", "star_tail", lambda w, i: change(i, answer_type="gene"), {"answer_type"}),
    ("no answer type", "star_tail", lambda w, i: change(i, answer_type=None), {"answer_type"}),
    ("one clue too many", "star", lambda w, i: also(w, i, "has_sign", "fAD0"), {"redundant_clue"}),
    ("one clue twice", "star", lambda w, i: i["meta"]["clues"].append(i["meta"]["clues"][0]), {"redundant_clue"}),
    ("a clue that suffices", "star", lambda w, i: also(w, i, "has_symptom", "sA0"), {"redundant_clue", "single_clue"}),
    ("a clue on a weak edge", "star", lambda w, i: weaken(w, "A0", "has_sign", "fAB0"), {"unsupported"}),
    ("an answer on a weak edge", "star_tail",
     lambda w, i: weaken(w, "B0", "treated_with_drug", "tB0"), {"unsupported"}),
    ("a clue not in the text", "star", lambda w, i: i.update(question=i["question"].split("; ", 1)[1]), {"not_named"}),
    ("a clue as part of a word", "star", lambda w, i: i.update(question="un" + i["question"]), {"not_named"}),
    ("the contrast not in the text", "compare", lambda w, i: unname(w, i, "B0"), {"not_named"}),
    ("the excluded node not in the text", "constraint", lambda w, i: unname(w, i, "r0"), {"not_named"}),
    ("a distractor of another type", "star", lambda w, i: option(w, i, "tA1"), {"distractor", "single_clue"}),
    ("a distractor out of the relation", "constraint", lambda w, i: option(w, i, "eA0", "C"), {"distractor"}),
    ("an open relation", "exception", lambda w, i: change(i, asked={"relation": "treated_by", "direction": "in"}),
     {"ambiguous", "distractor", "exception"}),
    ("an outside option of which nothing is listed", "exception",
     lambda w, i: drop(w, "tB1", "in_drug_class", "k1"), {"exception", "distractor"}),
    ("a clue that tells from the contrast only", "compare", needed_against_the_contrast_only, {"redundant_clue"}),
    ("a contrast that shares too little", "compare", lambda w, i: drop(w, "B0", "has_symptom", "cq0"), {"contrast"}),
    ("a contrast that satisfies all", "compare",
     lambda w, i: w.add_edge("B0", "has_symptom", "cr0", "W"), {"contrast"}),
    ("an answer that holds of the contrast", "compare", lambda w, i: w.add_edge("B0", "has_lab_finding", "lA0", "W"),
     {"contrast"}),
    ("given and contraindicated", "star_tail", lambda w, i: w.add_edge("tB0", "contraindicated_in", "B0", "W"),
     {"contradicted"}),
    ("too many hops", "star", lambda w, i: change(i, hops=3), {"hops"}),
    ("too few hops", "star_tail", lambda w, i: change(i, hops=1), {"hops"}),
    ("hops that are no number", "exception", lambda w, i: change(i, hops=True), {"hops"}),
    ("an alias of the answer", "star",
     lambda w, i: i.update(question=w.name("A0")[::-1] + "ine. " + i["question"]), {"leak"}),
    ("the answer's Chinese name", "star",
     lambda w, i: i.update(question=w.name.chinese("A0") + i["question"]), {"leak"}),
]  # fmt: skip


def test_the_items_are_sound(world: Any) -> None:
    report = world.audit()
    assert (
        report.ok and not report.findings and report.items == 36 and len({i["meta"]["shape"] for i in world.items}) == 6
    )


@pytest.mark.parametrize(
    ("shape", "change", "expected"), [f[1:] for f in FAULTS], ids=[f"{f[1]}: {f[0]}" for f in FAULTS]
)
def test_fault(world: Any, kinds: Any, shape: str, change: Change, expected: set[str]) -> None:
    item = world.of(shape)
    change(world, item)
    report = world.audit()
    assert kinds(report, item["id"]) == expected
    assert not report.ok and report.last_line.startswith("audit: FAILED")


@pytest.mark.parametrize("value", [None, "gone", {"A": "nonsense"}, False])
def test_what_the_sampler_says_it_proved_is_not_read(world: Any, value: Any) -> None:
    for item in world.items:
        for key in (
            "proof",
            "options_evidence",
            "option_nodes",
            "rare",
            "masked",
            "difficulty",
            "rarity",
            "provenance",
        ):
            item["meta"][key] = value
    assert world.audit().ok


def test_a_relation_read_from_the_other_end_is_the_same(world: Any, kinds: Any) -> None:
    item = world.of("exception")
    item["meta"]["asked"] = {"relation": "in_drug_class", "direction": "out"}  # the class's classes: there are none
    assert "ambiguous" in kinds(world.audit(), item["id"])


def test_a_symmetric_relation_holds_both_ways(world: Any, kinds: Any) -> None:
    low, high = sorted([world.name("A0"), world.name("A1")])
    world.tables.edges[low, "differential_of", high] = replace(
        next(iter(world.tables.edges.values())), head=low, relation="differential_of", tail=high
    )
    for direction in ("out", "in"):
        for entity in (low, high):
            item = world.of("chain")
            change(item, clues=[{"path": [["differential_of", direction]], "node": entity}])
            item["question"] = f"{entity} is asked about?"
            found = kinds(world.audit(), item["id"])
            assert "ambiguous" in found and "clues" not in found


@pytest.mark.parametrize("text", ["{name}", "{upper}", " {name} ", "{alias}"])
def test_options_are_found_by_name_and_alias(world: Any, text: str) -> None:
    item = world.of("star")
    name = item["options"][item["answer"]]
    item["options"][item["answer"]] = text.format(name=name, upper=name.upper(), alias=name[::-1] + "ine")
    assert not world.audit().findings


def test_one_node_under_two_names_is_one_option(world: Any, kinds: Any) -> None:
    item = world.of("star")
    wrong = [letter for letter in item["options"] if letter != item["answer"]]
    item["options"][wrong[0]] = item["options"][wrong[1]][::-1] + "ine"
    assert "same_option" in kinds(world.audit(), item["id"])


def test_an_alias_of_two_nodes_means_both(world: Any, kinds: Any) -> None:
    item = world.of("star")
    alias(world, "A0", "twin")
    alias(world, "A3", "twin")
    item["options"][item["answer"]] = "twin"
    assert not kinds(world.audit(), item["id"])
    wrong = next(letter for letter in item["options"] if letter != item["answer"])
    item["options"][wrong] = world.name("A3")
    assert {"same_option", "ambiguous"} <= kinds(world.audit(), item["id"])


def test_a_disambiguator_is_not_part_of_the_name(world: Any, kinds: Any) -> None:
    """In the question and in the options."""
    item = world.of("star")
    old, key = world.name("fAB0"), world.name("A0")
    for name in (old, key):
        node = world.tables.nodes.pop(name)
        world.tables.nodes[f"{name} (thing)"] = replace(node, name=f"{name} (thing)")
        edges, world.tables.edges = world.tables.edges, {}
        for edge in edges.values():
            head, tail = (f"{name} (thing)" if end == name else end for end in (edge.head, edge.tail))
            world.tables.edges[head, edge.relation, tail] = replace(edge, head=head, tail=tail)
    item["meta"]["clues"][0]["node"] = f"{old} (thing)"
    assert not kinds(world.audit(), item["id"])


def test_a_drug_class_does_not_count_for_a_sibling(world: Any) -> None:
    """Two drugs of one class are two answers; two subtypes of one disease too."""
    world.add_edge("A1", "has_subtype", "A0")
    world.add_edge("A1", "has_subtype", "B0")
    assert not [f for f in world.audit().findings if f.id == world.of("star")["id"]]


def as_exception(world: Any, relation: str, way: str, entity: str, options: list[str], kind: str) -> dict[str, Any]:
    """The exception of group 0 about something else; the last option is outside."""
    item = world.of("exception")
    names = [world.name(key) for key in options]
    item.update(options=dict(zip("ABCD", names, strict=True)), answer="D", question=f"{world.name(entity)}, not?")
    clues = [{"path": [], "node": world.name(entity)}]
    change(item, clues=clues, asked={"relation": relation, "direction": way}, answer_type=kind)
    return item


def germ(world: Any, key: str, chinese: str) -> None:
    world.tables.nodes[world.name(key)] = Node(world.name(key), "pathogen", chinese)


def test_an_exception_is_not_outside_where_its_subtype_is_inside(world: Any, kinds: Any) -> None:
    germ(world, "germ", "细小生物")
    germ(world, "other", "别物")
    for key in ("A0", "B0", "C0"):
        world.add_edge(key, "caused_by", "germ")
    world.add_edge("A2", "caused_by", "other")
    item = as_exception(world, "caused_by", "in", "germ", ["A0", "B0", "C0", "A2"], "disease")
    assert not kinds(world.audit(), item["id"])
    world.add_edge("A2", "has_subtype", "A4")
    world.add_edge("A4", "caused_by", "germ", "W")
    assert kinds(world.audit(), item["id"]) == {"ambiguous"}


def test_an_exception_is_not_outside_where_it_causes_a_subtype_of_the_entity(world: Any, kinds: Any) -> None:
    germs = ["one", "two", "three", "four"]
    for key, chinese in zip(germs, ("甲物", "乙物", "丙物", "丁物"), strict=True):
        germ(world, key, chinese)
        world.add_edge("A0" if key != "four" else "A2", "caused_by", key)
    item = as_exception(world, "caused_by", "out", "A0", germs, "pathogen")
    assert not kinds(world.audit(), item["id"])
    world.add_edge("A0", "has_subtype", "A4")
    world.add_edge("A4", "caused_by", "four", "W")
    assert kinds(world.audit(), item["id"]) == {"ambiguous"}


def test_an_exception_needs_a_relation_that_lists_all(world: Any, kinds: Any) -> None:
    """Sound but for this: that a disease is not said to be treated with a drug does not mean that it is not."""
    for key in ("B0", "C0"):
        world.add_edge(key, "treated_with_drug", "tA0")
    item = as_exception(world, "treated_with_drug", "in", "tA0", ["A0", "B0", "C0", "A2"], "disease")
    assert kinds(world.audit(), item["id"]) == {"exception"}


def test_a_star_distractor_of_another_type_is_told_as_such(world: Any) -> None:
    item = world.of("star")
    option(world, item, "tA1")
    told = [f.detail for f in world.audit().findings if f.id == item["id"] and f.kind == "distractor"]
    assert told == [f"{world.name('tA1')!r} is a drug, not a disease"]


def test_a_star_distractor_must_violate_more_than_a_gap(world: Any, kinds: Any) -> None:
    """A disease of which no sign is known may well have this one."""
    item = world.of("star")
    assert world.name("D0") in item["options"].values()
    for key in [key for key in world.tables.edges if key[0] == world.name("D0") and key[1] == "has_sign"]:
        del world.tables.edges[key]
    assert kinds(world.audit(), item["id"]) == {"distractor"}


def test_an_unspecific_finding_is_no_clue_alone(world: Any, kinds: Any) -> None:
    node = world.tables.nodes[world.name("sC0")]
    world.tables.nodes[node.name] = replace(node, generic=True)
    assert kinds(world.audit(), world.of("chain")["id"]) == {"clues"}


@pytest.mark.parametrize("strength", ["S", "W"])
def test_a_contradiction_elsewhere_does_not_matter(world: Any, kinds: Any, strength: str) -> None:
    """Another disease satisfies the clues too, and for that one the answer is both right and wrong."""
    item = world.of("star_tail")
    for key in ("fAB0", "fBC0"):
        world.add_edge("B1", "has_sign", key, strength)
    world.add_edge("B1", "treated_with_drug", "tB0")
    world.add_edge("tB0", "contraindicated_in", "B1", "W")
    assert "contradicted" not in kinds(world.audit(), item["id"])
    world.add_edge("tB0", "contraindicated_in", "B0", "W")
    assert "contradicted" in kinds(world.audit(), item["id"])
