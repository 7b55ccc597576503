"""The arrays say what the edges say, in both directions."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corl.rods.graph import (
    RELATION_IDS,
    RELATION_NAMES,
    RELATIONS,
    STEPS,
    Graph,
    from_arrays,
    from_tables,
    load_graph,
    read_tables,
    relation_of,
    reverse,
    step_of,
)

SIZE = 7
EDGES = st.lists(
    st.tuples(st.integers(0, SIZE - 1), st.integers(0, len(RELATIONS) - 1), st.integers(0, SIZE - 1), st.booleans()),
    max_size=30,
)


def graph_of(edges: list[tuple[int, int, int, bool]]) -> Graph:
    array = np.array([edge[:3] for edge in edges], np.int64).reshape(-1, 3)
    strong = np.array([edge[3] for edge in edges], bool)
    return from_arrays("g", [f"n{i}" for i in range(SIZE)], ["disease"] * SIZE, tuple(array.T), strong=strong)


def targets_of(edges: list[tuple[int, int, int, bool]]) -> dict[tuple[int, int], set[int]]:
    found = defaultdict(set)
    for head, relation, tail, _ in edges:
        name = RELATION_NAMES[relation]
        found[head, step_of(name, "out")].add(tail)
        found[tail, step_of(name, "in")].add(head)
    return found


@settings(max_examples=60, deadline=None)
@given(EDGES)
def test_every_row_and_membership(edges: list[tuple[int, int, int, bool]]) -> None:
    graph = graph_of(edges)
    for adjacency, kept in ((graph.any, edges), (graph.strong, [edge for edge in edges if edge[3]])):
        truth = targets_of(kept)
        nodes, steps = (part.ravel() for part in np.meshgrid(np.arange(SIZE), np.arange(STEPS), indexing="ij"))
        owner, target = adjacency.expand(nodes, steps)
        found = defaultdict(list)
        for row, end in zip(owner.tolist(), target.tolist(), strict=True):
            found[int(nodes[row]), int(steps[row])].append(end)
        assert dict(found) == {key: sorted(ends) for key, ends in truth.items()}
        for target in range(SIZE):
            has = adjacency.has(nodes, steps, np.full(nodes.size, target))
            keys = zip(nodes.tolist(), steps.tolist(), strict=True)
            assert has.tolist() == [target in truth.get(key, ()) for key in keys]
        none, all_steps = np.full(STEPS, -1), np.arange(STEPS)  # node -1 has nothing, nothing has step -1
        for at, step in ((none, all_steps), (np.arange(SIZE), np.full(SIZE, -1))):
            assert not adjacency.has_step(at, step).any() and not adjacency.slices(at, step)[1].any()
            assert not adjacency.has(at, step, np.zeros(len(at), np.int64)).any()
        assert not adjacency.has(nodes, steps, np.full(nodes.size, -1)).any()
    assert graph.degrees.tolist() == [sum((e[0] == n) + (e[2] == n) for e in edges) for n in range(SIZE)]


def test_steps_and_their_reverse() -> None:
    for name, relation in RELATIONS.items():
        out, inward = step_of(name, "out"), step_of(name, "in")
        assert relation_of(out) == (name, "out")
        assert reverse(np.array([out]))[0] == inward and reverse(np.array([inward]))[0] == out
        assert (out == inward) == relation.symmetric


def write(folder: Path, nodes: list[str], edges: list[str]) -> Path:
    folder.mkdir()
    folder.joinpath("nodes.tsv").write_text("\n".join(["name\ttype\tgeneric", *nodes]) + "\n")
    folder.joinpath("edges.tsv").write_text("\n".join(["head\trelation\ttail\tstrength", *edges]) + "\n")
    return folder


def test_the_hash_is_of_the_content_not_of_its_order(tmp_path: Path) -> None:
    nodes = ["a\tdisease\t0", "b\tsymptom\t0", "c\tsymptom\t0"]
    edges = ["a\thas_symptom\tb\tS", "a\thas_symptom\tc\tW"]
    first = load_graph(write(tmp_path / "1", nodes, edges)).hash
    assert load_graph(write(tmp_path / "2", nodes[::-1], edges[::-1])).hash == first
    changed = [
        (["a\tdisease\t0", "b\tsymptom\t1", "c\tsymptom\t0"], edges),
        (["a\tdisease\t0", "b\tsign\t0", "c\tsymptom\t0"], edges),
        (nodes, ["a\thas_symptom\tb\tW", "a\thas_symptom\tc\tW"]),
        (nodes, edges[:1]),
    ]
    hashes = [load_graph(write(tmp_path / f"c{i}", *rows)).hash for i, rows in enumerate(changed)]
    assert len({first, *hashes}) == 5


def test_a_folder_becomes_arrays(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", ["a\tdisease\t0", "b\tsymptom\t1"], ["a\thas_symptom\tb\tW"])
    graph = load_graph(folder)
    assert graph.name == "mine" and graph.generic.tolist() == [False, True]
    assert graph.tails_of("a", "has_symptom") == ["b"] and graph.tails_of("a", "has_symptom", strong=True) == []
    assert graph.tails_of("b", "has_symptom", "in") == ["a"]
    assert graph.edge_at == {(0, RELATION_IDS["has_symptom"], 1): 0}
    assert from_tables("other", read_tables(folder)).hash == graph.hash


def test_no_edges_at_all(tmp_path: Path) -> None:
    graph = load_graph(write(tmp_path / "bare", ["a\tdisease\t0"], []))
    assert not graph.any.has(np.array([0]), 0, np.array([0]))[0] and graph.any.of(0, 0).size == 0


@pytest.mark.parametrize("name", ["nowhere", "synthetic:x", "synthetic:1000:1:2", "synthetic:10"])
def test_a_wrong_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"graph"):
        load_graph(name)
