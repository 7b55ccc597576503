import threading
from types import SimpleNamespace

import pytest

from corl.evaluation.attempts import Sampling, Solver, split_enough
from corl.rollout.request import Carried, Completion

SAMPLING = Sampling("train", 3, 9, 0.7, 0.95)


class StubEngine:
    """Completion s of a request: its item's prompt ids, then s; `asked` are the calls as (requests, step)."""

    def __init__(self):
        self.asked = []

    def generate(self, requests, *, step=0, on_finished=None, carried=None, enough=None):
        self.asked.append((requests, step))
        self.early = carried, enough
        return [
            Completion(r.id, s, [*r.prompt_ids, s], [-0.5] * (len(r.prompt_ids) + 1), "length" if s == 2 else "stop")
            for r in requests
            for s in range(r.n)
        ]


class StubTokenizer:
    stop_ids, prefill = (60, 61), "<think>"

    def decode(self, ids):
        """Sample 0 says A, sample 1 says B, sample 2 says nothing."""
        return f"{ids[:-1]}</think>\n" + ("", "<answer>A</answer>", "<answer>B</answer>")[(ids[-1] + 1) % 3]


class Ranks:
    """As many ranks as threads, which meet in `gather`."""

    def __init__(self, size):
        self.size, self.values, self.barrier = size, [None] * size, threading.Barrier(size, timeout=20)

    def world(self, rank):
        def gather(value):
            self.values[rank] = value
            self.barrier.wait()
            return list(self.values)

        return SimpleNamespace(rank=rank, size=self.size, is_main=rank == 0, gather=gather)


def attempt_on(ranks, prompts, *, tensor_parallel=1, **keywords):
    """What every rank's solver returns, and their engines."""
    shared, engines, results = Ranks(ranks), [StubEngine() for _ in range(ranks)], [None] * ranks

    def run(rank):
        solver = Solver(engines[rank], StubTokenizer(), shared.world(rank), tensor_parallel=tensor_parallel)
        results[rank] = solver.attempt(prompts, SAMPLING, step=4, **keywords)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results, engines


@pytest.mark.parametrize(("ranks", "tensor_parallel"), [(1, 1), (2, 1), (3, 1), (2, 2), (8, 4)])
def test_attempts_are_grouped_in_prompt_order_on_every_rank(make_prompt, ranks, tensor_parallel):
    prompts = [make_prompt(k, answer="B" if k == 3 else "A") for k in (4, 0, 3, 1, 2)]
    results, engines = attempt_on(ranks, prompts, tensor_parallel=tensor_parallel)
    assert all(result == results[0] for result in results)
    assert [[a.item_id for a in group] for group in results[0]] == [[p.item.id] * 3 for p in prompts]
    for prompt, group in zip(prompts, results[0], strict=True):
        assert [a.sample for a in group] == [0, 1, 2]
        assert [a.ids for a in group] == [[*prompt.ids, s] for s in range(3)]
        assert [a.finish_reason for a in group] == ["stop", "stop", "length"]
        assert [a.grade.extracted for a in group] == ["A", "B", None]
        assert [a.grade.correct for a in group] == [prompt.item.answer == "A", prompt.item.answer == "B", False]
        # The prompt has opened the thought, so the completion alone would not be well-formed.
        assert [a.grade.format_ok for a in group] == [True, True, False]
        assert all(len(a.logprobs) == len(a.ids) for a in group)
    # Every prompt is generated once, on one rank or on all those that hold a model together.
    for engine, first in zip(engines, range(ranks), strict=True):
        assert engine.asked == engines[first // tensor_parallel * tensor_parallel].asked
    asked = [r.id for engine in engines[::tensor_parallel] for requests, _ in engine.asked for r in requests]
    assert sorted(asked) == sorted(f"train:{p.item.id}" for p in prompts)


def test_requests_carry_the_sampling_and_what_is_expected(make_prompt):
    prompts = [make_prompt(0), make_prompt(1)]
    _, (engine,) = attempt_on(1, prompts, expected={"item-1": 5.5})
    ((requests, step),) = engine.asked
    assert step == 4
    assert [r.prompt_ids for r in requests] == [p.ids for p in prompts]
    assert [r.expected_tokens for r in requests] == [None, 5.5]
    for request in requests:
        assert (request.n, request.max_tokens, request.temperature, request.top_p) == (3, 9, 0.7, 0.95)
        assert request.stop_ids == (60, 61)


def test_more_ranks_than_prompts(make_prompt):
    results, engines = attempt_on(3, [make_prompt(0)])
    assert all([[a.sample for a in group] for group in result] == [[0, 1, 2]] for result in results)
    assert sum(bool(requests) for engine in engines for requests, _ in engine.asked) == 1


def test_without_prompts_there_are_no_attempts():
    assert attempt_on(2, [])[0] == [[], []]


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_every_engine_gets_its_carried_groups_and_its_part_of_enough(make_prompt, ranks):
    prompts = [make_prompt(k, length=3 + k % 3) for k in range(7)]
    carried = {f"train:item-{k}": Carried(k, []) for k in (1, 2, 5)}
    _, engines = attempt_on(ranks, prompts, carried=carried, enough=4)
    assert sum(enough for _, enough in (engine.early for engine in engines)) == 4
    for engine in engines:
        ((requests, _),), (mine, enough) = engine.asked, engine.early
        assert mine == {name: carried[name] for name in (r.id for r in requests) if name in carried}
        assert 0 <= enough <= len(requests)
    _, (engine,) = attempt_on(1, prompts)
    assert engine.early == (None, None)


def test_an_unfinished_attempt_says_so(make_prompt, make_attempt):
    engine = StubEngine()
    engine.generate = lambda requests, **_: [
        Completion(r.id, s, [5, s], [-0.5, -0.5], "carried" if s == 1 else "stop") for r in requests for s in range(r.n)
    ]
    solver = Solver(engine, StubTokenizer(), Ranks(1).world(0))
    ((first, second, third),) = solver.attempt([make_prompt(0)], SAMPLING, step=0)
    assert [a.finished for a in (first, second, third)] == [True, False, True]
    assert second.ids == [5, 1] and second.versions == ()


@pytest.mark.parametrize(("enough", "sizes", "parts"), [
    (6, [9], [6]), (6, [5, 4], [3, 3]), (5, [5, 5], [3, 2]), (4, [3, 3, 3], [2, 1, 1]), (9, [5, 4], [5, 4]),
    (0, [5, 4], [0, 0]), (3, [1, 8], [0, 3]), (2, [0, 3], [0, 2]), (7, [1, 1, 7], [1, 1, 5]), (0, [], []),
])  # fmt: skip
def test_parts_of_enough(enough, sizes, parts):
    assert split_enough(enough, sizes) == parts


def test_no_more_than_there_are():
    with pytest.raises(ValueError, match=r"enough=4 must lie in 0 \.\. 3"):
        split_enough(4, [2, 1])
