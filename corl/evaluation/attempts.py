"""Attempt items with the engine: generate over the ranks, decode and grade where generated, gather."""

from dataclasses import dataclass

from corl.data.items import Item
from corl.data.tokenizer import Tokenizer
from corl.grading import Grade, grade
from corl.observe.progress import sample_bar
from corl.parallel import World
from corl.rollout.assign import assign_requests
from corl.rollout.engine import Engine
from corl.rollout.request import Request


@dataclass(frozen=True, slots=True)
class Prompt:
    item: Item
    ids: list[int]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One graded completion of an item."""

    item_id: str
    sample: int
    ids: list[int]
    logprobs: list[float]
    finish_reason: str
    text: str
    grade: Grade


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample. `purpose` keeps the draws of training, mining and evaluation of one item at one step apart."""

    purpose: str
    samples: int
    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0


class Solver:
    """The engine of this rank with its tokenizer and its world: attempts items, every rank taking a share."""

    def __init__(self, engine: Engine, tokenizer: Tokenizer, world: World) -> None:
        self.engine, self.tokenizer, self.world = engine, tokenizer, world

    def attempt(
        self, prompts: list[Prompt], sampling: Sampling, *, step: int, expected: dict[str, float] | None = None
    ) -> list[list[Attempt]]:
        """Attempts per prompt, in order, the same on every rank; a collective.

        expected  tokens a completion of an item is expected to have, by item id, to start the longest first
        """
        requests = [
            Request(
                prompt_ids=prompt.ids,
                n=sampling.samples,
                max_tokens=sampling.max_tokens,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                stop_ids=self.tokenizer.stop_ids,
                id=f"{sampling.purpose}:{prompt.item.id}",
                expected_tokens=(expected or {}).get(prompt.item.id),
            )
            for prompt in prompts
        ]
        mine = assign_requests(requests, self.world.size)[self.world.rank]
        total = sampling.samples * len(mine)
        with sample_bar(f"{sampling.purpose} (rank 0's share)", total, shown=self.world.is_main) as bar:
            completions = self.engine.generate([requests[i] for i in mine], step=step, on_finished=bar.update)
        graded = []
        for k, completion in enumerate(completions):
            item = prompts[mine[k // sampling.samples]].item
            text = self.tokenizer.decode(completion.ids)
            graded.append(
                Attempt(
                    item.id,
                    completion.sample,
                    completion.ids,
                    completion.logprobs,
                    completion.finish_reason,
                    text,
                    grade(text, item.options, item.answer, prefill=self.tokenizer.prefill),
                )
            )
        by_item: dict[str, list[Attempt]] = {}
        for attempts in self.world.gather(graded):
            for attempt in attempts:
                by_item.setdefault(attempt.item_id, []).append(attempt)
        return [by_item[prompt.item.id] for prompt in prompts]
