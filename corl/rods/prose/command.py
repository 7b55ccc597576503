"""`corl rods triples PROSE --graph DIR --out DIR`: a graph with the edges that prose adds to it."""

import asyncio
import json
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from corl.data.items import write_whole
from corl.rods.graph import EMBEDDED, from_tables, read_tables
from corl.rods.prose.mentions import Mentions
from corl.rods.prose.merging import NewEdge, merge
from corl.rods.prose.passages import Passage, read_passages
from corl.rods.prose.reading import Triple, candidates, passage_messages, read_answer
from corl.rods.teachers.budget import OverBudget
from corl.rods.teachers.opening import TeacherPlan, open_teacher
from corl.rods.teachers.protocol import TeacherError
from corl.rods.teachers.running import in_order
from corl.rods.teachers.stored import StoredTeacher

FATES, REPORT, PARAMETER = "prose.jsonl", "prose.report.json", "prose"
_MAX_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class Found:
    """What a run added, and the lines to say about it."""

    edges: int
    stopped: bool
    lines: tuple[str, ...]


def triples_file(prose: str | Path, graph: str, out: str | Path, plan: TeacherPlan) -> Found:
    """Write the graph's tables with the new edges to `out`, and beside them what became of every triple (prose.jsonl)
    and passage (prose.report.json). The folder comes whole; one that an earlier run wrote is replaced.

    Raises ValueError for wrong inputs and for an `out` that holds something else.
    """
    folder = Path(__file__).parent.parent / EMBEDDED if graph == EMBEDDED else Path(graph)
    out = Path(out)
    if out.exists() and not (out / REPORT).is_file():
        raise ValueError(f"--out {out}: it is there and no run of this command wrote it; choose another --out")
    if out.resolve() == folder.resolve():
        raise ValueError(f"--out {out} is the graph itself; choose another --out")
    tables = read_tables(folder)
    loaded = from_tables(folder.name, tables)
    mentions = Mentions(loaded)
    passages = read_passages(prose)

    async def read(teacher: StoredTeacher, passage: Passage) -> tuple[str, list[Triple]]:
        nodes = candidates(passage, mentions)
        if (messages := passage_messages(passage, nodes, loaded)) is None:
            return "no two nodes", []
        try:
            key = f"triples:{passage.title}:{passage.revision}:{passage.number}"
            (answer,) = await teacher.complete(messages, key=key, temperature=0.0, max_tokens=_MAX_TOKENS)
        except OverBudget:
            return "budget", []
        except TeacherError as error:
            return f"failed: {error}", []
        return "read", read_answer(answer, passage, nodes, loaded, mentions)

    async def run() -> tuple[list[tuple[str, list[Triple]]], str]:
        async with open_teacher(plan) as teacher:
            done = await in_order(
                passages, lambda one: read(teacher, one), width=plan.width, teacher=teacher, purpose="prose"
            )
            return done, str(teacher.usage)

    done, usage = asyncio.run(run())
    triples = [(p, t) for p, (_, several) in zip(passages, done, strict=True) for t in several]
    new, fates = merge([(p, t) for p, t in triples if not t.reason], tables.edges)
    _write(folder, out, new, _fate_lines(triples, fates), _report(passages, done))
    read_tables(out)  # what was written loads
    outcomes = Counter(outcome.partition(":")[0] for outcome, _ in done)
    rejected = sum(bool(triple.reason) for _, triple in triples)
    strong = sum(edge.strong for edge in new)
    passages_told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
    lines = [
        usage,
        f"{out}: {len(new)} new edges ({strong} S, {len(new) - strong} W) of {len(triples)} triples; {rejected} "
        f"rejected, {fates.count('known')} known; passages: {passages_told or 'none'}",
    ]
    if outcomes["budget"]:
        lines.append("the token budget is spent; raise --token-budget and repeat the command to go on")
    return Found(len(new), bool(outcomes["budget"]), tuple(lines))


def _fate_lines(triples: Sequence[tuple[Passage, Triple]], fates: Sequence[str]) -> list[bytes]:
    following = iter(fates)
    records = [
        {
            "title": passage.title, "revision": passage.revision, "passage": passage.number, "head": triple.head,
            "relation": triple.relation, "tail": triple.tail, "evidence": triple.evidence,
            "outcome": f"rejected: {triple.reason}" if triple.reason else next(following),
        }
        for passage, triple in triples
    ]  # fmt: skip
    return [json.dumps(record, ensure_ascii=True).encode() + b"\n" for record in records]


def _report(passages: Sequence[Passage], done: Sequence[tuple[str, list[Triple]]]) -> bytes:
    told = [
        {"title": p.title, "revision": p.revision, "passage": p.number, "outcome": outcome, "triples": len(triples)}
        for p, (outcome, triples) in zip(passages, done, strict=True)
    ]
    return json.dumps({"passages": told}, ensure_ascii=False, indent=1).encode() + b"\n"


def _write(folder: Path, out: Path, new: Sequence[NewEdge], fates: list[bytes], report: bytes) -> None:
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        for table in sorted(folder.glob("*.tsv")):
            shutil.copyfile(table, temporary / table.name)
        write_whole(temporary / "edges.tsv", _edge_lines(folder / "edges.tsv", new))
        write_whole(temporary / FATES, fates)
        write_whole(temporary / REPORT, [report])
        if out.exists():
            shutil.rmtree(out)
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _edge_lines(path: Path, new: Sequence[NewEdge]) -> list[bytes]:
    """The graph's own lines, and the new edges in its columns; `evidence` becomes the last where there is none."""
    own = [line.rstrip("\r") for line in path.read_text(encoding="utf-8").split("\n")]
    columns = own[0].split("\t")
    added = [] if "evidence" in columns else ["evidence"]
    lines = [own[0] + "".join(f"\t{name}" for name in added)]
    lines += [line + "\t" * len(added) for line in own[1:] if line.strip()]
    for edge in new:
        head, relation, tail = edge.key
        passage = edge.passage
        values = {
            "head": head, "relation": relation, "tail": tail, "strength": "S" if edge.strong else "W",
            "title": passage.title, "revision": passage.revision, "parameter": PARAMETER,
            "source": f"{passage.title}@{passage.revision}#{PARAMETER}", "evidence": edge.evidence,
        }  # fmt: skip
        lines.append("\t".join(values.get(name, "") for name in [*columns, *added]))
    return [f"{line}\n".encode() for line in lines]
