from dataclasses import replace
from types import SimpleNamespace

import pytest

from corl.rollout.stats import EngineStats
from corl.rollout.weights import SwapReport
from corl.training.carry import CarriedGroup
from corl.training.rollout_metrics import EngineCall, rollout_metrics

# two engines of 4 rows, two generates each: max_seqs x decode_steps = decode_tokens + beyond + idle
ONE = [
    EngineStats(prefill_tokens=20, recomputed=6, decode_tokens=30, beyond=2, idle=8, decode_steps=10, preemptions=1,
                peak_pages=6, num_pages=8, seconds=2.0),
    EngineStats(prefill_tokens=5, decode_tokens=4, idle=0, decode_steps=1, peak_pages=2, num_pages=8, seconds=0.5),
]  # fmt: skip
OTHER = [
    EngineStats(prefill_tokens=10, decode_tokens=16, idle=8, decode_steps=6, peak_pages=7, num_pages=8, seconds=1.0),
    EngineStats(prefill_tokens=5, decode_tokens=8, idle=0, decode_steps=2, preemptions=2, peak_pages=1, num_pages=8,
                seconds=1.0),
]  # fmt: skip


def section(make_session, engines, swaps, parallel=None, carried=()):
    """rollout_metrics as rank 0 computes it; the other ranks' values are `engines` and `swaps`."""

    def gather(value):
        others = [
            ([{f: getattr(stats, f) for f in EngineStats.__dataclass_fields__} for stats in calls], s.bytes, s.seconds)
            for calls, s in zip(engines[1:], swaps[1:], strict=True)
        ]
        return [value, *others]

    session = make_session(["easy"] * 4, world=SimpleNamespace(gather=gather, is_main=True))
    session.solver.engine.max_seqs, session.solver.engine.tensor_parallel = 4, parallel
    session.carried = list(carried)
    return rollout_metrics(session, swaps[0], [EngineCall(stats, 50 + 2 * k) for k, stats in enumerate(engines[0])])


def test_by_hand(make_session, make_attempt):
    waiting = [
        CarriedGroup("item-1", 0, [make_attempt("item-1", 0, length=5), make_attempt("item-1", 1, length=7)]),
        CarriedGroup("item-2", 1, [replace(make_attempt("item-2", 0, length=3), finish_reason="carried")]),
    ]
    found = section(make_session, [ONE, OTHER], [SwapReport(100, 0.5), SwapReport(90, 0.75)], carried=waiting)
    assert found == {
        "tokens": 102,
        "tokens_per_s": pytest.approx(102 / 3.0),  # 2.0 in the first generate, 1.0 in the second
        "decode_steps": 12,  # 10 and 2
        # 2 engines x 4 rows x 12 steps = 96 places; 30 + 2 + 4 and 16 + 8 drew
        "idle_share": pytest.approx(1 - 60 / 96),
        "wasted_share": pytest.approx(8 / 100),  # 6 + 2 of 40 prefilled and 60 decoded
        "preemptions": 3,
        "kv_peak": 7 / 8,
        "swap": {"bytes": 100, "seconds": 0.75},
        "carried": {"groups": 2, "samples": 1, "tokens": 15},
    }


def test_ranks_that_generate_together_count_once(make_session):
    """The first rank of the group speaks for it: the others send None."""
    alone = section(make_session, [ONE], [SwapReport(100, 0.5)])
    seen = []
    session = make_session(["easy"], world=SimpleNamespace(gather=lambda value: seen.append(value) or [value, None]))
    session.solver.engine.max_seqs = 4
    calls = [EngineCall(stats, 50 + 2 * k) for k, stats in enumerate(ONE)]
    session.solver.engine.tensor_parallel = SimpleNamespace(rank=0)
    assert rollout_metrics(session, SwapReport(100, 0.5), calls) == alone
    session.solver.engine.tensor_parallel = SimpleNamespace(rank=1)
    session.world.gather = lambda value: seen.append(value) or [(seen[0][0], 100, 0.5), value]
    assert rollout_metrics(session, SwapReport(100, 0.5), calls) == alone
    assert seen[0] is not None and seen[1] is None


def test_a_step_without_a_generate(make_session):
    found = section(make_session, [[]], [SwapReport(0, 0.0)])
    assert (found["tokens"], found["idle_share"], found["wasted_share"], found["kv_peak"]) == (0, 0.0, 0.0, 0.0)
