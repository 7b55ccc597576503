"""The rollout engine: groups prefilled once, samples decoded together over a paged cache."""

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Literal

import torch

from corl.fsdp2 import compute_dtype
from corl.model.decoder import Decoder
from corl.rollout.decode_memory import decode_bytes
from corl.rollout.draws import draw_seed
from corl.rollout.kv_cache import PageAllocator
from corl.rollout.request import Carried, Completion, Request, SupportsDecode, check_carried, check_requests, integer
from corl.rollout.runner import Runner
from corl.rollout.sample import Group, Sample
from corl.rollout.scheduler import Scheduler
from corl.rollout.stats import EngineStats
from corl.rollout.tensor_parallel import TensorParallel
from corl.rollout.weights import SwapReport, make_weights

CPU_CACHE_BYTES = 2**30
GPU_CACHE_SHARE = 0.8
DEFAULT_TOKENS_PER_SEQ = 4096
GPU_STEPS_PER_READ = 8  # replays of a few milliseconds each hide the host's part of a read


class Engine:
    """Generates completions with the weights of `model`, as they were at the last swap_weights or, where they are read
    in place, as they are.

    tokenizer        anything with decode(ids) -> str; needed by stop_strings alone
    max_seqs         samples decoded together
    kv_tokens        size of the KV cache, rounded down to whole pages; None: on a CPU max_seqs x min(positions, 4096)
                     in whole pages, at most 1 GiB; on a GPU 80 % of the free memory that decoding itself leaves
    seed             of every draw, with the step, the request's id, the sample and the position in the sequence
    exact            log-probs recorded while decoding have the bits of the trainer's; the model is set to exact as well
    prefill_tokens   prompt tokens forwarded together at most (a longer prompt goes alone)
    reserved_bytes   of a GPU's memory, what the default kv_tokens leaves for others beside its own 20 %
    weights          "shared" reads the model's own parameters, "arena" keeps copies at fixed addresses (see weights.py)
    tensor_parallel  the ranks that generate together, each with a slice of the weights; "arena" only
    steps_per_read   decode steps between two looks at what was drawn; None: 1 on a CPU, 8 on a GPU
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
        reserved_bytes: int = 0,
        weights: Literal["shared", "arena"] = "shared",
        tensor_parallel: TensorParallel | None = None,
        steps_per_read: int | None = None,
    ) -> None:
        if not isinstance(model, Decoder):
            raise ValueError(f"model is a {type(model).__name__}; give the Decoder that corl.load_model returns")
        if steps_per_read is None:
            steps_per_read = GPU_STEPS_PER_READ if model.head_weight.is_cuda else 1
        if exact and tensor_parallel is not None:
            raise ValueError("exact=True needs the trainer's sums, which slices do not make; use tensor_parallel=None")
        self.model = model
        self.tokenizer = tokenizer
        self.max_seqs = integer("max_seqs", max_seqs, 1)
        self.page_size = integer("page_size", page_size, 1)
        self.seed = integer("seed", seed)
        self.prefill_tokens = integer("prefill_tokens", prefill_tokens, 1)
        self.tensor_parallel = tensor_parallel
        self.steps_per_read = integer("steps_per_read", steps_per_read, 1)
        self.last_stats = EngineStats()
        if exact:
            model.set_exact(True)
        self._weights = make_weights(model, weights, tensor_parallel)
        tokens = self._default_kv_tokens(reserved_bytes) if kv_tokens is None else integer("kv_tokens", kv_tokens)
        self._num_pages = tokens // self.page_size
        if tensor_parallel is not None:  # a GPU's free memory differs from the next one's, their schedules may not
            self._num_pages = tensor_parallel.smallest(self._num_pages)
        if self._num_pages < 1:
            raise ValueError(f"kv_tokens={kv_tokens} holds no page of page_size={page_size}; give at least one page")
        self._runner: Runner | None = None

    @property
    def kv_tokens(self) -> int:
        """Tokens the KV cache holds."""
        return self._num_pages * self.page_size

    def _default_kv_tokens(self, reserved_bytes: int) -> int:
        config, itemsize = self._weights.decoder.config, compute_dtype(self.model).itemsize
        bytes_per_token = 2 * config.num_layers * config.num_kv_heads * config.head_dim * itemsize
        free = _free_bytes(self.model.head_weight.device)
        if free is not None:
            vocab_size, exact = self.model.config.vocab_size, self.model.exact
            reserved_bytes += decode_bytes(config, vocab_size=vocab_size, max_seqs=self.max_seqs, exact=exact)
            if self._weights.decoder is self.model and not self._weights.current:  # the first swap gathers all of it
                reserved_bytes += sum(parameter.numel() for parameter in self.model.parameters()) * itemsize
            return int(GPU_CACHE_SHARE * max(0, free - reserved_bytes)) // bytes_per_token
        pages_per_seq = -(-min(config.max_positions, DEFAULT_TOKENS_PER_SEQ) // self.page_size)
        return min(self.max_seqs * pages_per_seq * self.page_size, CPU_CACHE_BYTES // bytes_per_token)

    def swap_weights(self, model: Decoder) -> SwapReport:
        """Use this model's newest weights from now on; a collective where they are sharded or sliced."""
        if model.config != self.model.config:
            raise ValueError("the model to swap in has another config than the engine's; build a new Engine for it")
        start = perf_counter()
        model.set_exact(self.model.exact)
        read_before = self._weights.decoder
        moved = self._weights.refresh(model)
        self.model = model
        if self._runner is not None and self._weights.decoder is not read_before:
            self._runner.steps.forget()
        if self._weights.decoder.head_weight.is_cuda:
            torch.cuda.synchronize()  # else the seconds would be those of launching
        return SwapReport(moved, perf_counter() - start)

    def verify_weights(self, model: Decoder) -> None:
        """RuntimeError, on every rank alike, naming the tensors the engine reads whose bits are not the trainer's."""
        self._weights.verify(model)

    def sleep(self) -> None:
        """Give the memory of the KV cache and of an arena of weights back; an arena needs swap_weights afterwards."""
        if self._runner is not None:
            self._runner.cache.release()
        self._weights.release()

    def wake(self) -> None:
        """Have the memory of the KV cache again, at the same addresses; nothing to do while awake."""
        self._awake()

    @torch.inference_mode()
    def generate(
        self,
        requests: Sequence[Request],
        *,
        step: int = 0,
        on_finished: Callable[[int], object] | None = None,
        carried: Mapping[str, Carried] | None = None,
        enough: int | None = None,
    ) -> list[Completion]:
        """Every request's samples, in request order, then sample order; `step` keys the draws of this call.

        on_finished  called with the number of samples that have just ended (for a progress bar)
        carried      by request id, what an earlier call left unfinished: it goes on with the present weights and the
                     draws it would have had
        enough       stop at the first read at which so many requests are complete; the samples that are not have
                     finish_reason "carried"
        Raises ValueError, before anything is generated, for a request that breaks a rule of Request or does not fit.
        Under tensor parallelism every rank of the group makes the same call and gets the same completions.
        """
        start = perf_counter()
        samples = self._samples(requests, integer("step", step), carried or {})
        open_samples = [sum(not sample.finished for sample in group) for group in samples]
        wanted = len(samples) if enough is None else integer("enough", enough, 0)
        runner = self._awake()
        stats = self.last_stats = EngineStats(num_pages=self._num_pages)
        pages = PageAllocator(self._num_pages, self.page_size)
        scheduler = Scheduler(
            [group for members in samples for group in _groups(members)],
            pages,
            max_seqs=self.max_seqs,
            prefill_tokens=self.prefill_tokens,
            steps=self.steps_per_read,
        )
        owner = {id(sample): k for k, members in enumerate(samples) for sample in members}

        def ended(finished: Sequence[Sample]) -> None:
            for sample in finished:
                open_samples[owner[id(sample)]] -= 1
            if on_finished is not None and finished:
                on_finished(len(finished))
                if self.last_stats is not stats:
                    raise RuntimeError("on_finished called generate, which took this call's cache; use two engines")

        while scheduler.unfinished() and open_samples.count(0) < wanted:
            while admitted := scheduler.admit():
                drawing = [sample for group in admitted for sample in group.samples]
                drawn = zip(drawing, *runner.prefill(admitted), strict=True)
                finished = [s for s, token, logprob in drawn if s.accept(token, logprob, self.tokenizer)]
                stats.count_prefill(admitted, perf_counter() - start)
                scheduler.prefilled(admitted)
                ended(finished)
            started, copies = scheduler.start()
            runner.cache.copy_pages(copies)
            runner.batch.insert(started)
            moves, grown = scheduler.grow()
            runner.batch.move(moves)
            runner.batch.extend(grown)
            if running := list(scheduler.running):
                steps = max(sample.tokens_left(self.steps_per_read) for sample in running)
                runner.batch.keep(len(running))
                before = [(len(sample.ids), sample.tokens_left(steps)) for sample in running]
                finished = self._accept(running, runner, steps)
                stats.count_decode(running, before, steps, self.max_seqs)
                runner.batch.move(scheduler.retire(finished))
                ended(finished)
        scheduler.abandon()
        assert pages.num_free == pages.num_pages, f"{pages.num_pages - pages.num_free} pages leaked"
        stats.preemptions, stats.peak_pages = scheduler.preemptions, pages.peak_used
        stats.seconds = perf_counter() - start
        completions = [sample.completion() for members in samples for sample in members]
        if self.tensor_parallel is not None:
            self.tensor_parallel.assert_equal([(c.ids, c.finish_reason) for c in completions])
        return completions

    def _accept(self, running: Sequence[Sample], runner: Runner, steps: int) -> list[Sample]:
        """Decode and append what was drawn; returns the samples that ended. What a step drew after that is dropped."""
        live = list(enumerate(running))
        for tokens, logprobs in runner.decode(running, steps):
            live = [(k, s) for k, s in live if not s.accept(tokens[k], logprobs[k], self.tokenizer)]
        return [sample for sample in running if sample.finished]

    def _samples(self, requests: Sequence[Request], step: int, carried: Mapping[str, Carried]) -> list[list[Sample]]:
        """The samples of every request, with what they have already."""
        config = self.model.config
        asked = check_requests(
            requests,
            vocab_size=config.vocab_size,
            max_positions=config.max_positions,
            kv_tokens=self.kv_tokens,
            has_tokenizer=self.tokenizer is not None,
        )
        check_carried(asked, carried, vocab_size=config.vocab_size)
        if not self._weights.current:
            raise ValueError("the engine has no weights to read yet; call swap_weights(model) before generate")
        samples = []
        for name, request in asked.items():
            began = carried[name].step if name in carried else step
            members = [
                Sample(request, name, index, draw_seed(self.seed, began, name, index), frozenset(request.stop_ids))
                for index in range(request.n)
            ]
            for sample, so_far in zip(members, carried[name].completions if name in carried else (), strict=False):
                sample.ids, sample.logprobs = list(map(int, so_far.ids)), list(map(float, so_far.logprobs))
                sample.finish_reason = so_far.finish_reason
            samples.append(members)
        return samples

    def _awake(self) -> Runner:
        if self._runner is not None and self._runner.dtype != self._weights.decoder.head_weight.dtype:
            self._runner.close()  # the old cache goes before the new one comes
            self._runner = None
        if self._runner is None:
            with torch.inference_mode():
                self._runner = Runner(
                    self._weights,
                    num_pages=self._num_pages,
                    page_size=self.page_size,
                    max_seqs=self.max_seqs,
                    steps=self.steps_per_read,
                )
        self._runner.cache.restore()
        return self._runner


def _free_bytes(device: torch.device) -> int | None:
    """Of a GPU's memory; None on a CPU."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None


def _groups(members: Sequence[Sample]) -> list[Group]:
    """What is left to do for the samples of a request: those without a token yet share the prompt's prefill."""
    fresh = [sample for sample in members if not sample.ids]
    groups = [Group(fresh[0].request, list(fresh[0].request.prompt_ids), fresh)] if fresh else []
    return groups + [Group.of_one(sample) for sample in members if sample.ids and not sample.finished]
