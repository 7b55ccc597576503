"""`corl rods sample` as a whole: exact numbers, the same bytes however it is run, nothing half-written."""

import hashlib
import json
import re
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corl.cli import main
from corl.config.rods import RodsSample
from corl.data.items import Item, read_items, write_items
from corl.rods.graph import FINDINGS, NODE_TYPES, RARITIES, RELATION_NAMES, Graph, load_graph, synthetic_graph
from corl.rods.sampling import drawing
from corl.rods.sampling.draws import Draws
from corl.rods.sampling.leak import Leaks
from corl.rods.sampling.sample import sample_items
from corl.rods.sampling.selection import Effort, most_of_one_answer
from corl.rods.sampling.wording import Wording

QUICK = Effort(block=256, least=12, draws_per_item=4, window=4, fresh=1 / 6)
ITEMS = 100


@pytest.fixture(scope="module")
def graph() -> Graph:
    return load_graph("embedded")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("made") / "items.jsonl"
    return out, sample_items("embedded", out, items=ITEMS, seed=3, lang="both", effort=QUICK)


@pytest.fixture(scope="module")
def items(made: tuple[Path, dict[str, Any]]) -> list[Item]:
    return read_items(made[0])


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first clusters of an invented graph as a folder: it can give some dozens of questions."""
    whole = synthetic_graph(1000, 5)
    kept = set(whole.of_type("disease")[:40].tolist())
    edges = zip(whole.heads.tolist(), whole.relations.tolist(), whole.tails.tolist(), strict=True)
    edges = [edge for edge in edges if edge[0] in kept and NODE_TYPES[whole.types[edge[2]]] in (*FINDINGS, "drug")]
    nodes = sorted({node for head, _, tail in edges for node in (head, tail)})
    rarity = {-1: ""} | dict(enumerate(RARITIES))
    rows = [f"{whole.names[n]}\t{NODE_TYPES[whole.types[n]]}\t{rarity[int(whole.rarity[n])]}" for n in nodes]
    lines = [f"{whole.names[h]}\t{RELATION_NAMES[r]}\t{whole.names[t]}\tS\tunsourced" for h, r, t in edges]
    folder = tmp_path_factory.mktemp("graphs") / "small"
    folder.mkdir()
    (folder / "nodes.tsv").write_text("\n".join(["name\ttype\trarity", *rows]) + "\n")
    (folder / "edges.tsv").write_text("\n".join(["head\trelation\ttail\tstrength\tsource", *lines]) + "\n")
    return folder


@pytest.mark.parametrize("workers, start_method", [(2, "fork"), (8, "fork"), (2, "spawn")])
def test_the_same_bytes_however_many_draw(
    made: tuple[Path, dict[str, Any]], tmp_path: Path, workers: int, start_method: str
) -> None:
    out = tmp_path / "items.jsonl"
    sample_items(
        "embedded", out, items=ITEMS, seed=3, lang="both", effort=QUICK, workers=workers, start_method=start_method
    )
    assert out.read_bytes() == made[0].read_bytes()
    assert manifest_of(out) == manifest_of(made[0])


def test_the_size_of_a_block_changes_nothing_and_the_seed_all(
    made: tuple[Path, dict[str, Any]], items: list[Item], tmp_path: Path
) -> None:
    out = tmp_path / "items.jsonl"
    sample_items("embedded", out, items=ITEMS, seed=3, lang="both", effort=Effort(block=333))
    assert out.read_bytes() == made[0].read_bytes()
    sample_items("embedded", out, items=ITEMS, seed=4, lang="both", effort=QUICK)
    assert not {item.question for item in read_items(out)} & {item.question for item in items}


def test_two_questions_that_read_alike_once_worded_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "readings", lambda draws, namesake: draws.index.astype(np.uint64))
    monkeypatch.setattr(Wording, "question", lambda self, draws, row, turn: f"Number {draws.index[row] // 3}?")
    found = sample_items("embedded", tmp_path / "items.jsonl", items=40, seed=3, effort=QUICK)
    texts = [item.question for item in read_items(tmp_path / "items.jsonl")]
    assert len(set(texts)) == len(texts) == 40 and found["rejected"]["same_text"] > 10
    assert found["draws"] == 40 + sum(found["rejected"].values())
    one_by_one = tmp_path / "one.jsonl"
    sample_items("embedded", one_by_one, items=40, seed=3, effort=replace(QUICK, block=16, least=512))
    assert one_by_one.read_bytes() == (tmp_path / "items.jsonl").read_bytes()


def test_a_phrasing_that_tells_the_answer_gives_way_and_a_question_that_always_tells_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def question(self: Wording, draws: Draws, row: int, turn: int) -> str:
        index = int(draws.index[row])
        return f"Tells {index}" if index % 3 == 0 or turn < 2 else f"Number {index}, turn {turn}?"

    monkeypatch.setattr(Wording, "question", question)
    monkeypatch.setattr(Leaks, "in_text", lambda self, text, answer: text.startswith("Tells"))
    found = sample_items("embedded", tmp_path / "items.jsonl", items=40, seed=3, effort=QUICK)
    items = read_items(tmp_path / "items.jsonl")
    assert len(items) == 40 and all(item.question.endswith(", turn 2?") for item in items)
    assert not any(item.meta["graph_idx"] % 3 == 0 for item in items)
    assert found["rejected"]["leak"] > 10 and found["draws"] == 40 + sum(found["rejected"].values())


def test_items_keep_every_bound(items: list[Item]) -> None:
    assert len(items) == ITEMS
    for kind in (
        [item.id for item in items],
        [item.question for item in items],
        [json.dumps([item.meta[k] for k in ("shape", "asked", "excluded", "contrast")]) + clues_and_answer(item)
         for item in items],
    ):  # fmt: skip
        assert len(set(kind)) == ITEMS
    answers = Counter(item.meta["option_nodes"][item.answer] for item in items)
    assert max(answers.values()) <= most_of_one_answer(ITEMS, RodsSample())
    for end in range(1, ITEMS + 1):
        letters = Counter(item.answer for item in items[:end])
        assert max(letters.values()) - min(letters[letter] for letter in "ABCD") <= 1
        assert sum(item.meta["rare"] for item in items[:end]) >= end / 2
    assert {item.lang for item in items} == {"en", "zh"}
    assert {item.meta["shape"] for item in items} == {
        "chain", "star", "star_tail", "compare", "exception", "constraint"
    }  # fmt: skip


def clues_and_answer(item: Item) -> str:
    return json.dumps([sorted(map(json.dumps, item.meta["clues"])), item.meta["option_nodes"][item.answer]])


def test_what_an_item_says_of_itself_is_in_the_graph(items: list[Item], graph: Graph) -> None:
    edges = {
        (graph.names[h], RELATION_NAMES[r], graph.names[t]): (strong, source)
        for h, r, t, strong, source in zip(
            graph.heads, graph.relations, graph.tails, graph.strong_edges, graph.sources, strict=True
        )
    }
    for item in items:
        meta = item.meta
        assert re.fullmatch("rods:embedded:[0-9a-f]{16}", item.id)
        assert item.source == "rods:embedded"
        assert list(meta["option_nodes"]) == list("ABCD") == list(item.options)
        for letter, name in meta["option_nodes"].items():
            assert item.options[letter] == graph.name_in(graph.ids[name], item.lang).split(" (")[0]
        numbers = set(range(len(meta["clues"])))
        assert set(meta["options_evidence"]) == set("ABCD") - {item.answer}
        for told in meta["options_evidence"].values():
            assert set(told["shared"]) | set(told["violated"]) == numbers
            assert len(told["shared"]) + len(told["violated"]) == len(numbers)
        assert meta["hops"] == max(len(clue["path"]) for clue in meta["clues"]) + (meta["asked"] is not None)
        assert len(meta["proof"]["remaining"]) == len(numbers)
        assert item.difficulty == meta["difficulty"]["tier"]
        assert meta["graph"] == {"name": "embedded", "hash": graph.hash}
        assert meta["provenance"]
        for edge in meta["provenance"]:
            strong, source = edges[edge["head"], edge["relation"], edge["tail"]]
            assert (edge["strength"], edge["source"]) == ("S" if strong else "W", source)
        sourced = [edge["source"] for edge in meta["provenance"] if edge["source"] != "unsourced"]
        assert (meta["licence"] is None) == (not sourced)
        if meta["asked"] and meta["shape"] != "exception":
            answer = meta["option_nodes"][item.answer]
            role = "tail" if meta["asked"]["direction"] == "out" else "head"
            assert any(e["relation"] == meta["asked"]["relation"] and e[role] == answer for e in meta["provenance"])
    assert any(item.meta["masked"] for item in items)


def test_evidence_belongs_to_its_option_and_the_masked_entity_to_the_answer(items: list[Item], graph: Graph) -> None:
    def stands(entity: str, relation: str, direction: str, other: str) -> bool:
        return other in graph.tails_of(entity, relation, direction)

    seen = Counter[str]()
    for item in items:
        meta, answer = item.meta, item.meta["option_nodes"][item.answer]
        asked = meta["asked"] and (meta["asked"]["relation"], meta["asked"]["direction"])
        named = any(not clue["path"] for clue in meta["clues"])
        assert bool(meta["masked"]) == (asked is not None and not named)
        if meta["masked"]:
            assert stands(meta["masked"][0], *asked, answer)
        for letter, told in meta["options_evidence"].items():
            option = meta["option_nodes"][letter]
            if told["via"]:
                seen["via"] += 1
                assert stands(told["via"], *asked, option)
            elif meta["shape"] == "star":
                seen["star"] += 1
                for k, clue in enumerate(meta["clues"]):
                    (step,) = clue["path"]
                    assert stands(option, *step, clue["node"]) == (k in told["shared"])
    assert min(seen["via"], seen["star"]) > 20


def manifest_of(out: Path) -> dict[str, Any]:
    return json.loads(out.with_name(f"{out.name}.manifest.json").read_text())


def test_the_manifest_adds_up(made: tuple[Path, dict[str, Any]], items: list[Item], graph: Graph) -> None:
    out, told = made
    content = manifest_of(out)
    assert content == told
    assert content["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    assert (content["file"], content["items"], content["seed"], content["lang"]) == (out.name, ITEMS, 3, "both")
    assert content["graph"] == {"name": "embedded", "hash": graph.hash, "nodes": len(graph), "edges": len(graph.heads)}
    assert content["settings"]["shapes"]["star"] == 0.25
    assert content["corpus_rarity"] == "left out: no public train files given"
    assert content["draws"] == sum(content["rejected"].values()) + ITEMS
    assert content["counts"]["shape"] == dict(Counter(item.meta["shape"] for item in items))
    assert content["counts"]["lang"] == dict(Counter(item.lang for item in items))
    assert content["counts"]["tier"] == dict(Counter(item.difficulty for item in items))
    assert content["counts"]["answer"]["rare"] == sum(item.meta["rare"] for item in items)
    assert sum(content["counts"]["asked"].values()) == ITEMS


def test_public_questions_count_towards_rarity(tmp_path: Path, graph: Graph) -> None:
    name = graph.names[int(graph.of_type("disease")[0])]
    options = {"A": name, "B": "something else"}
    write_items(tmp_path / "train.jsonl", [Item("1", "s", "en", None, "Which?", options, "A", None, {})])
    for out, public in (("with.jsonl", [tmp_path / "train.jsonl"]), ("without.jsonl", [])):
        sample_items("embedded", tmp_path / out, items=40, effort=QUICK, public=public)
    digest = hashlib.sha256((tmp_path / "train.jsonl").read_bytes()).hexdigest()
    assert manifest_of(tmp_path / "with.jsonl")["corpus_rarity"] == {str(tmp_path / "train.jsonl"): digest}
    assert (tmp_path / "with.jsonl").read_bytes() != (tmp_path / "without.jsonl").read_bytes()


@pytest.mark.parametrize("items, answer_share", [(10**9, 0.02), (400, 0.2)])
def test_too_many_items_are_refused_with_the_number_that_works(
    small: Path, tmp_path: Path, items: int, answer_share: float
) -> None:
    out = tmp_path / "items.jsonl"
    out.write_text("mine\n")
    settings = RodsSample(answer_share=answer_share)

    def refusal(wanted: int) -> int:
        with pytest.raises(ValueError, match=f"^--n {wanted}: graph small can give ") as error:
            sample_items(small, out, items=wanted, effort=QUICK, settings=settings)
        found = re.search(r"can give (\d+) items .*; ask for --n (\d+) ", str(error.value))
        assert found
        assert found[1] == found[2]
        return int(found[1])

    most = refusal(items)
    assert 20 < most < items
    assert refusal(most + 1) == most
    assert out.read_text() == "mine\n"
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    sample_items(small, out, items=most, effort=QUICK, settings=settings)
    assert len(read_items(out)) == most


KILLED = """
import os, signal, sys
from pathlib import Path
from corl.data import items
from corl.rods.sampling import sample
from corl.rods.sampling.selection import Effort
def die(*_): os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[1] == "before the rename": items.os.replace = die
if sys.argv[1] == "before the manifest": sample.write_manifest = die
if sys.argv[1] == "while drawing": sample._keep = die
effort = Effort(block=256)
sample.sample_items("embedded", sys.argv[2], items=int(sys.argv[3]), seed=3, lang="both", effort=effort, workers=2)
"""


@pytest.mark.parametrize("when", ["while drawing", "before the rename", "before the manifest"])
def test_a_killed_run_leaves_no_half_file_and_comes_to_the_same_bytes(
    made: tuple[Path, dict[str, Any]], tmp_path: Path, when: str
) -> None:
    out = tmp_path / "items.jsonl"
    run = subprocess.run([sys.executable, "-c", KILLED, when, str(out), str(ITEMS)], capture_output=True)
    assert run.returncode == -signal.SIGKILL, run.stderr
    assert out.exists() == (when == "before the manifest")
    assert not out.exists() or out.read_bytes() == made[0].read_bytes()
    sample_items("embedded", out, items=ITEMS, seed=3, lang="both", effort=QUICK)
    assert out.read_bytes() == made[0].read_bytes()
    assert manifest_of(out) == manifest_of(made[0])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["items.jsonl", "items.jsonl.manifest.json"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--graph", "nowhere"], "graph nowhere: no such folder"),
        (["--n", "0"], "--n 0: ask for 1 item or more"),
        (["--n", "many"], "argument --n: invalid int value"),
        (["--workers", "0"], "--workers 0: use 1 or more"),
        (["--lang", "fr"], "argument --lang: invalid choice: 'fr'"),
        (["--config", "wrong.yaml"], "wrong.yaml: unknown key chains"),
        (["--config", "absent.yaml"], "absent.yaml: no such file"),
        (["--public", "absent.jsonl"], "absent.jsonl cannot be read"),
        (["--out", "folder"], "folder is a folder; name a file"),
        (["--out", "items.jsonl/x"], "items.jsonl/x cannot be written"),
        (["--graph", "synthetic:1000", "--lang", "zh"], "no node has a name_zh"),
    ],
)
def test_a_wrong_call_is_one_line_and_exit_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "wrong.yaml").write_text("chains: 1\n")
    (tmp_path / "items.jsonl").write_text("mine\n")
    with pytest.raises(SystemExit) as end:
        main(["rods", "sample", "--graph", "embedded", "--n", "5", "--out", "items.jsonl", *arguments])
    assert end.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert told.count("\n") == 1
    assert message in told
    assert (tmp_path / "items.jsonl").read_text() == "mine\n"
    assert not (tmp_path / "items.jsonl.manifest.json").exists()


def test_the_command_tells_what_it_made(tmp_path: Path, capsys) -> None:
    out = tmp_path / "new" / "items.jsonl"
    (tmp_path / "s.yaml").write_text(
        "options: 5\nshapes: {star: 1, star_tail: 0, chain: 0, compare: 0, exception: 0}\n"
    )
    command = ["rods", "sample", "--graph", "embedded", "--n", "30", "--seed", "8", "--lang", "zh", "--out", str(out)]
    main([*command, "--config", str(tmp_path / "s.yaml")])
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("graph embedded (")
    assert told[-1] == f"{out}: 30 items"
    items = read_items(out)
    assert {len(item.options) for item in items} == {5}
    assert {item.meta["shape"] for item in items} <= {"star", "constraint"}
    assert {item.lang for item in items} == {"zh"}
    assert np.all([re.search("[\u4e00-\u9fff]", item.question) for item in items])
