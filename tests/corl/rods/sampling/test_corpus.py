"""How often public questions name a node."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from corl.data.items import Item, file_sha256, write_items
from corl.rods.graph import Graph, from_arrays
from corl.rods.sampling.corpus import NameTable, count_mentions

NONE = np.zeros(0, np.int64)


def graph_of(*nodes: tuple[str, str, tuple[str, ...], tuple[str, ...]]) -> Graph:
    """Nodes of name, Chinese name, aliases, Chinese aliases."""
    names, chinese, aliases, aliases_zh = zip(*nodes, strict=True)
    plain = from_arrays("g", list(names), ["disease"] * len(nodes), (NONE, NONE, NONE), names_zh=list(chinese))
    return replace(plain, aliases_en=list(aliases), aliases_zh=list(aliases_zh))


GRAPH = graph_of(
    ("Moss fever", "苔藓热", ("MF", "fever of the moss"), ()),
    ("fever", "热", (), ()),
    ("Brook gout", "溪痛风", (), ("溪流痛风",)),
    ("Moss gout", "", (), ()),
)


@pytest.mark.parametrize(
    "text, named",
    [
        ("She has moss FEVER, they said.", {0, 1}),
        ("feverish moss", set()),
        ("Is it MF? Or mfx?", {0}),
        ("a Fever of the Moss", {0, 1}),
        ("moss-fever", {0, 1}),
        ("moss gouts", set()),
        ("患者有溪流痛风", {2}),
        ("溪痛风与苔藓热", {0, 2}),
        ("发热", set()),  # one character says too little
        ("疑似MF的患者", {0}),
        ("", set()),
    ],
)
def test_names_are_found_as_whole_words(text: str, named: set[int]) -> None:
    assert NameTable(GRAPH).mentioned([text]) == named


def test_a_question_counts_once_wherever_the_name_stands(tmp_path: Path) -> None:
    options = {"A": "moss fever", "B": "brook gout"}
    items = [
        Item("1", "s", "en", "Brook gout it was.", "Moss fever or MF?", options, "A", None, {}),
        Item("2", "s", "en", None, "Which?", {"A": "moss gout", "B": "x"}, "A", None, {}),
    ]
    write_items(tmp_path / "a.jsonl", items)
    write_items(tmp_path / "b.jsonl", items[:1])
    counts, hashes = count_mentions(GRAPH, [tmp_path / "a.jsonl", tmp_path / "b.jsonl"])
    assert counts.tolist() == [2, 2, 2, 1]
    assert hashes == {str(tmp_path / name): file_sha256(tmp_path / name) for name in ("a.jsonl", "b.jsonl")}


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing.jsonl cannot be read"):
        count_mentions(GRAPH, [tmp_path / "nothing.jsonl"])
