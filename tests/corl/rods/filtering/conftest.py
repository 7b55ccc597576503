"""Items of public sets and of the embedded graph, written for these tests."""

import pytest

from corl.data.items import Item


@pytest.fixture(scope="session")
def make_public():
    """make_public(k, question=.., options=.., ..): an item that no filter objects to, and that repeats no other."""

    def make(k: int = 0, question: str | None = None, options: dict[str, str] | None = None, **changes) -> Item:
        finding = ("tremor", "ptosis", "oedema", "purpura", "stridor", "ataxia", "jaundice", "melaena")[k % 8]
        asked = question or f"A farmer number {k} is seen for {finding} after grain harvest {k}. What is done first?"
        given = options or {"A": f"Rest {k}", "B": f"Lumbar puncture {k}", "C": f"Plain film {k}", "D": f"Oxygen {k}"}
        fields = {"lang": "en", "context": None, "answer": "B", "difficulty": None, "meta": {}, "source": "madeup"}
        return Item(id=f"madeup:{k}", question=asked, options=given, **fields | changes)

    return make


@pytest.fixture(scope="session")
def made_items(tmp_path_factory) -> list[Item]:
    """Forty items of the embedded graph in both languages, as `corl rods sample` writes them."""
    from corl.cli import main
    from corl.data.items import read_items

    out = tmp_path_factory.mktemp("made") / "items.jsonl"
    main(["rods", "sample", "--graph", "embedded", "--n", "40", "--seed", "5", "--lang", "both", "--out", str(out)])
    return read_items(out)
