"""The first update of a rollout is on-policy to the last bit; further ones are not."""

import pytest
import torch

from corl.training.advantages import train_sequences
from corl.training.batch import micro_batch, pack
from corl.training.grpo import improve, roll_out

# with this seed more groups than fit one micro-batch draw different rewards
RL = ("stages=[rl1]", "rl1.temperature=0.8", "run.seed=5")


@pytest.fixture
def session(open_tiny, tmp_path):
    return open_tiny(tmp_path, *RL)


def test_scored_logprobs_are_those_of_the_engine(session):
    rl = session.config.rl1
    groups = roll_out(session, rl).groups
    trainer = session.trainer(rl.optim, 1)
    (share,) = pack(train_sequences(groups, rl), session.config.parallel.tokens_per_micro_batch, 1)
    assert len(share) > 1
    batches = [micro_batch(bin_, session.world.device) for bin_ in share]
    scored = torch.cat([trainer.score(batch, rl.temperature) for batch in batches])
    sampled = torch.cat([batch.rollout_logprobs for batch in batches])
    assert (scored - sampled).abs().max() <= 1e-5
    assert scored.min() < -1  # there was something to choose


@pytest.mark.parametrize("kind", ["grpo", "gspo", "cispo"])
def test_ratio_is_exactly_one_on_the_first_update(open_tiny, tmp_path, kind):
    session = open_tiny(tmp_path, *RL, f"rl1.objective.kind={kind}")
    rl = session.config.rl1
    groups = roll_out(session, rl).groups
    trainer = session.trainer(rl.optim, 1)
    updates, _ = improve(session, trainer, rl, groups, None)
    first, second = ([output[3] for output in update.outputs] for update in updates)
    assert len(first) > 1 and all(update.applied for update in updates)
    assert [metrics.ratio_max.item() for metrics in first] == [1.0] * len(first)
    assert max(metrics.ratio_max.item() for metrics in second) > 1.0


def test_old_logprobs_are_bitwise_those_of_the_update(session, monkeypatch):
    """Not the greatest ratio alone: every token's."""
    rl = session.config.rl1
    groups = roll_out(session, rl).groups
    trainer = session.trainer(rl.optim, 1)
    scored, score = [], trainer.score
    monkeypatch.setattr(trainer, "score", lambda *args: scored.append(score(*args)) or scored[-1])
    updates, _ = improve(session, trainer, rl, groups, None)
    first = [output[1] for output in updates[0].outputs]
    assert all(torch.equal(old, new) for old, new in zip(scored, first, strict=False))
    assert not torch.equal(scored[len(first)], updates[1].outputs[0][1])


def test_ratio_to_the_engine(open_tiny, tmp_path):
    session = open_tiny(tmp_path, *RL, "rl1.old_logprobs=engine", "rl1.updates_per_rollout=1")
    rl = session.config.rl1
    groups = roll_out(session, rl).groups
    _, policy = improve(session, session.trainer(rl.optim, 1), rl, groups, None)
    assert abs(policy["ratio_max"] - 1.0) <= 1e-5
