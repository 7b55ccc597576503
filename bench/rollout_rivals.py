"""The same rollout three ways: the engine, transformers' continuous batching, and its `generate` group by group."""

import logging
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch

from corl.model.decoder import Decoder
from corl.rollout.engine import Engine
from corl.rollout.request import Completion, Request


@dataclass(frozen=True, slots=True)
class Workload:
    """Every prompt gets n samples of exactly max_tokens tokens, at temperature 1 from the whole vocabulary."""

    prompts: list[list[int]]
    n: int
    max_tokens: int

    @property
    def samples(self) -> int:
        return len(self.prompts) * self.n

    def pages(self, page_size: int) -> int:
        """Pages that hold every sample at its full length, nothing shared."""
        longest = max(map(len, self.prompts)) + self.max_tokens
        return self.samples * -(-longest // page_size)


@dataclass(frozen=True, slots=True)
class Generated:
    """What one run made: output tokens, and the seconds until the first of them was known."""

    tokens: int
    first_token_s: float


def engine_for(model: Decoder, workload: Workload, page_size: int, **options: Any) -> Engine:
    """An engine that decodes every sample at once, over a cache that holds them all."""
    kv_tokens = workload.pages(page_size) * page_size
    return Engine(model, max_seqs=workload.samples, kv_tokens=kv_tokens, page_size=page_size, **options)


def completions(engine: Engine, workload: Workload) -> list[Completion]:
    n, max_tokens = workload.n, workload.max_tokens
    return engine.generate([Request(prompt, n=n, max_tokens=max_tokens) for prompt in workload.prompts])


def by_engine(engine: Engine, workload: Workload) -> Generated:
    tokens = sum(len(completion.ids) for completion in completions(engine, workload))
    return Generated(tokens, engine.last_stats.first_token_s)


def by_generate(model: Any, workload: Workload) -> Generated:
    """One call for each prompt, its n samples as a batch; nothing is known before the first call returns."""
    settings = _settings(workload, num_return_sequences=workload.n)
    tokens, start, first = 0, perf_counter(), 0.0
    for prompt in workload.prompts:
        ids = torch.tensor([prompt], device=model.device)
        out = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)
        tokens += int(out[:, len(prompt) :].numel())
        first = first or perf_counter() - start
    return Generated(tokens, first)


def by_generate_batch(
    model: Any, workload: Workload, *, page_size: int, max_batch_tokens: int, fork: bool, keep: bool = False
) -> Generated:
    """Continuous batching over a cache that holds every sample. `fork`: prompts with n sequences each, not n copies.

    With `keep` the manager, its cache and its graphs stay for the next call; `forget` drops them.
    """
    from transformers import ContinuousBatchingConfig

    prompts = workload.prompts if fork else [prompt for prompt in workload.prompts for _ in range(workload.n)]
    start = perf_counter()
    outputs = model.generate_batch(
        prompts,
        generation_config=_settings(workload, num_return_sequences=workload.n if fork else 1, eos_token_id=-1),
        continuous_batching_config=ContinuousBatchingConfig(
            page_size=page_size, num_blocks=workload.pages(page_size), max_batch_tokens=max_batch_tokens
        ),
        record_timestamps=True,
        persistent_manager=keep,
    ).values()
    first = min(output.timestamps[0] for output in outputs) - start
    return Generated(sum(len(output.generated_tokens) for output in outputs), first)


def forget(model: Any) -> None:
    """Drop the manager that a call with `keep` has left."""
    model.destroy_cached_continuous_batching_manager()


def quiet() -> None:
    """No progress bars, and no complaint that psutil is missing: the cache is given a size here."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.getLogger("ContinuousBatchingLogger").setLevel(logging.CRITICAL)


def _settings(workload: Workload, **changes: Any) -> Any:
    from transformers import GenerationConfig

    # top_k=0: the default is 50; no token ends a sample
    whole = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "pad_token_id": 0, "eos_token_id": None}
    return GenerationConfig(**whole | {"max_new_tokens": workload.max_tokens} | changes)
