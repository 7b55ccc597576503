"""Items and traces as a person reads them."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from corl.data.items import Item, read_items, read_traces


def shown(path: str | Path, *, count: int = 10) -> Iterator[str]:
    """The first `count` items or traces of a file, line by line; the right option is marked.

    Raises ValueError as read_items and read_traces do.
    """
    if _holds_traces(Path(path)):
        for trace in islice(read_traces(path), count):
            yield from _lines(trace.item)
            yield from (f"    {line}" for line in trace.completion.splitlines())
            yield ""
        return
    for item in islice(read_items(path), count):
        yield from _lines(item)
        yield ""


def _holds_traces(path: Path) -> bool:
    """Whether the first line is a trace; what is no file or no JSON is left for the reader to name."""
    if not path.is_file():
        return False
    with path.open(encoding="utf-8", errors="replace") as file:
        first = next((line for line in file if line.strip()), "")
    try:
        row = json.loads(first)
    except ValueError:
        return False
    return isinstance(row, dict) and "completion" in row


def _lines(item: Item) -> Iterator[str]:
    kind = " ".join(str(part) for part in (item.meta.get("shape"), item.difficulty) if part)
    yield f"[{kind or item.source}] {item.question}"
    right = item.answer.split(",")
    yield "    " + "   ".join(f"{'*' if k in right else ''}{k}. {text}" for k, text in item.options.items())
