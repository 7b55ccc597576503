"""Small folders of invented pages, extracted and read back."""

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from corl.rods.extraction.extract import extract
from corl.rods.graph import load_graph


@dataclass
class Extracted:
    folder: Path

    def rows(self, name: str) -> list[dict[str, str]]:
        with (self.folder / name).open(newline="") as file:
            return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))

    @property
    def edges(self) -> set[tuple[str, str, str, str]]:
        return {(row["head"], row["relation"], row["tail"], row["strength"]) for row in self.rows("edges.tsv")}

    @property
    def strong(self) -> set[tuple[str, str, str]]:
        return {edge[:3] for edge in self.edges if edge[3] == "S"}

    @property
    def types(self) -> dict[str, str]:
        return {row["name"]: row["type"] for row in self.rows("nodes.tsv")}

    @property
    def aliases(self) -> set[tuple[str, str]]:
        return {(row["name"], row["alias"]) for row in self.rows("aliases.tsv")}

    @property
    def skipped(self) -> dict[str, str]:
        return {row["title"]: row["reason"] for row in self.rows("skipped.tsv")}

    @property
    def manifest(self) -> dict:
        return json.loads((self.folder / "manifest.json").read_text())


@pytest.fixture
def extracted(tmp_path: Path) -> Callable[[dict[str, str]], Extracted]:
    """Pages by file name, extracted; the graph's own reader must take the result."""

    def run(pages: dict[str, str]) -> Extracted:
        source = tmp_path / "pages"
        source.mkdir(exist_ok=True)
        for name, text in pages.items():
            (source / name).write_text(text, encoding="utf-8")
        extract(source, tmp_path / "graph")
        load_graph(tmp_path / "graph")
        return Extracted(tmp_path / "graph")

    return run


@pytest.fixture
def read_back() -> Callable[[Path], Extracted]:
    return Extracted
