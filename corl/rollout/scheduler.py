"""Who runs, who waits and who holds which page: pure Python state, no tensors.

A group is a set of samples that share one prefix. It waits; it is admitted: pages are taken, the prefix is prefilled
once and the first token of every sample drawn from the same logits; it is ready: its samples start into free rows, each
with the group's full pages and a copy of the partial last one. When pages run out, what came last goes back to waiting
and is recomputed later.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import ceil

from corl.rollout.kv_cache import PageAllocator
from corl.rollout.request import Completion, FinishReason, Request, SupportsDecode, expected_length


@dataclass(slots=True, eq=False)
class Sample:
    """One completion on its way. `ids` counts from the end of the prompt; its last token is never in the cache yet."""

    request: Request
    name: str
    index: int
    seed: int
    stop_ids: frozenset[int]
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    pages: list[int] = field(default_factory=list)
    room: int = 0  # len(ids) up to which the next token to forward has a place in `pages`
    promised: int = 0  # pages admission has set aside beyond those held
    row: int = -1
    birth: int = -1

    def accept(self, token: int, logprob: float, tokenizer: SupportsDecode | None = None) -> bool:
        """Take the next token; True when it ends the sample."""
        self.ids.append(token)
        self.logprobs.append(logprob)
        if token in self.stop_ids or (self.request.stop_strings and self._completes_stop_string(tokenizer)):
            self.finish_reason = "stop"
        elif len(self.ids) >= self.request.max_tokens:
            self.finish_reason = "length"
        return self.finish_reason is not None

    def completion(self) -> Completion:
        assert self.finish_reason is not None, f"sample {self.index} of {self.name} is not finished"
        return Completion(self.name, self.index, self.ids, self.logprobs, self.finish_reason)

    def _completes_stop_string(self, tokenizer: SupportsDecode | None) -> bool:
        assert tokenizer is not None, "check_requests lets no stop string through without one"
        # every token of a match holds at least one of its bytes; 4 more, since a tokenizer may trim the text's start
        strings = self.request.stop_strings
        text = tokenizer.decode(self.ids[-max(len(string.encode()) for string in strings) - 4 :])
        return any(string in text for string in strings)


@dataclass(slots=True, eq=False)
class Group:
    """Samples of a request that go on from one prefix: the prompt, for a preempted sample also what it had drawn."""

    request: Request
    prefix: list[int]
    samples: list[Sample]
    pages: list[int] = field(default_factory=list)


class Scheduler:
    """Waiting and ready groups, running samples (the list index is the row), and their pages."""

    def __init__(self, groups: Iterable[Group], pages: PageAllocator, *, max_seqs: int, prefill_tokens: int):
        self.waiting = deque(sorted(groups, key=lambda group: -expected_length(group.request)))
        self.ready: deque[Group] = deque()
        self.running: list[Sample] = []
        self.pages = pages
        self.max_seqs = max_seqs
        self.prefill_tokens = prefill_tokens
        self.preemptions = 0
        self._promised = 0
        self._births = 0

    def unfinished(self) -> bool:
        return bool(self.waiting or self.ready or self.running)

    def admit(self) -> list[Group]:
        """Groups to prefill together now, pages taken for their prefixes; [] when rows or pages are spoken for."""
        rows = self.max_seqs - len(self.running)
        room = self.pages.num_free - self._promised
        for group in self.ready:
            starting = min(rows, len(group.samples))
            rows -= starting
            room -= self._pages_to_start(group, starting)
        batch: list[Group] = []
        tokens = 0
        while self.waiting and rows > 0:
            group = self.waiting[0]
            starting = min(rows, len(group.samples))
            held = self.pages.pages_for(len(group.prefix))
            wanted = held + self._pages_to_start(group, starting)
            if wanted > room and (self.running or self.ready or batch):
                break
            if batch and tokens + len(group.prefix) > self.prefill_tokens:
                break
            group.pages = self.pages.allocate(held)
            batch.append(self.waiting.popleft())
            rows -= starting
            room -= wanted
            tokens += len(group.prefix)
        return batch

    def prefilled(self, groups: Iterable[Group]) -> None:
        """The groups' samples have their first token: those that go on are ready to start."""
        for group in groups:
            group.samples = [sample for sample in group.samples if sample.finish_reason is None]
            if group.samples:
                self.ready.append(group)
            else:
                self.pages.release(group.pages)

    def start(self) -> tuple[list[Sample], list[tuple[int, int]]]:
        """Move ready samples into free rows; returns them and the (source, destination) pages to copy."""
        started: list[Sample] = []
        copies: list[tuple[int, int]] = []
        while self.ready and len(self.running) < self.max_seqs:
            group = self.ready[0]
            room = self.pages.num_free - self._promised
            if self._pages_to_start(group, 1) > room:
                if self.running:
                    break
                if len(group.samples) > 1 and self._has_partial_page(group) and room < 1:
                    self._postpone(Group(group.request, group.prefix, group.samples[1:]))
                    del group.samples[1:]
            sample = group.samples.pop(0)
            self._fork(group, sample, copies)
            started.append(sample)
        return started, copies

    def grow(self) -> tuple[list[tuple[int, int]], list[Sample]]:
        """Give every running sample a place for its next token, oldest first, preempting the newest if pages run out.

        Returns the (source, destination) rows that moved and the samples that got a page, the last of their `pages`.
        """
        starved = [sample for sample in self.running if len(sample.ids) > sample.room]
        grown = []
        for sample in sorted(starved, key=lambda s: s.birth):
            while sample.pages and not self.pages.num_free:
                self._preempt()
            if sample.pages:
                sample.pages += self.pages.allocate(1)
                sample.room += self.pages.page_size
                if sample.promised:
                    sample.promised -= 1
                    self._promised -= 1
                grown.append(sample)
        return self._close_gaps() if starved else [], grown

    def retire(self, samples: Iterable[Sample]) -> list[tuple[int, int]]:
        """Free finished samples; returns the (source, destination) rows that moved."""
        for sample in samples:
            self._release(sample)
        return self._close_gaps()

    def _has_partial_page(self, group: Group) -> bool:
        return len(group.prefix) % self.pages.page_size > 0

    def _lookahead(self, group: Group) -> int:
        """Pages beyond the prefix's that a sample is expected to need: for its expected_tokens, else for one page."""
        request, drawn = group.request, len(group.prefix) - len(group.request.prompt_ids)
        left = self.pages.page_size if request.expected_tokens is None else ceil(request.expected_tokens) - drawn
        left = max(1, min(left, request.max_tokens - drawn))
        return self.pages.pages_for(len(group.prefix) + left) - self.pages.pages_for(len(group.prefix))

    def _pages_to_start(self, group: Group, count: int) -> int:
        """Pages that `count` more samples of a prefilled group take: copies of the partial page and the lookahead."""
        copied = min(count, len(group.samples) - 1) if self._has_partial_page(group) else 0
        return copied + count * self._lookahead(group)

    def _fork(self, group: Group, sample: Sample, copies: list[tuple[int, int]]) -> None:
        """Start a sample just taken out of its group; the last one takes the group's pages over."""
        if group.samples:
            full = len(group.prefix) // self.pages.page_size
            sample.pages = self.pages.share(group.pages[:full])
            if self._has_partial_page(group):
                sample.pages += self.pages.allocate(1)
                copies.append((group.pages[full], sample.pages[full]))
        else:
            sample.pages = group.pages
            self.ready.popleft()
        sample.room = len(sample.pages) * self.pages.page_size - len(sample.request.prompt_ids)
        sample.promised = max(0, min(self._lookahead(group), self.pages.num_free - self._promised))
        self._promised += sample.promised
        sample.birth = self._births
        self._births += 1
        sample.row = len(self.running)
        self.running.append(sample)

    def _preempt(self) -> None:
        """Send what came last back to the head of the queue: a ready group, else the newest running sample."""
        if self.ready:
            group = self.ready.pop()
            self.pages.release(group.pages)
            self._postpone(group)
            return
        sample = max((s for s in self.running if s.pages), key=lambda s: s.birth)
        assert any(s.pages and s is not sample for s in self.running), "one sample alone does not fit the cache"
        self._release(sample)
        self._wait_again(Group(sample.request, [*sample.request.prompt_ids, *sample.ids], [sample]))

    def _postpone(self, group: Group) -> None:
        """Back to waiting before the prefill: the token it drew is drawn again, from the same key."""
        for sample in group.samples:
            sample.ids.pop()
            sample.logprobs.pop()
        self._wait_again(group)

    def _wait_again(self, group: Group) -> None:
        self.preemptions += 1
        self.waiting.appendleft(group)

    def _release(self, sample: Sample) -> None:
        self.pages.release(sample.pages)
        sample.pages = []
        self._promised -= sample.promised
        sample.promised = 0

    def _close_gaps(self) -> list[tuple[int, int]]:
        """Drop the running samples without pages; the last rows move into the gaps, so no row is source and gap."""
        live = [sample for sample in self.running if sample.pages]
        tail = [sample for sample in self.running[len(live) :] if sample.pages]
        moves = []
        for row in range(len(live)):
            if not self.running[row].pages:
                sample = tail.pop()
                moves.append((sample.row, row))
                self.running[row] = sample
                sample.row = row
        del self.running[len(live) :]
        return moves
