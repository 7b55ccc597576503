"""Attempt items with the engine: generate over the ranks, decode and grade where generated, gather."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from corl.data.items import Item
from corl.data.tokenizer import Tokenizer
from corl.grading import Grade, grade
from corl.observe.progress import sample_bar
from corl.parallel import World
from corl.rollout.assign import assign_requests
from corl.rollout.engine import Engine
from corl.rollout.request import Carried, FinishReason, Request


@dataclass(frozen=True, slots=True)
class Prompt:
    item: Item
    ids: list[int]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One graded completion of an item.

    versions  (policy version, tokens) in the order drawn, as the trainer counts versions; () where it does not
    """

    item_id: str
    sample: int
    ids: list[int]
    logprobs: list[float]
    finish_reason: FinishReason
    text: str
    grade: Grade
    versions: tuple[tuple[int, int], ...] = ()

    @property
    def finished(self) -> bool:
        return self.finish_reason != "carried"


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample. `purpose` keeps the draws of training, mining and evaluation of one item at one step apart."""

    purpose: str
    samples: int
    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0

    def request_id(self, item_id: str) -> str:
        return f"{self.purpose}:{item_id}"


class Solver:
    """The engine of this rank with its tokenizer and its world: attempts items, every replica of the model taking a
    share. A replica is one rank or, with tensor parallelism, so many consecutive ranks, which all generate its share
    and grade a part of it each."""

    def __init__(self, engine: Engine, tokenizer: Tokenizer, world: World, *, tensor_parallel: int = 1) -> None:
        self.engine, self.tokenizer, self.world = engine, tokenizer, world
        self.tensor_parallel = tensor_parallel

    def attempt(
        self,
        prompts: list[Prompt],
        sampling: Sampling,
        *,
        step: int,
        expected: dict[str, float] | None = None,
        carried: Mapping[str, Carried] | None = None,
        enough: int | None = None,
    ) -> list[list[Attempt]]:
        """Attempts per prompt, in order, the same on every rank; a collective.

        expected  tokens a completion of an item is expected to have, by item id, to start the longest first
        carried   by request id, what an earlier call left unfinished: it goes on
        enough    stop once so many prompts have all their attempts, every engine once it has its part of them; the
                  attempts that are not finished then have finish_reason "carried" and the grade of what is there
        """
        requests = [
            Request(
                prompt_ids=prompt.ids,
                n=sampling.samples,
                max_tokens=sampling.max_tokens,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                stop_ids=self.tokenizer.stop_ids,
                id=sampling.request_id(prompt.item.id),
                expected_tokens=(expected or {}).get(prompt.item.id),
            )
            for prompt in prompts
        ]
        replica, part_of_replica = divmod(self.world.rank, self.tensor_parallel)
        shares = assign_requests(requests, self.world.size // self.tensor_parallel)
        mine = shares[replica]
        asked = [requests[i] for i in mine]
        part = None if enough is None else split_enough(enough, [len(share) for share in shares])[replica]
        names = [sampling.request_id(prompts[i].item.id) for i in mine]
        so_far = {name: carried[name] for name in names if name in carried} if carried else None
        total = sampling.samples * len(mine)
        with sample_bar(f"{sampling.purpose} (rank 0's share)", total, shown=self.world.is_main) as bar:
            completions = self.engine.generate(asked, step=step, on_finished=bar.update, carried=so_far, enough=part)
        graded = []
        for k, completion in enumerate(completions):
            if k % self.tensor_parallel != part_of_replica:
                continue
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
        return [sorted(by_item[prompt.item.id], key=lambda attempt: attempt.sample) for prompt in prompts]


def split_enough(enough: int, sizes: Sequence[int]) -> list[int]:
    """How many of its `sizes[r]` requests engine r completes before it stops: `enough` in all, in proportion.

    The requests were dealt by expected tokens, so an equal part of each share is about equal work. What the rounding
    leaves goes to the largest fractions, ties to the lower rank.
    """
    total = sum(sizes)
    if not 0 <= enough <= total:
        raise ValueError(f"enough={enough} must lie in 0 .. {total}, the number of requests")
    parts = [enough * size // max(1, total) for size in sizes]
    by_fraction = sorted(range(len(sizes)), key=lambda r: -(enough * sizes[r] % max(1, total)))
    for r in by_fraction[: enough - sum(parts)]:
        parts[r] += 1
    return parts
