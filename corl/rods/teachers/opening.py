"""A teacher by what the command line says of it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corl.rods.teachers.pace import Patience
from corl.rods.teachers.store import RequestStore
from corl.rods.teachers.stored import Source, StoredTeacher


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherPlan:
    """Who answers, and at what cost.

    teacher       a URL (http..) of an OpenAI-compatible endpoint, or a Hugging Face directory for our own engine
    model         the endpoint's name for the model
    store         the sqlite file of answered requests
    concurrency   requests under way together, at an endpoint; samples decoded together, of a local model
    token_budget  prompt and completion tokens of all requests that the store holds; None: no end
    request       further fields of a request, as a JSON object
    """

    teacher: str
    model: str | None = None
    store: str
    concurrency: int | None = None
    timeout_s: float = 300.0
    retries: int = 6
    token_budget: int | None = None
    seed: int = 0
    request: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    dtype: str | None = None
    retry_wait_s: float = 1.0

    def __post_init__(self) -> None:
        bounds = {"concurrency": 1, "retries": 0, "token_budget": 1, "timeout_s": 0.001, "retry_wait_s": 0}
        for name, least in bounds.items():
            value = getattr(self, name)
            if value is not None and not least <= value < float("inf"):
                raise ValueError(f"--{name.removesuffix('_s').replace('_', '-')} {value} must be at least {least}")
        if self.is_url and self.model is None:
            raise ValueError(f"--teacher {self.teacher}: name the endpoint's model with --model")
        if not self.is_url and not Path(self.teacher).is_dir():
            raise ValueError(f"--teacher {self.teacher}: give a URL (http://..) or a Hugging Face directory")
        self.fields()

    @property
    def is_url(self) -> bool:
        return self.teacher.startswith(("http://", "https://"))

    @property
    def width(self) -> int:
        """Pieces of work under way together: enough to keep every seat taken."""
        return 2 * self.seats

    @property
    def seats(self) -> int:
        return self.concurrency or (16 if self.is_url else 32)

    def fields(self) -> dict[str, Any]:
        try:
            fields = json.loads(self.request or "{}")
        except ValueError as error:
            raise ValueError(f"--request {self.request}: not JSON ({error})") from error
        if not isinstance(fields, dict):
            raise ValueError(f'--request {self.request}: give a JSON object, as {{"top_p": 0.95}}')
        return fields


@asynccontextmanager
async def open_teacher(plan: TeacherPlan) -> AsyncIterator[StoredTeacher]:
    """The teacher, closed at the end. Raises ValueError for what of the plan cannot be had."""
    source: Source
    if plan.is_url:
        from corl.rods.teachers.endpoint import Endpoint

        source = Endpoint(
            plan.teacher,
            str(plan.model),
            key_from=plan.api_key_env,
            timeout_s=plan.timeout_s,
            request=plan.fields(),
        )
    else:
        from corl.rods.teachers.local import LocalModel

        source = LocalModel(plan.teacher, max_seqs=plan.concurrency, dtype=plan.dtype, request=plan.fields())
    patience = Patience(retries=plan.retries, wait_s=plan.retry_wait_s)
    teacher = StoredTeacher(
        source,
        RequestStore(plan.store),
        concurrency=plan.seats if plan.is_url else None,
        token_budget=plan.token_budget,
        seed=plan.seed,
        patience=patience,
    )
    try:
        yield teacher
    finally:
        await teacher.close()
