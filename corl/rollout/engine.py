"""The rollout engine: groups prefilled once, samples decoded together over a paged cache, one token each a step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

import torch
from torch.distributed.tensor import DTensor

from corl.model.decoder import Decoder
from corl.rollout.draws import draw_seed
from corl.rollout.kv_cache import PageAllocator
from corl.rollout.request import Completion, Request, SupportsDecode, check_requests
from corl.rollout.runner import Drawn, Runner
from corl.rollout.scheduler import Group, Sample, Scheduler
from corl.rollout.weights import SwapReport, refresh_unsharded

CPU_CACHE_BYTES = 2**30
GPU_CACHE_SHARE = 0.8
DEFAULT_TOKENS_PER_SEQ = 4096


@dataclass(slots=True)
class EngineStats:
    """What one generate did: tokens forwarded, steps, prefixes dropped and prefilled again, step rows left empty."""

    prefill_tokens: int = 0
    decode_tokens: int = 0
    decode_steps: int = 0
    preemptions: int = 0
    idle: int = 0


class Engine:
    """Generates completions with the weights of `model`, read in place: a weight changed there is the one used next.

    tokenizer       anything with decode(ids) -> str; needed by stop_strings alone
    max_seqs        samples decoded together
    kv_tokens       size of the KV cache, rounded down to whole pages; None: on a CPU max_seqs x min(positions, 4096)
                    in whole pages, at most 1 GiB; on a GPU 80 % of the free memory
    seed            of every draw, with the step, the request's id, the sample and the position in the sequence
    prefill_tokens  prompt tokens forwarded together at most (a longer prompt goes alone)
    """

    def __init__(
        self,
        model: Decoder,
        *,
        tokenizer: SupportsDecode | None = None,
        max_seqs: int = 256,
        kv_tokens: int | None = None,
        page_size: int = 256,
        seed: int = 0,
        exact: bool = False,
        prefill_tokens: int = 16384,
    ) -> None:
        if exact:
            raise ValueError("exact mode is not available yet (exact=True); use exact=False")
        for name, value in (("max_seqs", max_seqs), ("page_size", page_size), ("prefill_tokens", prefill_tokens)):
            if value < 1:
                raise ValueError(f"{name}={value} must be at least 1")
        self.model = model
        self.tokenizer = tokenizer
        self.max_seqs = max_seqs
        self.page_size = page_size
        self.seed = seed
        self.prefill_tokens = prefill_tokens
        self.last_stats = EngineStats()
        self._num_pages = (self._default_kv_tokens() if kv_tokens is None else kv_tokens) // page_size
        if self._num_pages < 1:
            raise ValueError(f"kv_tokens={kv_tokens} holds no page of page_size={page_size}; give at least one page")
        self._runner: Runner | None = None

    @property
    def kv_tokens(self) -> int:
        """Tokens the KV cache holds."""
        return self._num_pages * self.page_size

    def _default_kv_tokens(self) -> int:
        config, weight = self.model.config, self.model.head_weight
        bytes_per_token = 2 * config.num_layers * config.num_kv_heads * config.head_dim * weight.element_size()
        if weight.is_cuda:
            return int(GPU_CACHE_SHARE * torch.cuda.mem_get_info(weight.device)[0]) // bytes_per_token
        pages_per_seq = -(-min(config.max_positions, DEFAULT_TOKENS_PER_SEQ) // self.page_size)
        return min(self.max_seqs * pages_per_seq * self.page_size, CPU_CACHE_BYTES // bytes_per_token)

    def swap_weights(self, model: Decoder) -> SwapReport:
        """Use this model's newest weights from now on; FSDP2's are gathered and stay until the trainer frees them."""
        if model.config != self.model.config:
            raise ValueError("the model to swap in has another config than the engine's; build a new Engine for it")
        start = perf_counter()
        moved = refresh_unsharded(model)
        self.model = model
        return SwapReport(moved, perf_counter() - start)

    def sleep(self) -> None:
        """Free the KV cache."""
        self._runner = None

    def wake(self) -> None:
        """Allocate the KV cache; nothing to do while awake."""
        self._awake()

    @torch.inference_mode()
    def generate(
        self, requests: Sequence[Request], *, step: int = 0, on_finished: Callable[[int], object] | None = None
    ) -> list[Completion]:
        """Every request's samples, in request order, then sample order; `step` keys the draws of this call.

        on_finished  called with the number of samples that have just ended (for a progress bar)
        Raises ValueError, before anything is generated, for a request that breaks a rule of Request or does not fit.
        """
        groups = self._groups(requests, step)
        samples = [sample for group in groups for sample in group.samples]
        runner, model, stats = self._awake(), self.model, EngineStats()
        pages = PageAllocator(self._num_pages, self.page_size)
        scheduler = Scheduler(groups, pages, max_seqs=self.max_seqs, prefill_tokens=self.prefill_tokens)
        while scheduler.unfinished():
            while admitted := scheduler.admit():
                stats.prefill_tokens += sum(len(group.prefix) for group in admitted)
                drawing = [sample for group in admitted for sample in group.samples]
                ended = len(self._accept(drawing, runner.prefill(model, admitted)))
                scheduler.prefilled(admitted)
                if on_finished is not None and ended:
                    on_finished(ended)
            started, copies = scheduler.start()
            runner.cache.copy_pages(copies)
            runner.batch.insert(started)
            moves, grown = scheduler.grow()
            runner.batch.move(moves)
            runner.batch.extend(grown)
            if running := scheduler.running:
                stats.decode_steps += 1
                stats.decode_tokens += len(running)
                stats.idle += self.max_seqs - len(running)
                finished = self._accept(running, runner.decode(model, running))
                runner.batch.move(scheduler.retire(finished))
                if on_finished is not None and finished:
                    on_finished(len(finished))
        assert pages.num_free == pages.num_pages, f"{pages.num_pages - pages.num_free} pages leaked"
        stats.preemptions = scheduler.preemptions
        self.last_stats = stats
        return [sample.completion() for sample in samples]

    def _groups(self, requests: Sequence[Request], step: int) -> list[Group]:
        config = self.model.config
        names = check_requests(
            requests,
            vocab_size=config.vocab_size,
            max_positions=config.max_positions,
            kv_tokens=self.kv_tokens,
            has_tokenizer=self.tokenizer is not None,
        )
        if isinstance(self.model.head_weight, DTensor):
            raise ValueError("the model's weights are sharded; call swap_weights(model) before generate")
        return [
            Group(request, list(request.prompt_ids), [
                Sample(request, name, index, draw_seed(self.seed, step, name, index), frozenset(request.stop_ids))
                for index in range(request.n)
            ])
            for request, name in zip(requests, names, strict=True)
        ]  # fmt: skip

    def _awake(self) -> Runner:
        if self._runner is None or self._runner.dtype != self.model.head_weight.dtype:
            self.sleep()  # the old cache goes before the new one comes
            with torch.inference_mode():
                self._runner = Runner(
                    self.model, num_pages=self._num_pages, page_size=self.page_size, max_seqs=self.max_seqs
                )
        return self._runner

    def _accept(self, samples: Sequence[Sample], drawn: Drawn) -> list[Sample]:
        """Append the tokens drawn; returns the samples that they end."""
        numbers = zip(samples, *drawn, strict=True)
        return [sample for sample, token, logprob in numbers if sample.accept(token, logprob, self.tokenizer)]
