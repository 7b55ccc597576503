"""The audit over what `corl rods sample` makes of the embedded graph: sound as it is, and every planted fault found."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from corl.cli import main
from corl.rods.audit import AuditReport, audit_file
from corl.rods.graph import Graph, load_graph

SHAPES = ("chain", "star", "star_tail", "compare", "exception", "constraint")


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    file = tmp_path_factory.mktemp("sampled") / "items.jsonl"
    arguments = ["--graph", "embedded", "--n", "300", "--seed", "5", "--lang", "both", "--workers", "1"]
    main(["rods", "sample", *arguments, "--out", str(file)])
    return file.read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module")
def graph() -> Graph:
    return load_graph("embedded")


@pytest.fixture
def items(lines: list[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines]


def audit(items: list[dict[str, Any]], folder: Path) -> AuditReport:
    file = folder / "items.jsonl"
    file.write_text("".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items), encoding="utf-8")
    return audit_file(file)


def one_of_each(items: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for shape in SHAPES:
        yield next(item for item in items if item["meta"]["shape"] == shape)


def kinds(report: AuditReport, item: dict[str, Any]) -> set[str]:
    return {finding.kind for finding in report.findings if finding.id == item["id"]}


def surfaces(graph: Graph, name: str) -> list[str]:
    node = graph.ids[name]
    return [name, graph.names_zh[node], *graph.aliases_en[node], *graph.aliases_zh[node]]


def test_sampled_items_are_sound(items: list[dict[str, Any]], tmp_path: Path) -> None:
    report = audit(items, tmp_path)
    assert report.ok, report
    assert report.last_line.startswith("audit: ok n=300 ambiguous=0 leaks=0 ") and report.graph.startswith("embedded ")


def test_gold_moved(items: list[dict[str, Any]], tmp_path: Path) -> None:
    moved = list(one_of_each(items))
    for item in moved:
        item["answer"] = "ABCD"["ABCD".index(item["answer"]) - 1]
    report = audit(items, tmp_path)
    assert not report.ok and report.last_line.split()[-1].startswith("faults=")
    assert all("wrong_key" in kinds(report, item) for item in moved)


def test_a_second_right_option(items: list[dict[str, Any]], graph: Graph, tmp_path: Path) -> None:
    """An option that stands in the asked relation to the very entity, or for the same thing."""
    planted = []
    for item in items:
        asked, wrong = item["meta"]["asked"], next(x for x in item["options"] if x != item["answer"])
        names = {text: name for name in graph.names for text in surfaces(graph, name)[:2]}
        entity = next(iter(item["meta"]["masked"]), None)
        if asked is None or item["meta"]["shape"] != "star_tail" or entity not in graph.ids:
            continue
        given = {names[text] for text in item["options"].values()}
        others = [n for n in graph.tails_of(entity, asked["relation"], asked["direction"]) if n not in given]
        if others:
            item["options"][wrong] = graph.name_in(graph.ids[others[0]], item["lang"])
            planted.append(item)
            if len(planted) == 3:
                break
    assert planted
    report = audit(items, tmp_path)
    assert all("ambiguous" in kinds(report, item) for item in planted)


@pytest.mark.parametrize("where", ["meta", "both"])
def test_one_clue_removed(items: list[dict[str, Any]], graph: Graph, tmp_path: Path, where: str) -> None:
    changed = list(one_of_each(items))
    for item in changed:
        clue = item["meta"]["clues"].pop(0)
        if where == "both":
            for surface in sorted(surfaces(graph, clue["node"]), key=len, reverse=True):
                item["question"] = item["question"].replace(surface, "...")
    report = audit(items, tmp_path)
    assert all(kinds(report, item) & {"clues", "ambiguous"} for item in changed)


def test_every_clue_of_every_item_is_needed(items: list[dict[str, Any]], tmp_path: Path) -> None:
    changed = [item for item in items if len(item["meta"]["clues"]) > 1]
    for number, item in enumerate(changed):
        item["meta"]["clues"].pop(number % len(item["meta"]["clues"]))
    report = audit(items, tmp_path)
    assert len(changed) > 100 and all(kinds(report, item) & {"clues", "ambiguous"} for item in changed)


def test_an_alias_of_the_answer_in_the_stem(items: list[dict[str, Any]], graph: Graph, tmp_path: Path) -> None:
    by_surface = {surface: name for name in graph.names for surface in surfaces(graph, name)}
    changed = []
    for item in items:
        options = {letter: by_surface[text] for letter, text in item["options"].items()}
        aliases = surfaces(graph, options[item["answer"]])[2:]
        if aliases and len(changed) < 40:
            item["question"] += f" ({aliases[0]})"
            changed.append(item)
    report = audit(items, tmp_path)
    assert len(changed) == 40 and all("leak" in kinds(report, item) for item in changed)
    assert " leaks=40 " in report.last_line


def test_all_golds_on_a(items: list[dict[str, Any]], tmp_path: Path) -> None:
    for item in items:
        options, answer = item["options"], item["answer"]
        options["A"], options[answer] = options[answer], options["A"]
        item["answer"] = "A"
    report = audit(items, tmp_path)
    assert not report.findings and not report.ok and " letters=300 " in report.last_line


def test_key_always_the_longest_option(items: list[dict[str, Any]], graph: Graph, tmp_path: Path) -> None:
    """Items whose key happens to be the longest, and no others: nothing is wrong with any of them."""
    kept = [i for i in items if len(i["options"][i["answer"]]) == max(map(len, i["options"].values()))]
    report = audit(kept, tmp_path)
    assert len(kept) > 30 and not [f for f in report.findings if f.kind not in ("duplicate",)]
    bound = next(bound for bound in report.bounds if bound.name == "option_only")
    assert not bound.holds and "characters +" in bound.note
