"""`corl rods sample`: exactly as many questions as were asked for, or the number that the graph can give.

Indices 0, 1, 2, .. are drawn in blocks, by several processes; the choice goes through the results in order of the
index. So the file depends on graph, settings, seed, language and number of items alone. It appears whole, at the end:
a run that was stopped leaves nothing and starts over.
"""

import hashlib
import itertools
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from corl.config.rods import RodsSample
from corl.data.items import write_whole
from corl.observe.progress import sample_bar
from corl.rods.graph import Graph, Ints, load_graph
from corl.rods.sampling.corpus import count_mentions
from corl.rods.sampling.drawing import Block, Drawing, draw_block, finish_batch
from corl.rods.sampling.draws import Draws
from corl.rods.sampling.manifest import Order, manifest, write_manifest
from corl.rods.sampling.rarity import rare_nodes, rarity_scores, seed_weights
from corl.rods.sampling.selection import Candidates, Effort, Selection, Supply, letters, most_items
from corl.rods.sampling.sources import Sources
from corl.rods.sampling.workers import Workers

BATCH = 1024  # items that a worker finishes at a time


@dataclass(slots=True)
class Chosen:
    """The chosen questions in order, and what the draws came to."""

    draws: list[Draws] = field(default_factory=list)
    drawn: int = 0
    rejected: Counter[str] = field(default_factory=Counter)


class _Unfit(Exception):
    """Chosen questions that, once worded, cannot stand: the reason by the index of the draw."""

    def __init__(self, reasons: dict[int, str]) -> None:
        super().__init__(reasons)
        self.reasons = reasons


def sample_items(
    graph_name: str | Path,
    out: str | Path,
    *,
    items: int,
    seed: int = 0,
    lang: str = "en",
    workers: int = 1,
    settings: RodsSample | None = None,
    public: Sequence[str | Path] = (),
    effort: Effort | None = None,
    start_method: str | None = None,
) -> dict[str, Any]:
    """Write `items` questions to `out` and what they were made from to `out`.manifest.json; returns the latter.

    Raises ValueError when the graph cannot give so many, naming the number it can give, and for wrong inputs; `out` is
    then left as it was.
    """
    out, settings, effort = Path(out), settings or RodsSample(), effort or Effort()
    _check_call(out, items, workers)
    graph = load_graph(graph_name)
    if lang == "zh" and not any(graph.names_zh):
        raise ValueError(f"graph {graph_name}: no node has a name_zh; sample it with --lang en")
    mentions, hashes = count_mentions(graph, public) if public else (None, {})
    rarity = rarity_scores(graph, mentions)
    sources = Sources(graph, settings, seed, seed_weights(graph, rarity, settings.rarity_weight))
    drawing = Drawing(sources, lang, rare_nodes(graph), rarity)
    # What the graph gives on demand is made here, so that forked workers share it.
    draw_block(drawing, (0, min(effort.block, 64)))
    order = Order(items, seed, lang, settings, hashes)
    with Workers(workers, drawing, start_method) as pool:
        chosen, digest, counts = _choose_and_write(pool, out, graph, order, effort)
    content = manifest(out, digest, graph, order, counts, chosen.drawn, chosen.rejected)
    write_manifest(out, content)
    return content


def _choose_and_write(
    pool: Workers[Drawing], out: Path, graph: Graph, order: Order, effort: Effort
) -> tuple[Chosen, str, dict[str, Counter[str]]]:
    """What was chosen, the file's sha256 and the counts of its items by kind.

    Only chosen questions are worded. That they read differently follows from what they say, and a phrasing that gives
    an answer away gives way to another. So one that reads like an earlier one after all (two words for one thing in
    the templates), or whose every phrasing tells, is as good as never met: then all is done again without it.
    """
    unfit: dict[int, str] = {}
    while True:
        chosen = _choose(pool, graph, order, effort, unfit)
        try:
            return chosen, *_write(pool, out, chosen, order)
        except _Unfit as found:
            unfit |= found.reasons


