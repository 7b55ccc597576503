"""Walks, proofs and finished items a second on invented graphs, and pages a second of an invented dump.

    python -m bench.rods [--nodes 100000 1000000] [--items 100000] [--dumps 2000 2000+100000 16000] --out FILE.jsonl

Each part runs in a process of its own, so that its peak memory is its own. Walks and proofs stand beside what is
written without arrays: the same walk over lists, the same proof over sets, on the same graph and core. Items are the
whole command, start included, with two workers. Peak memory is of the largest process. A dump is told by its diseases,
or as diseases+others with so many pages of no medicine among them: memory follows the graph, never the size of the
dump. Appends a line of JSON per measurement to --out and draws a picture beside it.
"""

import argparse
import json
import multiprocessing
import random
import resource
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from corl.config.rods import RodsSample
from corl.rods.graph import Graph, reverse, step_of, synthetic_graph
from corl.rods.sampling.draws import SHAPES
from corl.rods.sampling.keyed import pick, uniform
from corl.rods.sampling.rarity import rarity_scores, seed_weights
from corl.rods.sampling.sample import sample_items
from corl.rods.sampling.shapes import draw_questions
from corl.rods.sampling.sources import Sources
from corl.rods.sampling.walk import hop

# Finding -> disease -> drug -> side effect.
PATH = (step_of("has_symptom", "in"), step_of("treated_with_drug"), step_of("has_side_effect"))
CLUES = (step_of("has_symptom"), step_of("has_sign"), step_of("has_lab_finding"))
WALKS, RIVAL_WALKS, DRAWS, RIVAL_PROOFS = 1_000_000, 100_000, 8192, 20_000

Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--dumps", nargs="*", default=["2000", "2000+100000", "16000"], help="none: no dump")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.jsonl")
    options = parser.parse_args()
    import torch  # here: the measuring processes need none of it

    from bench.report import environment

    machine = environment(torch.device("cpu"))
    rows: list[Row] = []
    jobs: list[tuple[str, Callable[[], list[Row]]]] = []
    for nodes in options.nodes:
        jobs += [
            (f"graph of {nodes} nodes", partial(measure_graph, nodes)),
            (f"walks over {nodes} nodes", partial(measure_walks, nodes)),
            (f"proofs over {nodes} nodes", partial(measure_proofs, nodes)),
            (f"items from {nodes} nodes", partial(measure_items, nodes, options.items)),
        ]
    for told in options.dumps:
        diseases, _, others = told.partition("+")
        jobs.append((f"dump of {told}", partial(measure_dump, int(diseases), int(others or 0))))
    for name, job in jobs:
        print(f"{name} ..", flush=True)
        for row in in_own_process(job):
            print("   " + "  ".join(f"{key} {value:,.3g}" if isinstance(value, float) else f"{key} {value}"
                                    for key, value in row.items()), flush=True)  # fmt: skip
            rows.append(row)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps({**machine, **row}) + "\n" for row in rows)
    draw(rows, options.out.with_suffix(".png"))


