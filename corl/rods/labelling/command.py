"""`corl rods label`: the label check by a teacher that the command line names."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from corl.rods.labelling.check import LabelReport, LabelSettings, check_labels
from corl.rods.teachers.opening import TeacherPlan, open_teacher


def label_files(
    files: Sequence[str | Path], out: Path, plan: TeacherPlan, *, trials: int, least_right: int, **sampling: float | int
) -> LabelReport:
    """`sampling`: temperature and max_tokens, where they are not the defaults. Raises as `check_labels` does."""

    async def run() -> LabelReport:
        async with open_teacher(plan) as teacher:
            settings = LabelSettings(
                name=teacher.source.model,
                trials=trials,
                least_right=least_right,
                seed=plan.seed,
                width=plan.width,
                **sampling,  # type: ignore[arg-type]
            )
            return await check_labels(files, out, teacher, settings)

    out.mkdir(parents=True, exist_ok=True)
    return asyncio.run(run())
