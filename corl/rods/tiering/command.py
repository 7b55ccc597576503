"""`corl rods tier`: tiers by one method, and how the methods that have judged a file agree."""

import asyncio
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from corl.data.checking import check_places
from corl.data.items import read_items, write_items
from corl.rods.filtering.manifest import inputs, versions, write_json
from corl.rods.teachers.opening import TeacherPlan, open_teacher
from corl.rods.tiering.agreement import compare, describe_agreement
from corl.rods.tiering.assign import Verdict, apply, by_formula, by_pass_rate, read_difficulty
from corl.rods.tiering.attempts import read_attempts
from corl.rods.tiering.rubric import RubricSettings, by_rubric


def tier_file(
    file: str | Path,
    out: Path,
    method: str,
    *,
    pass_rates: str | Path | None = None,
    plan: TeacherPlan | None = None,
    config: str | Path | None = None,
    votes: int = 3,
    with_agreement: bool = False,
) -> Iterator[str]:
    """Write the items with the method's tiers, and OUT.manifest.json; yields what to print.

    Raises ValueError, with no items written, when the method's own input is missing or it says nothing of any item.
    """
    manifest = out.with_name(f"{out.name}.manifest.json")
    check_places([file, *([pass_rates] if pass_rates else [])], [out, manifest])
    items = read_items(file)
    if method == "pass_rate":
        if pass_rates is None:
            raise ValueError(
                "--method pass_rate needs --pass-rates: a run's folder, a pool.npz, rollouts or answers.jsonl"
            )
        verdicts = by_pass_rate(items, read_attempts(pass_rates))
    elif method == "llm":
        if plan is None:
            raise ValueError("--method llm needs --teacher URL|MODEL_DIR")
        verdicts = asyncio.run(_asked(file, out, plan, votes))
    else:
        verdicts = by_formula(items, read_difficulty(config))
    tiered, report = apply(items, method, verdicts)
    if not report.tiered:
        raise ValueError(f"{file}: {report.note.split(';')[0]}; {out} was not written")
    pairs = compare(tiered) if with_agreement else []
    manifest.unlink(missing_ok=True)
    write_items(out, tiered)
    record = {"inputs": inputs([file]), "method": method, "versions": versions()} | asdict(report)
    write_json(manifest, record | {"agreement": [asdict(pair) for pair in pairs], "files": inputs([out])})
    if report.note:
        yield f"note: {report.note}"
    if with_agreement:
        yield from describe_agreement(pairs)
    tiers = ", ".join(f"{tier} {count}" for tier, count in report.tiers.items())
    yield f"{out}: {report.items} items = tiered {report.tiered} + left {report.left}; now {tiers}"


def agreement_lines(file: str | Path) -> Iterator[str]:
    """How the methods that have judged a file's items agree."""
    yield from describe_agreement(compare(read_items(file)))


async def _asked(file: str | Path, out: Path, plan: TeacherPlan, votes: int) -> list[Verdict]:
    items = read_items(file)
    async with open_teacher(plan) as teacher:
        settings = RubricSettings(name=teacher.source.model, votes=votes, seed=plan.seed, width=plan.width)
        return await by_rubric(items, teacher, out.with_name(f"{out.name}.votes.jsonl"), settings)