def in_own_process(job: Callable[[], list[Row]]) -> list[Row]:
    """The job's rows, each with the peak resident memory of the job's largest process in megabytes."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=_report, args=(job, sender))
    process.start()
    sender.close()
    try:
        rows = receiver.recv()
    except EOFError:
        raise SystemExit(f"the measuring process ended without a result (exit code {process.exitcode})") from None
    process.join()
    return rows


def _report(job: Callable[[], list[Row]], sender: Connection) -> None:
    rows = job()
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    peak = max(resource.getrusage(kind).ru_maxrss for kind in kinds) / 1024
    sender.send([{**row, "peak_mb": round(peak)} for row in rows])


def measure_graph(nodes: int) -> list[Row]:
    """Both directions, strong edges and all: what every command makes first."""
    graph = synthetic_graph(nodes)
    start = time.process_time()
    sizes = (graph.any.keys.size, graph.strong.keys.size)
    spent = time.process_time() - start
    return [{"part": "graph", "nodes": nodes, "edges": graph.heads.size, "entries": sum(sizes), "cpu_s": spent}]


def measure_walks(nodes: int) -> list[Row]:
    """Walks of three steps a second, beside the same over lists."""
    graph = synthetic_graph(nodes)
    adjacency, finding = graph.any, graph.of_type("symptom")
    indices = np.arange(WALKS)
    starts = finding[pick(0, "start", indices, np.full(WALKS, finding.size))]
    start = time.process_time()
    at = starts
    for slot, step in enumerate(PATH):
        at = hop(adjacency, at, np.full(WALKS, step), uniform(0, "walk", indices, slot))
    ours = time.process_time() - start
    arrived = int((at >= 0).sum())

    lists = [_lists(graph, step) for step in PATH]
    rng = random.Random(0)
    start, reached = time.process_time(), 0
    for node in starts[:RIVAL_WALKS].tolist():
        for targets in lists:
            if not (ends := targets.get(node)):
                break
            node = rng.choice(ends)
        else:
            reached += 1
    theirs = time.process_time() - start
    rates = WALKS / ours, RIVAL_WALKS / theirs
    shares = {"arrived": arrived / WALKS, "rival_arrived": reached / RIVAL_WALKS}
    return [_beside("walks of 3 steps", nodes, rates, "lists") | shares]


def measure_proofs(nodes: int) -> list[Row]:
    """Uniqueness of three clues beside sets; and questions of every shape, drawn, proven and given wrong options."""
    graph = synthetic_graph(nodes)
    sources = Sources(graph, RodsSample(), 0, seed_weights(graph, rarity_scores(graph), 0.7))
    diseases = graph.of_type("disease")
    indices = np.arange(DRAWS * 8)
    chosen = diseases[pick(0, "disease", indices, np.full(indices.size, diseases.size))]
    clues = np.column_stack([hop(graph.strong, chosen, np.full(chosen.size, step), uniform(0, "clue", indices, step))
                             for step in CLUES])  # fmt: skip
    clues = clues[(clues >= 0).all(1)]

    start = time.process_time()
    count = holders_of_all(graph, clues)
    ours = time.process_time() - start
    sets = [{tail: set(heads) for tail, heads in _lists(graph, int(reverse(np.array([step]))[0])).items()}
            for step in CLUES]  # fmt: skip
    start = time.process_time()
    again = [len(sets[0][a] & sets[1][b] & sets[2][c]) for a, b, c in clues[:RIVAL_PROOFS].tolist()]
    theirs = time.process_time() - start
    assert again == count[: len(again)].tolist(), "the two ways of counting disagree"
    rows = [_beside("proofs of 3 clues", nodes, (len(clues) / ours, len(again) / theirs), "sets")]

    for shape in SHAPES:
        draw_questions(sources, shape, np.arange(64), np.zeros(64, np.int64))  # what is made on demand
        start = time.process_time()
        proven = draw_questions(sources, shape, np.arange(DRAWS), np.zeros(DRAWS, np.int64))
        spent = time.process_time() - start
        rates = {"draws_per_s": DRAWS / spent, "rate": len(proven) / spent}
        rows.append({"part": f"questions: {shape}", "nodes": nodes, **rates, "proven": len(proven) / DRAWS})
    return rows


def holders_of_all(graph: Graph, clues: np.ndarray) -> np.ndarray:
    """[n] how many diseases hold all three clues: those of the rarest one, each looked up under the others."""
    back = reverse(np.array(CLUES))
    sizes = np.column_stack([graph.any.slices(clues[:, k], int(back[k]))[1] for k in range(3)])
    rarest = sizes.argmin(1)
    rows, holders = graph.any.expand(clues[np.arange(len(clues)), rarest], back[rarest])
    all_three = np.ones(rows.size, bool)
    for k in range(3):
        all_three &= graph.any.has(holders, CLUES[k], clues[rows, k])
    return np.bincount(rows[all_three], minlength=len(clues))


def measure_items(nodes: int, items: int) -> list[Row]:
    """The whole of `corl rods sample` with two workers, in wall seconds."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        sample_items(f"synthetic:{nodes}", Path(folder) / "items.jsonl", items=items, workers=2)
        spent = time.perf_counter() - start
    return [{"part": "items", "nodes": nodes, "items": items, "wall_s": spent, "rate": items / spent}]


def measure_dump(diseases: int, others: int) -> list[Row]:
    """Pages of a dump a second with two workers, in wall seconds."""
    from corl.rods.extraction.extract import extract
    from corl.rods.extraction.synthetic_dump import write_dump

    with tempfile.TemporaryDirectory() as folder:
        dump = Path(folder) / "dump.xml"
        write_dump(dump, diseases=diseases, others=others)
        start = time.perf_counter()
        found = extract(dump, Path(folder) / "graph", workers=2)
        spent = time.perf_counter() - start
        size = dump.stat().st_size / 1e6
    what = {"diseases": diseases, "others": others, "nodes": sum(found.nodes.values()), "pages": found.pages}
    return [{"part": "dump", **what, "dump_mb": size, "wall_s": spent, "rate": found.pages / spent}]


def draw(rows: list[Row], path: Path) -> None:
    """What is done a second, by part and size."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    timed = [row for row in rows if "rate" in row]
    names = [f"{row['part']}, {row['nodes']:,} nodes{_others(row)}" for row in timed]
    figure, axes = plt.subplots(figsize=(9, 0.32 * len(timed) + 1.2))
    axes.barh(range(len(timed)), [row["rate"] for row in timed], color="#4c72b0", label="corl")
    rivals = [(index, row["rival_rate"]) for index, row in enumerate(timed) if "rival_rate" in row]
    axes.plot([rate for _, rate in rivals], [index for index, _ in rivals], "k|", markersize=14, label="lists, sets")
    axes.set_yticks(range(len(timed)), names)
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel="a second (walks, proofs, questions: of one core; items, pages: of two)")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _others(row: Row) -> str:
    return f", {row['others']:,} other pages" if row.get("others") else ""


def _beside(part: str, nodes: int, rates: tuple[float, float], rival: str) -> Row:
    ours, theirs = rates
    return {"part": part, "nodes": nodes, "rate": ours, "rival": rival, "rival_rate": theirs, "ratio": ours / theirs}


def _lists(graph: Graph, step: int) -> dict[int, list[int]]:
    """node -> its targets under the step, as plain lists."""
    nodes = np.arange(len(graph))
    owner, targets = graph.any.expand(nodes, step)
    found: dict[int, list[int]] = defaultdict(list)
    for node, target in zip(owner.tolist(), targets.tolist(), strict=True):
        found[node].append(target)
    return dict(found)


if __name__ == "__main__":
    main()
