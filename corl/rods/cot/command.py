"""`corl rods distill ITEMS --out TRACES --teacher ..`: from files to files."""

import asyncio
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from corl.data.items import Item, read_items, write_traces, write_whole
from corl.rods.cot.distilling import BUDGET, TRACE, Distilling, Names, Outcome, distill
from corl.rods.cot.selection import pass_at
from corl.rods.graph import EMBEDDED, Graph, load_graph
from corl.rods.teachers.opening import TeacherPlan, open_teacher


@dataclass(frozen=True, slots=True)
class Distilled:
    """What a run wrote, and the lines to say about it."""

    traces: int
    stopped: bool  # by the token budget, before all items had their turn
    lines: tuple[str, ...]


def distill_file(
    path: str | Path, out: str | Path, plan: TeacherPlan, settings: Distilling, *, graph: str | None = None
) -> Distilled:
    """Traces to `out`, whole or not at all, and an account of every item to `out`.report.json.

    graph  whose names of the masked nodes are looked for; None: the embedded graph's, where the items name it
    Raises ValueError for wrong inputs and when no item gave a trace (the report is there then).
    """
    items = read_items(path)
    names = _bridge_names(items, graph)

    async def run() -> tuple[Any, Any, str, str]:
        async with open_teacher(plan) as teacher:
            traces, outcomes = await distill(items, teacher, settings, names=names, width=plan.width)
            return traces, outcomes, teacher.name, str(teacher.usage)

    traces, outcomes, teacher_name, usage = asyncio.run(run())
    report_path = Path(f"{out}.report.json")
    report = _report(items, outcomes, teacher_name, settings)
    write_whole(report_path, [json.dumps(report, ensure_ascii=False, indent=1).encode() + b"\n"])
    if not traces:
        reasons = Counter(outcome.how for outcome in outcomes).most_common(1)[0]
        raise ValueError(
            f"no item of {path} gave a trace; {reasons[1]} of {len(items)}: {reasons[0]}; {report_path} has them all"
        )
    write_traces(out, traces)
    how = ", ".join(f"{count} {name}" for name, count in report["traces"].items())
    lines = [
        f"{usage}",
        f"{out}: {len(traces)} traces of {len(items)} items ({how}); {report['failed']} failed, "
        f"{report['budget']} not reached by the budget; every item in {report_path}",
    ]
    if report["budget"]:
        lines.append("the token budget is spent; raise --token-budget and repeat the command to go on")
    return Distilled(len(traces), bool(report["budget"]), tuple(lines))


def _report(items: Sequence[Item], outcomes: Sequence[Outcome], teacher: str, settings: Distilling) -> dict[str, Any]:
    """Nothing of the run itself (times, retries): a run that was killed and one that was not report alike."""
    kinds = Counter(outcome.outcome for outcome in outcomes)
    how = Counter(outcome.how for outcome in outcomes if outcome.outcome == TRACE)
    asked = [outcome for outcome in outcomes if outcome.samples]
    rates = {
        str(k): round(sum(pass_at(k, o.samples, o.right) for o in asked) / len(asked), 4)
        for k in (1, 2, 4, 8, 16)
        if asked and k <= min(o.samples for o in asked)
    }
    return {
        "teacher": teacher,
        "settings": asdict(settings),
        "items": len(items),
        "traces": dict(sorted(how.items())),
        "failed": kinds["failed"],
        "budget": kinds[BUDGET],
        "pass@k": rates,
        "outcomes": [asdict(outcome) for outcome in outcomes],
    }


def _bridge_names(items: Sequence[Item], graph: str | None) -> dict[str, Names] | None:
    masked = [item for item in items if item.meta.get("masked")]
    if graph is None:
        graphs = [item.meta.get("graph") for item in masked]
        named = any(isinstance(one, Mapping) and one.get("name") == EMBEDDED for one in graphs)
        graph = EMBEDDED if named else None
    if graph is None:
        return None
    loaded = load_graph(graph)
    return {
        item.id: {name: node_names(loaded, name) for name in item.meta["masked"] if isinstance(name, str)}
        for item in masked
        if isinstance(item.meta["masked"], list)
    }


def node_names(graph: Graph, name: str) -> tuple[str, ...]:
    """All names of a node in both languages; a name that the graph does not have stands for itself."""
    node = graph.ids.get(name)
    if node is None:
        return (name,)
    every = (name, graph.names_zh[node], *graph.aliases_en[node], *graph.aliases_zh[node])
    return tuple(dict.fromkeys(each for each in every if each))