def _choose(pool: Workers[Drawing], graph: Graph, order: Order, effort: Effort, unfit: dict[int, str]) -> Chosen:
    selection, supply, chosen = Selection.of(order.items, order.settings), Supply(effort), Chosen()
    found: list[Candidates] = []
    spans = ((start, start + effort.block) for start in itertools.count(0, effort.block))
    with (
        closing(pool.map(draw_block, spans)) as blocks,
        sample_bar("choosing", order.items, shown=True) as bar,
    ):
        for block in blocks:
            if unfit:
                block = block.without(unfit)
            rows = selection.take(block.candidates)
            _keep(chosen, block, rows, effort.block)
            bar.update(len(rows))
            if selection.full:
                break
            found.append(block.candidates)
            supply.add(block.candidates)
            if supply.ended(order.items):
                _refuse(graph, order, effort, found, selection)
    chosen.rejected.update(selection.rejected)
    # Questions behind the last one that was needed
    chosen.rejected["not_needed"] = chosen.drawn - order.items - chosen.rejected.total()
    return chosen


def _keep(chosen: Chosen, block: Block, rows: list[int], drawn: int) -> None:
    chosen.draws.append(block.draws.take(np.array(rows, np.int64)))
    chosen.drawn += drawn
    chosen.rejected.update(block.lost)


def _refuse(graph: Graph, order: Order, effort: Effort, found: list[Candidates], selection: Selection) -> None:
    most = most_items(found, order.items, order.settings, effort)
    drawn = len(found) * effort.block
    reasons = ", ".join(f"{reason} {count}" for reason, count in selection.rejected.most_common())
    way_out = f"ask for --n {most}" if most else "it has too few strong edges for a question"
    raise ValueError(
        f"--n {order.items}: graph {graph.name} can give {most} items with seed {order.seed}, --lang {order.lang} and "
        f"these settings; {way_out} (looked at {drawn} draws; passed over: {reasons or 'none'})"
    )


def _write(pool: Workers[Drawing], out: Path, chosen: Chosen, order: Order) -> tuple[str, dict[str, Counter[str]]]:
    """The file's sha256, and the counts of its items by kind.

    Raises _Unfit, and leaves no file, where two read alike or one tells its answer.
    """
    draws, places = Draws.join(chosen.draws), letters(order.seed, order.items, order.settings.options)
    digest = hashlib.sha256()
    counts: dict[str, Counter[str]] = {}
    first: dict[str, int] = {}  # the index that each text was drawn from

    def batches() -> Iterator[tuple[Draws, Ints]]:
        for start in range(0, order.items, BATCH):
            rows = np.arange(start, min(start + BATCH, order.items))
            yield draws.take(rows), places[rows]

    def lines() -> Iterator[bytes]:
        with (
            closing(pool.map(finish_batch, batches())) as finished,
            sample_bar("writing", order.items, shown=True) as bar,
        ):
            unfit: dict[int, str] = {}
            for batch in finished:
                for kind, tally in batch.counts.items():
                    counts.setdefault(kind, Counter()).update(tally)
                for text, index in zip(batch.questions, batch.indices, strict=True):
                    if first.setdefault(text, index) != index:
                        unfit[index] = "same_text"
                unfit.update(dict.fromkeys(batch.leaking, "leak"))
                for line in batch.lines:
                    digest.update(line)
                yield from batch.lines
                bar.update(len(batch.lines))
            if unfit:
                raise _Unfit(unfit)

    _remove_leftovers(out)
    write_whole(out, lines())
    return digest.hexdigest(), counts


def _check_call(out: Path, items: int, workers: int) -> None:
    if items < 1:
        raise ValueError(f"--n {items}: ask for 1 item or more")
    if workers < 1:
        raise ValueError(f"--workers {workers}: use 1 or more")
    if out.is_dir():
        raise ValueError(f"{out} is a folder; name a file")
    place = next(folder for folder in (out.absolute().parent, *out.absolute().parents) if folder.exists())
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise ValueError(f"{out} cannot be written ({place} is no folder that takes files); choose another place")


def _remove_leftovers(out: Path) -> None:
    """Half a file that a killed run left beside `out`; one that a living process is writing stays."""
    for path in out.absolute().parent.glob(f".{out.name}.*.tmp"):
        number = re.fullmatch(rf"\.{re.escape(out.name)}\.(\d+)\.tmp", path.name)
        if number and not _is_alive(int(number[1])):
            path.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
