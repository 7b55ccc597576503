"""`corl rods rephrase ITEMS --out FILE`: every item, its question rephrased where that is proven to be harmless."""

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from corl.data.items import Item, read_items, write_items, write_whole
from corl.rods.audit.reading import open_graph
from corl.rods.rephrasing.recheck import Recheck
from corl.rods.teachers.budget import OverBudget
from corl.rods.teachers.opening import TeacherPlan, open_teacher
from corl.rods.teachers.protocol import Message, TeacherError
from corl.rods.teachers.running import in_order
from corl.rods.teachers.stored import StoredTeacher

REPHRASED, NOT_MADE, BUDGET = "rephrased", "not of a graph", "budget"
_MAX_TOKENS = 1024
_SYSTEM = {
    "en": (
        "You edit exam questions. Rephrase the question so that it reads as a clinician would write it. Keep every "
        "fact and every medical name exactly as it is spelt, keep what is asked and every negation, and add nothing: "
        "no other finding, disease, drug, number, age or sex. Reply with the question alone, in one line."
    ),
    "zh": (
        "你负责修改考题的措辞。请像临床医生出题那样改写题干。保留每一条信息和每一个医学名称的原有写法，保留所问的内容和"
        "所有否定，不要添加任何内容：不得增加其他表现、疾病、药物、数字、年龄或性别。只回复改写后的题干，写成一行。"
    ),
}


@dataclass(frozen=True, slots=True)
class Rephrased:
    """How many questions were rephrased, and the lines to say about it."""

    rephrased: int
    stopped: bool
    lines: tuple[str, ...]


def rephrase_file(
    path: str | Path, out: str | Path, plan: TeacherPlan, *, graph: str | None = None, temperature: float = 0.7
) -> Rephrased:
    """All items to `out`, in order; meta.rephrased of the changed ones holds teacher and template. `out`.report.json
    says of every item what became of it. Raises ValueError for wrong inputs and items of another graph.
    """
    items = read_items(path)
    made = [item for item in items if item.meta.get("shape")]
    if not made:
        raise ValueError(f"{path}: no item has meta.shape; only items of `corl rods sample` can be rechecked")
    if Path(out).resolve() == Path(path).resolve():
        raise ValueError(f"--out {out} is the file of the items; choose another --out")
    recheck = Recheck(open_graph(path, made, graph))

    async def one(teacher: StoredTeacher, item: Item) -> tuple[Item, str]:
        if not item.meta.get("shape"):
            return item, NOT_MADE
        try:
            (text,) = await teacher.complete(
                _messages(item), key=f"rephrase:{item.id}", temperature=temperature, max_tokens=_MAX_TOKENS
            )
        except OverBudget:
            return item, BUDGET
        except TeacherError as error:
            return item, f"failed: {error}"
        question = text.rpartition("</think>")[2].strip().strip('"“”').strip()
        if not question or question == item.question:
            return item, "kept: nothing new"
        meta = item.meta | {"rephrased": {"teacher": teacher.name, "template": item.question}}
        changed = replace(item, question=question, meta=meta)
        problem = recheck.problem(item, changed)
        return (changed, REPHRASED) if problem is None else (item, f"kept: {problem}")

    async def run() -> tuple[list[tuple[Item, str]], str]:
        async with open_teacher(plan) as teacher:
            done = await in_order(
                items, lambda item: one(teacher, item), width=plan.width, teacher=teacher, purpose="rephrase"
            )
            return done, str(teacher.usage)

    done, usage = asyncio.run(run())
    report = {"items": len(items), "outcomes": [{"id": item.id, "outcome": outcome} for item, outcome in done]}
    write_whole(f"{out}.report.json", [json.dumps(report, ensure_ascii=True, indent=1).encode() + b"\n"])
    write_items(out, (item for item, _ in done))
    counts = Counter(outcome.partition(":")[0] for _, outcome in done)
    told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
    lines = [usage, f"{out}: {len(items)} items; {told}; every item in {out}.report.json"]
    if counts[BUDGET]:
        lines.append("the token budget is spent; raise --token-budget and repeat the command to go on")
    return Rephrased(counts[REPHRASED], bool(counts[BUDGET]), tuple(lines))


def _messages(item: Item) -> list[Message]:
    lang = "zh" if item.lang.lower().split("-")[0] == "zh" else "en"
    return [{"role": "system", "content": _SYSTEM[lang]}, {"role": "user", "content": item.question}]
