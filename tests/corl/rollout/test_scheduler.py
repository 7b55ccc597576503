"""Schedules without a model: the n-th token of a sample is made up, every row, page and slot is checked."""

from hypothesis import given, settings
from hypothesis import strategies as st

from corl.rollout.kv_cache import PageAllocator
from corl.rollout.request import Request
from corl.rollout.sample import Group, Sample
from corl.rollout.scheduler import Scheduler

STOP = 7


def make_groups(requests):
    return [
        Group(r, list(r.prompt_ids), [Sample(r, str(i), j, 0, frozenset(r.stop_ids)) for j in range(r.n)])
        for i, r in enumerate(requests)
    ]


def check_pages(scheduler):
    """Every page is free or referenced exactly as often as it is held, and no sample writes into a shared page."""
    pages, held = scheduler.pages, [0] * scheduler.pages.num_pages
    for holder in [*scheduler.running, *scheduler.ready]:
        for page in holder.pages:
            held[page] += 1
    assert pages._references == held
    assert sorted(pages._free) == [page for page, count in enumerate(held) if count == 0]
    for sample in scheduler.running:
        last = sample.length - 2 + sample.tokens_left(scheduler.steps)  # the last place that the next steps write
        assert len(sample.pages) == last // pages.page_size + 1
        assert all(held[page] == 1 for page in sample.pages[(sample.length - 1) // pages.page_size :])


def run(groups, pages, *, max_seqs, prefill_tokens, draw, steps=1, reads=None):
    """Until everything has ended, or for so many reads; the scheduler, and what it forwarded."""
    scheduler = Scheduler(groups, pages, max_seqs=max_seqs, prefill_tokens=prefill_tokens, steps=steps)
    forwarded = {"prefill": 0, "decode": 0, "reads": 0}
    while scheduler.unfinished() and forwarded["reads"] != reads:
        while admitted := scheduler.admit():
            assert len(admitted) == 1 or sum(len(group.prefix) for group in admitted) <= prefill_tokens
            for group in admitted:
                forwarded["prefill"] += len(group.prefix)
                for sample in group.samples:
                    assert group.prefix == [*sample.request.prompt_ids, *sample.ids]
                    sample.accept(draw(sample), 0.0)
            scheduler.prefilled(admitted)
        scheduler.start()
        scheduler.grow()
        assert len(scheduler.running) <= max_seqs
        assert [sample.row for sample in scheduler.running] == list(range(len(scheduler.running)))
        check_pages(scheduler)
        forwarded["reads"] += bool(scheduler.running)
        for _ in range(steps):
            live = [sample for sample in scheduler.running if not sample.finished]
            forwarded["decode"] += len(live)
            for sample in live:
                sample.accept(draw(sample), 0.0)
        scheduler.retire([sample for sample in scheduler.running if sample.finished])
    scheduler.abandon()
    assert pages.num_free == pages.num_pages
    return scheduler, forwarded


shapes = st.tuples(
    st.integers(1, 20), st.integers(1, 6), st.integers(1, 20), st.none() | st.integers(0, 30), st.integers(0, 20)
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(shapes, max_size=8), st.integers(1, 8), st.integers(1, 6), st.integers(0, 6), st.integers(1, 40),
    st.integers(1, 5), st.none() | st.integers(0, 12),
)  # fmt: skip
def test_no_schedule_loses_a_page_or_a_sample(drawn, page_size, max_seqs, spare_pages, prefill_tokens, steps, reads):
    """Also when it is given up after some reads and what was unfinished goes on in a new one."""
    requests = [
        Request([1] * prompt, n=n, max_tokens=tokens, expected_tokens=expected, stop_ids=(STOP,))
        for prompt, n, tokens, expected, _ in drawn
    ]
    needed = max((len(r.prompt_ids) + r.max_tokens for r in requests), default=1)
    num_pages = -(-needed // page_size) + spare_pages
    groups = make_groups(requests)
    samples = [sample for group in groups for sample in group.samples]
    last = [stop for *_, stop in drawn]

    def draw(sample):
        return STOP if len(sample.ids) == last[int(sample.name)] + sample.index else len(sample.ids) % STOP

    settings = {"max_seqs": max_seqs, "prefill_tokens": prefill_tokens, "draw": draw, "steps": steps}
    run(groups, PageAllocator(num_pages, page_size), reads=reads, **settings)
    unfinished = [sample for sample in samples if not sample.finished]
    assert reads is not None or not unfinished
    rest = [Sample(s.request, s.name, s.index, 0, s.stop_ids, list(s.ids), list(s.logprobs)) for s in unfinished]
    groups = [Group.of_one(sample) for sample in rest]
    run(groups, PageAllocator(num_pages, page_size), **settings)
    for sample in [sample for sample in samples if sample.finished] + rest:
        stop = last[int(sample.name)] + sample.index + 1
        length = min(stop, sample.request.max_tokens)
        assert sample.ids == [STOP if i + 1 == stop else i % STOP for i in range(length)]
        assert len(sample.logprobs) == length
        assert sample.finish_reason == ("stop" if stop <= length else "length")


def test_nothing_is_forwarded_twice_while_pages_last():
    requests = [Request([1] * length, n=5, max_tokens=9) for length in (3, 8, 16)]
    scheduler, forwarded = run(
        make_groups(requests), PageAllocator(200, 4), max_seqs=4, prefill_tokens=100, draw=lambda sample: 1
    )
    assert scheduler.preemptions == 0
    assert forwarded["prefill"] == 3 + 8 + 16
    assert forwarded["decode"] == 15 * 8


def test_a_free_row_is_refilled_at_once():
    lengths = [2, 9, 5, 4, 3, 8, 6]
    requests = [Request([1], max_tokens=length, expected_tokens=100 - i) for i, length in enumerate(lengths)]
    _, forwarded = run(make_groups(requests), PageAllocator(99, 4), max_seqs=2, prefill_tokens=9, draw=lambda s: 1)
    rows = [0, 0]
    for length in lengths:
        rows[rows.index(min(rows))] += length - 1
    assert forwarded["reads"] == max(rows)


def test_expected_length_decides_who_starts_first():
    requests = [Request([1], max_tokens=5), Request([1], max_tokens=9, expected_tokens=2.5), Request([1], max_tokens=7)]
    scheduler = Scheduler(make_groups(requests), PageAllocator(99, 4), max_seqs=1, prefill_tokens=9)
    assert [group.request.max_tokens for group in scheduler.waiting] == [7, 5, 9]


def test_the_newest_is_preempted_first_and_the_oldest_never():
    requests = [Request([1] * 4, max_tokens=20, expected_tokens=i, id=str(i)) for i in (3, 2, 1)]
    groups = make_groups(requests)
    oldest, *_, newest = [group.samples[0] for group in groups]
    scheduler = Scheduler(groups, PageAllocator(6, 4), max_seqs=3, prefill_tokens=99)
    newest_held_pages = []
    while not oldest.finished:
        while admitted := scheduler.admit():
            for group in admitted:
                group.samples[0].accept(1, 0.0)
            scheduler.prefilled(admitted)
        scheduler.start()
        before = scheduler.preemptions
        scheduler.grow()
        if scheduler.preemptions > before:
            newest_held_pages.append(bool(newest.pages))
        assert oldest in scheduler.running
        scheduler.retire([sample for sample in scheduler.running if sample.accept(1, 0.0)])
    assert newest_held_pages and not newest_held_pages[0]
