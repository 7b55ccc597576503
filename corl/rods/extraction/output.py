"""The folder's files. All are written beside it first; they come under their names only when all are whole."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from corl.rods.extraction.aliases import aliases
from corl.rods.extraction.entities import Entities
from corl.rods.extraction.store import Store
from corl.rods.extraction.titles import words
from corl.rods.graph.schema import INVERSES

FILES = ("nodes.tsv", "aliases.tsv", "edges.tsv", "attributes.tsv", "qualifiers.tsv", "skipped.tsv")
_INVERSE_OF = {name: inverse for inverse, name in INVERSES.items()}
# Too broad to be a clue: nearly every page could name them.
_GENERIC = frozenset(
    words(
        """
        pain fever fatigue surgery medication drug cancer infection death rash swelling inflammation disease nausea
        vomiting headache weakness stress smoking diet exercise obesity genetics tiredness medicine antibiotic injury
        trauma tumor symptom therapy counseling vaccination vaccine sepsis
        """
    )
) | {
    "blood test", "medical imaging", "physical examination", "supportive care", "pain medication", "weight loss",
    "family medicine", "internal medicine", "general practice", "family history", "old age", "risk factor",
}  # fmt: skip


def write_tables(folder: Path, store: Store, entities: Entities) -> dict[str, Any]:
    """Write the TSV files into `folder`; returns the counts for the manifest."""
    kept = _kept(store, entities)
    nodes = sorted((entities.all[place].name, place) for place in kept)
    write_lines(folder / "nodes.tsv", _node_lines(nodes, entities))
    other_names = aliases(store, entities, kept)
    write_lines(folder / "aliases.tsv", _lines(("name", "alias", "lang", "kind"), other_names))
    counts: dict[str, Counter[str]] = {"S": Counter(), "W": Counter()}
    write_lines(folder / "edges.tsv", _edge_lines(store, entities, counts))
    tally = Counter[str]()
    columns = ("node", "attribute", "text", "value", "unit", "population", "year", "contradicted", "title", "revision",
               "parameter")  # fmt: skip
    write_lines(folder / "attributes.tsv", _lines(columns, _attribute_rows(store, entities, tally)))
    write_lines(folder / "qualifiers.tsv", _lines(("head", "relation", "tail", "qualifier"), _notes(store, entities)))
    skipped = store.rows("select title, reason, file from skipped order by rowid")
    write_lines(folder / "skipped.tsv", _lines(("title", "reason", "file"), skipped))
    return {
        "nodes": _sorted(Counter(entities.all[place].type for place in kept)),
        "edges": {
            name: {strength: counts[strength][name] for strength in "SW"}
            for name in sorted({*counts["S"], *counts["W"]})
        },
        "aliases": len(other_names),
        "attributes": tally["attributes"],
    }


def _kept(store: Store, entities: Entities) -> list[int]:
    """The entities that a page is about or an edge touches."""
    kept = {place for place, entity in enumerate(entities.all) if entity.pages}
    for (place,) in store.rows("select head from edge union select tail from edge"):
        kept.add(place)
    return sorted(kept)


def _node_lines(nodes: list[tuple[str, int]], entities: Entities) -> Iterator[bytes]:
    def row(name: str, place: int) -> tuple[str, ...]:
        entity = entities.all[place]
        rarity = next(iter(entity.rarities)) if len(entity.rarities) == 1 and entity.type == "disease" else ""
        return name, entity.type, rarity, "1" if name.casefold() in _GENERIC else "0"

    return _lines(("name", "type", "rarity", "generic"), (row(name, place) for name, place in nodes))


def _edge_lines(store: Store, entities: Entities, counts: dict[str, Counter[str]]) -> Iterator[bytes]:
    """Sorted by (head, relation, tail, strength, provenance): SQLite sorts on disk what memory need not hold."""
    store.rows("create table name(id integer primary key, name text)")
    store.database.executemany(
        "insert into name values(?, ?)", ((place, entity.name) for place, entity in enumerate(entities.all))
    )
    store.rows(
        "create table line as select distinct "
        "case turned when 1 then t.name else h.name end as head, relation as relation, "
        "case turned when 1 then h.name else t.name end as tail, turned, strong, p.title as title, "
        "p.revision as revision, "
        "parameter from edge e join name h on h.id = e.head join name t on t.id = e.tail join page p on p.id = e.page"
    )
    cursor = store.rows(
        "select head, relation, tail, turned, max(strong), title, revision, parameter from line "
        "group by head, relation, turned, tail, title, revision, parameter "
        "order by head, relation, turned, tail, max(strong) desc, title, revision, parameter"
    )

    def rows() -> Iterator[tuple[str, ...]]:
        for head, relation, tail, turned, strong, title, revision, parameter in cursor:
            strength = "S" if strong else "W"
            counts[strength][relation] += 1
            yield head, _INVERSE_OF[relation] if turned else relation, tail, strength, title, revision, parameter

    return _lines(("head", "relation", "tail", "strength", "title", "revision", "parameter"), rows())


def _notes(store: Store, entities: Entities) -> list[tuple[str, ...]]:
    """Of whom or when an edge holds, where a list said so ("Baby: ..")."""
    rows = store.rows("select distinct head, relation, tail, note from edge where note != ''")
    return sorted((entities.all[h].name, relation, entities.all[t].name, note) for h, relation, t, note in rows)


def _attribute_rows(store: Store, entities: Entities, counts: Counter[str]) -> Iterator[tuple[str, ...]]:
    """Attributes with their provenance, sorted, node by node: they are many, and SQLite sorts them on disk.

    `contradicted` where two sources give one quantity different values.
    """
    store.database.create_function(
        "name_of", 1, lambda key: entities.all[entities.of_page(key)].name, deterministic=True
    )
    rows = store.rows(
        "select distinct name_of(p.key), a.attribute, a.text, a.value, a.unit, a.population, a.year, p.title, "
        "p.revision, a.parameter from attribute a join page p on p.id = a.page order by 1"
    )
    for _, of_node in groupby(rows, key=itemgetter(0)):
        listed = list(of_node)
        told: dict[tuple[str, ...], dict[tuple[str, ...], set[str]]] = {}
        for row in listed:
            told.setdefault((row[1], *row[4:7]), {}).setdefault(row[7:], set()).add(row[3] or row[2].casefold())
        contradicted = {
            what for what, by_source in told.items() if len(by_source) > 1 and not set.intersection(*by_source.values())
        }
        counts["attributes"] += len(listed)
        yield from sorted((*row[:7], str(int((row[1], *row[4:7]) in contradicted)), *row[7:]) for row in listed)


def _lines(columns: tuple[str, ...], rows: Iterable[tuple]) -> Iterator[bytes]:
    yield ("\t".join(columns) + "\n").encode()
    for row in rows:
        yield ("\t".join(row) + "\n").encode()


def write_lines(path: Path, lines: Iterable[bytes]) -> None:
    with path.open("wb") as file:
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())


def publish(unfinished: Path, folder: Path, manifest: dict[str, Any]) -> None:
    """Move the finished files to their names. The old manifest goes first and the new one comes last.

    So a folder with a manifest is a whole one; a run killed in between leaves none, and the next makes all anew.
    """
    manifest = {**manifest, "files": {name: _sha256(unfinished / name) for name in FILES}}
    text = json.dumps(manifest, indent=1, ensure_ascii=False, sort_keys=False) + "\n"
    write_lines(unfinished / "manifest.json", [text.encode()])
    (folder / "manifest.json").unlink(missing_ok=True)
    for name in (*FILES, "manifest.json"):
        os.replace(unfinished / name, folder / name)
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return {name: counts[name] for name in sorted(counts)}
