"""Who runs, who waits and who holds which page: pure Python state, no tensors.

A group is a set of samples that share one prefix. It waits; it is admitted: pages are taken, the prefix is prefilled
once and the first token of every sample drawn from the same logits; it is ready: its samples start into free rows, each
with the group's full pages and a copy of the partial last one. When pages run out, what came last goes back to waiting
and is recomputed later.
"""

from collections import deque
from collections.abc import Iterable
from math import ceil

from corl.rollout.kv_cache import PageAllocator
from corl.rollout.request import expected_length
from corl.rollout.sample import Group, Sample


class Scheduler:
    """Waiting and ready groups, running samples (the list index is the row), and their pages."""

    def __init__(
        self, groups: Iterable[Group], pages: PageAllocator, *, max_seqs: int, prefill_tokens: int, steps: int = 1
    ) -> None:
        """`steps` decode steps run between two calls of grow."""
        self.waiting = deque(sorted(groups, key=lambda group: -expected_length(group.request)))
        self.ready: deque[Group] = deque()
        self.running: list[Sample] = []
        self.pages = pages
        self.max_seqs = max_seqs
        self.prefill_tokens = prefill_tokens
        self.steps = steps
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
            group.samples = [sample for sample in group.samples if not sample.finished]
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

    def grow(self) -> tuple[list[tuple[int, int]], list[tuple[Sample, int]]]:
        """Give every running sample the places of its next `steps` tokens, oldest first; the newest is preempted when
        pages run out.

        Returns the (source, destination) rows that moved, and each sample that got pages with the number it had.
        """
        wanted = [(sample, self._pages_wanted(sample)) for sample in self.running]
        starved = [(sample, count) for sample, count in wanted if count > len(sample.pages)]
        grown = []
        for sample, count in sorted(starved, key=lambda entry: entry[0].birth):
            held = len(sample.pages)
            while sample.pages and self.pages.num_free < count - held:
                self._preempt()
            if sample.pages:
                sample.pages += self.pages.allocate(count - held)
                kept = min(sample.promised, count - held)
                sample.promised -= kept
                self._promised -= kept
                grown.append((sample, held))
        return self._close_gaps() if starved else [], grown

    def retire(self, samples: Iterable[Sample]) -> list[tuple[int, int]]:
        """Free finished samples; returns the (source, destination) rows that moved."""
        for sample in samples:
            self._release(sample)
        return self._close_gaps()

    def abandon(self) -> None:
        """Give every page back: what is unfinished is carried by its samples."""
        for pages in [sample.pages for sample in self.running] + [group.pages for group in self.ready]:
            self.pages.release(pages)
        self.waiting.clear()
        self.ready.clear()
        self.running.clear()

    def _pages_wanted(self, sample: Sample) -> int:
        """Pages of a running sample that hold all that its next steps write: every token but the last one drawn."""
        return self.pages.pages_for(sample.length - 1 + sample.tokens_left(self.steps))

    def _has_partial_page(self, group: Group) -> bool:
        return len(group.prefix) % self.pages.page_size > 0

    def _lookahead(self, group: Group) -> int:
        """Pages beyond the prefix's that a sample is expected to need: for its expected_tokens, else for one page."""
        request, drawn = group.request, len(group.prefix) - len(group.request.prompt_ids)
        left = self.pages.page_size if request.expected_tokens is None else ceil(request.expected_tokens) - drawn
        left = max(1, min(max(left, self.steps), request.max_tokens - drawn))
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
        self._wait_again(Group.of_one(sample))

    def _postpone(self, group: Group) -> None:
        """Back to waiting before the prefill: the token it drew is drawn again, from the same key."""
        for sample in group.samples:
            sample.ids.pop()
            sample.logprobs.pop()
        self._wait_again(group)

    def _wait_again(self, group: Group) -> None:
        group.again = True
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
