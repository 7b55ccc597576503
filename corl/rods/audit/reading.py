"""The file and the graph it was made from."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from corl.data.items import Item
from corl.rods.graph import Graph, load_graph

SOURCE = "rods:"
_EMBEDDED = "embedded"


def read_rods_items(path: str | Path) -> list[Item]:
    """Items of `corl rods sample`, in file order; unlike `read_items` it takes an id twice, which is a finding here.

    Raises ValueError naming file and line for an unreadable file or line, an item of another source, and no items.
    """
    items: list[Item] = []
    try:
        file = open(path, "rb")  # noqa: SIM115
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); check the path") from error
    with file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                item = _item(json.loads(line.decode("utf-8-sig")))
            except UnicodeDecodeError as error:
                raise ValueError(f"{path}, line {number}: not UTF-8 ({error.reason}); convert the file") from error
            except RecursionError:
                raise ValueError(f"{path}, line {number}: nested too deep to be an item; remove the line") from None
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {number}: not JSON ({error.msg}); write one object a line") from error
            except (ValueError, TypeError) as error:
                raise ValueError(f"{path}, line {number}: {error}") from error
            if not item.source.startswith(SOURCE):
                raise ValueError(
                    f"{path}, line {number}: item {item.id!r} is of source {item.source!r}; "
                    f"the audit reads what `corl rods sample` writes ({SOURCE}...)"
                )
            items.append(item)
    if not items:
        raise ValueError(f"{path} holds no items; make some with `corl rods sample`")
    return items


def _item(record: Any) -> Item:
    if not isinstance(record, dict):
        raise ValueError("not an object; an item is one")
    names = [field.name for field in fields(Item)]
    if wrong := sorted(set(names) ^ set(record)):
        state = "missing" if wrong[0] in names else "unknown"
        raise ValueError(f"item {record.get('id')!r}: key {wrong[0]!r} is {state}; an item has {', '.join(names)}")
    return Item(**record)


def open_graph(path: str | Path, items: list[Item], given: str | None) -> Graph:
    """The graph `given`, else the embedded one where all items name it.

    Raises ValueError when items name no graph or several, when the named one must be given, and when its hash is not
    the items': against another graph every finding would be noise.
    """
    stated: dict[tuple[str, str], str] = {}
    for item in items:
        graph = item.meta.get("graph")
        if not isinstance(graph, dict) or not all(isinstance(graph.get(key), str) for key in ("name", "hash")):
            raise ValueError(f"{path}: item {item.id!r} has no meta.graph with name and hash; sample it again")
        stated.setdefault((graph["name"], graph["hash"]), item.id)
    if len(stated) > 1:
        (first, second), ids = list(stated)[:2], list(stated.values())
        raise ValueError(
            f"{path}: item {ids[0]!r} is of graph {_described(*first)}, item {ids[1]!r} of {_described(*second)}; "
            "audit the items of each graph in a file of their own"
        )
    name, expected = next(iter(stated))
    if given is None and name != _EMBEDDED:
        raise ValueError(f"{path}: its items are of graph {_described(name, expected)}; name its folder with --graph")
    graph = load_graph(given if given is not None else name)
    if graph.hash != expected:
        raise ValueError(
            f"{path}: its items are of graph {_described(name, expected)}, but {given or name} is "
            f"{_described(graph.name, graph.hash)}; give the graph they were made from"
        )
    return graph


def _described(name: str, digest: str) -> str:
    return f"{name!r} (hash {digest})"
