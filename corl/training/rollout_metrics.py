"""What the engines of all ranks did in the rollout of a step, as numbers of the step."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from corl.rollout.stats import EngineStats
from corl.rollout.weights import SwapReport
from corl.training.session import Session


@dataclass(frozen=True, slots=True)
class EngineCall:
    """One generate of a rollout: what this rank's engine did, and the tokens sampled over all ranks."""

    stats: EngineStats
    tokens: int


def rollout_metrics(session: Session, swap: SwapReport, calls: Sequence[EngineCall]) -> dict[str, Any]:
    """The section `rollout` of a step's line; a collective. `calls` are those of the rollout, as many on every rank.

    tokens         sampled in this rollout; tokens_per_s: over the seconds of the slowest engine
    decode_steps   of the slowest engine
    idle_share     row-steps that drew nothing, also those of an engine that waits for the slowest one
    wasted_share   tokens forwarded that nothing came of: prefilled again after a preemption or a carry, or drawn beyond
                   the end of a sample
    kv_peak        largest share of an engine's pages in use
    swap           bytes made current on a rank, and the seconds of the slowest
    carried        what goes into the next step: groups, samples of them that are not finished, tokens they hold
    """
    engine = session.solver.engine
    first = engine.tensor_parallel is None or engine.tensor_parallel.rank == 0  # of the ranks that generate together
    did = ([asdict(call.stats) for call in calls], swap.bytes, swap.seconds)
    engines = [found for found in session.world.gather(did if first else None) if found is not None]
    by_call = [[found[0][k] for found in engines] for k in range(len(calls))]

    def total(key: str) -> int:
        return sum(stats[key] for call in by_call for stats in call)

    def slowest(key: str) -> float:
        return sum(max(stats[key] for stats in call) for call in by_call)

    tokens = sum(call.tokens for call in calls)
    forwarded = total("prefill_tokens") + total("decode_tokens") + total("beyond")
    steps, drawn = slowest("decode_steps"), total("decode_tokens") + total("beyond")
    row_steps = steps * engine.max_seqs * len(engines)
    peaks = [stats["peak_pages"] / max(1, stats["num_pages"]) for call in by_call for stats in call]
    return {
        "tokens": tokens,
        "tokens_per_s": tokens / max(slowest("seconds"), 1e-9),
        "decode_steps": steps,
        "idle_share": 1.0 - drawn / row_steps if row_steps else 0.0,
        "wasted_share": (total("recomputed") + total("beyond")) / max(1, forwarded),
        "preemptions": total("preemptions"),
        "kv_peak": max(peaks, default=0.0),
        "swap": {"bytes": max(found[1] for found in engines), "seconds": max(found[2] for found in engines)},
        "carried": {
            "groups": len(session.carried),
            "samples": sum(not a.finished for group in session.carried for a in group.attempts),
            "tokens": sum(group.tokens for group in session.carried),
        },
    }
