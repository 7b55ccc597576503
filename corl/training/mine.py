"""Mining: the newest model attempts the whole training set; the pool then knows what it still gets wrong."""

from typing import Any

import numpy as np

from corl.config import RL, Mine
from corl.evaluation.attempts import Sampling
from corl.training.session import Session


def mine(session: Session, settings: Mine) -> dict[str, Any]:
    """Attempt every training item `settings.samples` times with the present weights; returns the counts for the log."""
    sampling = Sampling("mine", settings.samples, settings.max_tokens, settings.temperature)
    session.swap_weights()
    session.attempt_into_pool(session.data.train, sampling)
    rates = session.pool.pass_rates()
    return {
        "items": len(rates),
        "samples": settings.samples,
        "pass_rate": float(rates.mean()),
        "never": int((rates == 0).sum()),
        "always": int((rates == 1).sum()),
        "by_tier": {
            tier or "untiered": float(rates[[t == tier for t in session.pool.tier]].mean())
            for tier in sorted(set(session.pool.tier), key=str)
        },
    }


def tier_items(session: Session, rl: RL) -> int:
    """Tier the items that came without a difficulty by the present policy's pass rate over rl.tier_samples attempts."""
    missing = set(session.pool.without_tier())
    if missing:
        prompts = [prompt for prompt in session.data.train if prompt.item.id in missing]
        session.swap_weights()
        session.attempt_into_pool(prompts, Sampling("tier", rl.tier_samples, rl.max_tokens, rl.temperature))
        rates = session.pool.pass_rates()
        assert not np.isnan(rates[[session.pool.index[i] for i in missing]]).any()
        session.pool.assign_tiers()
    return len(missing)
