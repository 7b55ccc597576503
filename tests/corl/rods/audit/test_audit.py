"""The command and the file's bounds; the six planted faults, each of which must end with 1 and a name."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from corl.cli import main
from corl.rods.audit import audit_file

LAST_LINE = re.compile(
    r"audit: (ok|FAILED) n=\d+ ambiguous=\d+ leaks=\d+ option_only=\d+\.\d/\d+\.\d single_clue=\d+\.\d letters=\d+ "
    r"rare=\d+\.\d( faults=\d+)?"
)


def run(world: Any, capsys: Any, *more: str) -> tuple[int, list[str]]:
    """(exit code, printed lines) of `corl rods audit`."""
    file, graph = world.write()
    capsys.readouterr()
    code = 0
    try:
        main(["rods", "audit", str(file), "--graph", str(graph), *more])
    except SystemExit as stop:
        code = int(stop.code or 0)
    said = capsys.readouterr()
    assert not said.err
    return code, said.out.splitlines()


def bound(lines: list[str], name: str) -> str:
    return next(line for line in lines if line.startswith(name + "  "))


def longest_key(item: dict[str, Any], world: Any) -> None:
    """The key under an alias that is longer than every other option, in an item of English."""
    node = world.tables.nodes[item["options"][item["answer"]]]
    item["options"][item["answer"]] = node.aliases_en[0]


def key_at_a(item: dict[str, Any]) -> None:
    options = item["options"]
    options["A"], options[item["answer"]] = options[item["answer"]], options["A"]
    item["answer"] = "A"


def test_a_sound_file_ends_with_0(world: Any, capsys: Any) -> None:
    code, lines = run(world, capsys)
    assert code == 0
    match = LAST_LINE.fullmatch(lines[-1])
    assert match and match[1] == "ok" and match[2] is None
    assert lines[-1].startswith("audit: ok n=36 ambiguous=0 leaks=0 option_only=")
    # 12 stars and tails at 1/2, 6 comparisons whose best clue leaves 3 of 4
    assert " single_clue=44.4 letters=0 rare=" in lines[-1]
    assert len(lines) == 11  # the table of bounds and the last line


@pytest.mark.parametrize("shape", ["chain", "star", "star_tail", "compare", "exception", "constraint"])
def test_planted_gold_moved(world: Any, capsys: Any, shape: str) -> None:
    item = world.of(shape, 1)
    item["answer"] = next(letter for letter in item["options"] if letter != item["answer"])
    code, lines = run(world, capsys)
    assert code == 1 and any(line.startswith(f"{item['id']}: wrong_key: ") for line in lines)
    assert "FAILED" in lines[-1] and re.search(r" faults=[1-9]", lines[-1])


def test_planted_second_right_option(world: Any, capsys: Any) -> None:
    item = world.of("star_tail")  # of B0, whose drug is right; the weak edge makes another option right
    world.add_edge("B0", "treated_with_drug", "tC0", "W")
    code, lines = run(world, capsys)
    assert code == 1 and any(line.startswith(f"{item['id']}: ambiguous: 2 options") for line in lines)
    assert re.search(r" ambiguous=\d*[1-9] ", lines[-1]) and LAST_LINE.fullmatch(lines[-1])


@pytest.mark.parametrize("shape", ["chain", "star", "star_tail", "compare", "exception", "constraint"])
@pytest.mark.parametrize("where", ["clues", "both"])
def test_planted_clue_removed(world: Any, capsys: Any, shape: str, where: str) -> None:
    item = world.of(shape, 1)
    clue = item["meta"]["clues"].pop()
    if where == "both":
        names = [clue["node"], world.tables.nodes[clue["node"]].name_zh]
        for name in names:
            item["question"] = item["question"].replace(name, "...")
    code, lines = run(world, capsys)
    assert code == 1 and any(line.startswith(f"{item['id']}: clues: ") for line in lines[:-11])


def test_a_clue_removed_where_enough_are_left_is_ambiguous(world: Any, kinds: Any) -> None:
    """A star of three clues, each of which is needed, becomes one of two."""
    item = world.of("star", 0)
    clues = [{"path": [["has_symptom", "out"]], "node": world.name(f"c{k}0")} for k in "pqr"]
    item["meta"]["clues"] = clues
    item["options"] = dict(zip("ABCD", (world.name(f"{role}0") for role in "ABCD"), strict=True))
    item["answer"] = "A"
    item["question"] = f"{'; '.join(clue['node'] for clue in clues)}. which?"
    assert not kinds(world.audit(), item["id"])
    item["meta"]["clues"] = clues[:2]
    assert kinds(world.audit(), item["id"]) == {"ambiguous"}


def test_planted_alias_of_the_answer_in_the_stem(world: Any, capsys: Any) -> None:
    item = world.of("star", 2)
    alias = world.tables.nodes[item["options"][item["answer"]]].aliases_en[0]
    item["question"] = item["question"].replace("star", f"{alias.upper()}, star")
    code, lines = run(world, capsys)
    assert code == 1 and f"{item['id']}: leak: names the answer: {alias!r}" in lines
    assert " leaks=1 " in lines[-1] and "faults" not in lines[-1]


def test_planted_all_golds_on_a(world: Any, capsys: Any) -> None:
    for item in world.items:
        key_at_a(item)
    code, lines = run(world, capsys)
    assert code == 1 and " letters=36 " in lines[-1]
    assert "FAILED" in bound(lines, "letters") and "A 36 B 0" in bound(lines, "letters")


def test_planted_key_always_the_longest_option(world: Any, capsys: Any) -> None:
    for item in world.items:
        if item["lang"] == "en":
            longest_key(item, world)
    code, lines = run(world, capsys)
    assert code == 1 and "FAILED" in bound(lines, "option_only") and "characters +" in bound(lines, "option_only")
    assert float(re.search(r"option_only=([\d.]+)/25.0", lines[-1])[1]) > 70  # type: ignore[index]


def test_letters_may_differ_by_one_and_not_by_two(world: Any, capsys: Any) -> None:
    moved = next(item for item in world.items if item["answer"] == "A")
    options = moved["options"]
    options["A"], options["B"], moved["answer"] = options["B"], options["A"], "B"
    code, lines = run(world, capsys)
    assert code == 1 and " letters=2 " in lines[-1] and "faults" not in lines[-1]
    world.items.remove(next(item for item in world.items if item["answer"] == "B"))
    del world.items[next(n for n, item in enumerate(world.items) if item["answer"] == "C")]
    code, lines = run(world, capsys)  # A 8, B 9, C 8, D 9
    assert code == 0 and " letters=1 " in lines[-1]


def test_letters_count_within_each_number_of_options(world: Any, capsys: Any) -> None:
    """Two sets of items that are balanced together only are not balanced."""
    chains = [item for item in world.items if item["meta"]["shape"] == "chain"]
    for item in chains:
        drop = next(letter for letter in "DCB" if letter != item["answer"])
        gold = item["options"][item["answer"]]
        texts = [text for letter, text in item["options"].items() if letter != drop]
        texts.remove(gold)
        item["options"] = dict(zip("ABC", [gold, *texts], strict=True))
        item["answer"] = "A"
    code, lines = run(world, capsys)
    assert code == 1 and "3 options: A 6 B 0 C 0" in bound(lines, "letters") and " letters=6 " in lines[-1]


def test_rare_answers_are_counted_anew(world: Any, capsys: Any) -> None:
    for node in list(world.tables.nodes.values()):
        if node.rarity == "rare":
            world.tables.nodes[node.name] = replace(node, rarity="common")
    code, lines = run(world, capsys)
    assert code == 1 and "FAILED" in bound(lines, "rare") and lines[-1].endswith("rare=0.0")


def test_duplicates_and_frequent_answers(world: Any, capsys: Any) -> None:
    items = {shape: world.of(shape) for shape in ("star", "chain", "star_tail")}
    world.items.append(json.loads(json.dumps(items["star"])))  # all of it
    world.items.append(json.loads(json.dumps(items["chain"])) | {"id": "again"})  # text
    reworded = json.loads(json.dumps(items["star_tail"])) | {"id": "anew"}
    reworded["question"] = "Now " + reworded["question"]
    reworded["meta"]["clues"].reverse()
    world.items.append(reworded)  # content, in other words
    code, lines = run(world, capsys)
    assert code == 1
    assert f"{items['star']['id']}: duplicate_id: an earlier item has this id" in lines
    assert f"again: duplicate: the text of {items['chain']['id']}" in lines
    assert f"anew: duplicate: clues, what is asked and answer of {items['star_tail']['id']}" in lines
    assert "FAILED" in bound(lines, "most items of one answer")
    assert bound(lines, "duplicate questions").split()[2:5] == ["3", "limit", "0"]
    assert lines[-1].endswith(" faults=5")


def test_twenty_findings_of_a_kind_are_shown_and_all_are_in_the_report(world: Any, capsys: Any, tmp_path: Path) -> None:
    for item in world.items:
        item["meta"]["hops"] = None
    code, lines = run(world, capsys, "--report", str(tmp_path / "report.json"))
    assert code == 1 and sum(": hops: " in line for line in lines) == 20 and "hops: 16 more" in lines
    report = json.loads((tmp_path / "report.json").read_text())
    assert len(report["findings"]) == report["faults"] == 36 and report["last_line"] == lines[-1] and not report["ok"]
    assert [bound["name"] for bound in report["bounds"]][:7] == [
        "ambiguous", "leaks", "option_only", "option_only by ranks", "single_clue", "letters", "rare"
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(14))
def test_hostile_meta_is_a_finding_and_never_a_crash(world: Any, seed: int) -> None:
    """Any part of meta.. replaced by any other kind of value."""
    values = [None, True, 0, -1, 1e308, "", "x", [], [[]], {}, {"path": None}, [None], [["has_sign", "out"]], "star"]
    kept = {"graph"}
    for number, item in enumerate(world.items):
        meta = item["meta"]
        key = sorted(set(meta) - kept)[(seed * 7 + number) % len(set(meta) - kept)]
        value = values[(seed + 3 * number) % len(values)]
        if key == "clues" and number % 2:
            part = ("path", "node")[number % 4 // 2]
            meta["clues"][0][part] = value
        else:
            meta[key] = value
    assert not world.audit().ok


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda lines: [], "holds no items"),
        (lambda lines: ["", "  "], "holds no items"),
        (lambda lines: [*lines, "{"], "line 37: not JSON"),
        (lambda lines: [*lines, "[1]"], "line 37: not an object"),
        (lambda lines: [*lines, "[" * 100_000], "line 37: nested too deep"),
        (lambda lines: [lines[0].replace('"lang"', '"language"')], "item 'rods:small:0000': key 'lang' is missing"),
        (lambda lines: [lines[0].replace('"answer": "', '"answer": "Q')], "line 1: item 'rods:small:0000': answer is"),
        (lambda lines: [lines[0].replace('"rods:small"', '"medqa"'), *lines[1:]], "is of source 'medqa'"),
        (lambda lines: [lines[0].replace('"hash": "', '"hash": "0'), *lines[1:]], "audit the items of each graph"),
        (lambda lines: [line.replace('"hash": "', '"hash": "0') for line in lines], "the graph they were made from"),
        (lambda lines: [line.replace('"graph"', '"grape"') for line in lines], "has no meta.graph with name and hash"),
    ],
)  # fmt: skip
def test_what_cannot_be_audited_ends_with_2_and_one_line(world: Any, capsys: Any, change: Any, why: str) -> None:
    file, graph = world.write()
    lines = change(file.read_text(encoding="utf-8").splitlines())
    file.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    assert_refused(capsys, ["rods", "audit", str(file), "--graph", str(graph)], why)


def test_wrong_places_end_with_2(world: Any, capsys: Any, tmp_path: Path) -> None:
    file, graph = world.write()
    assert_refused(capsys, ["rods", "audit", str(tmp_path / "none.jsonl"), "--graph", str(graph)], "cannot be read")
    assert_refused(capsys, ["rods", "audit", str(file)], "of graph 'small' (hash ", "name its folder with --graph")
    assert_refused(capsys, ["rods", "audit", str(file), "--graph", str(tmp_path / "none")], "no such folder")
    assert_refused(capsys, ["rods", "audit", str(file), "--graph", str(graph), "--report", str(file)], "named twice")
    file.write_bytes(b'{"id": "\xff"}\n')
    assert_refused(capsys, ["rods", "audit", str(file), "--graph", str(graph)], "line 1: not UTF-8")


def assert_refused(capsys: Any, arguments: list[str], *why: str) -> None:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    said = capsys.readouterr()
    assert stop.value.code == 2 and not said.out
    assert said.err.startswith("error: ") and said.err.count("\n") == 1
    assert all(part in said.err for part in why), said.err


def test_a_wrong_graph_is_named_with_both_hashes(world: Any, capsys: Any) -> None:
    file, graph = world.write()
    before = json.loads(file.read_text(encoding="utf-8").splitlines()[0])["meta"]["graph"]["hash"]
    lines = file.read_text(encoding="utf-8")
    world.add_edge("A0", "has_sign", "fAB1")
    world.write()
    after = json.loads(file.read_text(encoding="utf-8").splitlines()[0])["meta"]["graph"]["hash"]
    file.write_text(lines, encoding="utf-8")
    assert before != after
    assert_refused(capsys, ["rods", "audit", str(file), "--graph", str(graph)], before, after)


def test_the_same_file_gives_the_same_report(world: Any) -> None:
    file, graph = world.write()
    assert audit_file(file, str(graph)) == audit_file(file, str(graph))
