"""The graph's files: nodes.tsv, aliases.tsv, edges.tsv in one folder, read and checked line by line.

nodes.tsv    name, type [, name_zh, rarity, generic]
aliases.tsv  name, alias [, lang, kind]; the file may be absent
edges.tsv    head, relation, tail, strength [, line] and either `source` or `title, revision, parameter`

The first line names the columns, in any order; further columns are left alone. An edge under an inverse name
(indicated_for) is read backwards under its relation's first name; S wins over W where an edge stands there as both.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from corl.rods.graph.schema import INVERSES, NODE_TYPES, RARITIES, RELATIONS

UNSOURCED = "unsourced"


@dataclass(frozen=True, slots=True)
class Node:
    name: str
    type: str
    name_zh: str = ""
    rarity: str = ""  # "" where nobody stated one
    generic: bool = False  # too unspecific to be a clue
    aliases_en: tuple[str, ...] = ()
    aliases_zh: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Edge:
    head: str
    relation: str
    tail: str
    strong: bool
    first_line: bool = False
    source: str = UNSOURCED


@dataclass(slots=True)
class Tables:
    """Checked rows, in file order, each node and each edge once."""

    nodes: dict[str, Node] = field(default_factory=dict)
    edges: dict[tuple[str, str, str], Edge] = field(default_factory=dict)


def read_tables(folder: str | Path) -> Tables:
    """Read and check a graph folder.

    Raises ValueError naming file and line for an unreadable file, a missing column, an empty name, an unknown type,
    relation, strength or rarity, an end that is no node or whose type the relation does not allow, a node named twice
    and a head with two tails of a functional relation.
    """
    folder = Path(folder)
    rows: dict[str, dict[str, str]] = {}
    for where, row in _rows(folder / "nodes.tsv", ("name", "type")):
        name = row["name"]
        if row["type"] not in NODE_TYPES:
            raise ValueError(f"{where}: unknown type {row['type']!r}; use one of {', '.join(NODE_TYPES)}")
        if name in rows:
            raise ValueError(f"{where}: node {name!r} stands here twice; remove one line")
        if (rarity := row.get("rarity", "")) and rarity not in RARITIES:
            raise ValueError(f"{where}: unknown rarity {rarity!r}; use one of {', '.join(RARITIES)}, or leave it empty")
        if row.get("generic", "") not in ("", "0", "1"):
            raise ValueError(f"{where}: generic is {row['generic']!r}; use 0 or 1")
        rows[name] = row
    aliases = _read_aliases(folder / "aliases.tsv", rows)
    tables = Tables()
    for name, row in rows.items():
        tables.nodes[name] = Node(
            name=name,
            type=row["type"],
            name_zh=row.get("name_zh", ""),
            rarity=row.get("rarity", ""),
            generic=row.get("generic", "") == "1",
            aliases_en=tuple(aliases.get((name, "en"), ())),
            aliases_zh=tuple(aliases.get((name, "zh"), ())),
        )
    _read_edges(folder / "edges.tsv", tables)
    return tables


def _read_aliases(path: Path, nodes: dict[str, dict[str, str]]) -> dict[tuple[str, str], list[str]]:
    aliases: dict[tuple[str, str], list[str]] = {}
    if not path.exists():
        return aliases
    for where, row in _rows(path, ("name", "alias")):
        if row["name"] not in nodes:
            raise ValueError(f"{where}: {row['name']!r} is no node; add it to nodes.tsv or remove the line")
        lang = row.get("lang", "") or "en"
        if lang not in ("en", "zh"):
            raise ValueError(f"{where}: unknown lang {lang!r}; use en or zh")
        listed = aliases.setdefault((row["name"], lang), [])
        if row["alias"] not in listed and row["alias"] != row["name"]:
            listed.append(row["alias"])
    return aliases


def _read_edges(path: Path, tables: Tables) -> None:
    only_tail: dict[tuple[str, str], str] = {}
    for where, row in _rows(path, ("head", "relation", "tail", "strength")):
        head, relation, tail = row["head"], row["relation"], row["tail"]
        if relation in INVERSES:
            head, relation, tail = tail, INVERSES[relation], head
        if relation not in RELATIONS:
            raise ValueError(f"{where}: unknown relation {relation!r}; use one of {', '.join((*RELATIONS, *INVERSES))}")
        rule = RELATIONS[relation]
        for role, name, allowed in (("head", head, rule.domain), ("tail", tail, rule.range)):
            if name not in tables.nodes:
                raise ValueError(f"{where}: {role} {name!r} is no node; add it to nodes.tsv or correct the name")
            if (its_type := tables.nodes[name].type) not in allowed:
                raise ValueError(
                    f"{where}: {role} {name!r} has type {its_type}; {relation} allows {', '.join(allowed)}"
                )
        if head == tail:
            raise ValueError(f"{where}: {head!r} {relation} itself; remove the line")
        if row["strength"] not in ("S", "W"):
            raise ValueError(f"{where}: strength is {row['strength']!r}; use S (strong) or W (weak)")
        strong = row["strength"] == "S"
        if rule.functional and strong and only_tail.setdefault((head, relation), tail) != tail:
            other = only_tail[head, relation]
            raise ValueError(f"{where}: {head!r} {relation} {tail!r}, but also {other!r}; it can have one; remove one")
        if row.get("line", "") not in ("", "1"):
            raise ValueError(f"{where}: line is {row['line']!r}; use 1 for first-line, or leave it empty")
        key = (min(head, tail), relation, max(head, tail)) if rule.symmetric else (head, relation, tail)
        if (known := tables.edges.get(key)) and (known.strong or not strong):
            continue
        tables.edges[key] = Edge(*key, strong, row.get("line", "") == "1", _source(row))


def _source(row: dict[str, str]) -> str:
    if title := row.get("title", ""):
        parameter = f"#{row['parameter']}" if row.get("parameter", "") else ""
        return f"{title}@{row.get('revision', '')}{parameter}"
    return row.get("source", "") or UNSOURCED


def _rows(path: Path, required: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    """("file, line n", row) of every row; the `required` columns are there and filled."""
    try:
        file = path.open(encoding="utf-8", newline="\n")
    except OSError as error:
        raise ValueError(
            f"{path} cannot be read ({error.strerror}); give a folder with nodes.tsv and edges.tsv"
        ) from error
    with file:
        columns: list[str] = []
        try:
            for number, line in enumerate(file, 1):
                where, fields = f"{path}, line {number}", line.rstrip("\r\n").split("\t")
                if not columns:
                    columns = fields
                    if missing := [name for name in required if name not in columns]:
                        raise ValueError(f"{where}: no column {', '.join(missing)}; the first line names the columns")
                    continue
                if not line.strip():
                    continue
                if len(fields) != len(columns):
                    raise ValueError(f"{where}: {len(fields)} fields, the first line has {len(columns)}")
                row = dict(zip(columns, fields, strict=True))
                for name in required:
                    if not row[name] or row[name] != row[name].strip():
                        raise ValueError(f"{where}: {name} is {row[name]!r}; it must be filled and trimmed")
                yield where, row
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from error
        if not columns:
            raise ValueError(f"{path} is empty; the first line must name the columns, {', '.join(required)} among them")
