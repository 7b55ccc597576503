from dataclasses import replace

import pytest
import torch

from corl.config import Checkpoint, Eval, Optim
from corl.parallel import World
from corl.training import session as session_module
from corl.training.session import BadStepsError, Session
from corl.training.trainer import Update


def update(applied: bool) -> Update:
    return Update(0.5 if applied else float("nan"), 1.0, 1e-3, applied, [] if applied else ["q#1"], [])


def test_only_applied_updates_are_counted(make_session):
    session = make_session(["easy"])
    for applied in (True, False, True, False, False):
        session.account(update(applied))
    state = session.state
    assert (state.updates, state.policy_version, state.bad_streak) == (2, 2, 2)
    session.stop_if_stuck(update(False))
    session.account(update(False))
    with pytest.raises(BadStepsError, match=r"3 updates in a row.*q#1"):
        session.stop_if_stuck(update(False))
    state.begin("rl2")
    assert (state.stage, state.updates, state.policy_version, state.bad_streak) == ("rl2", 0, 2, 0)


@pytest.mark.parametrize(("reshard", "weights"), [(True, "arena"), (False, "shared"), (False, "arena")])
def test_a_trainer_holds_what_the_config_says_and_takes_over_the_engines_memory(
    make_session, monkeypatch, reshard, weights
):
    monkeypatch.setattr(session_module, "Trainer", lambda *arguments, **options: options)
    session = make_session(["easy"], world=World(0, 1, torch.device("cuda"), None))
    config = session.config
    session.config = replace(
        config,
        parallel=replace(config.parallel, reshard_after_forward=reshard),
        rollout=replace(config.rollout, weights=weights),
    )
    sleeps = []
    session.solver.engine.sleep = lambda: sleeps.append(True)
    options = session.trainer(Optim(lr=1e-3), 1)
    assert options == {"keep_gathered": weights == "shared", "shard_gradients": reshard}
    assert sleeps


def test_held_out_items_are_read_every_so_often_and_the_best_is_remembered(make_session, make_prompt):
    solved = [4, 1, 4, 3, 4, 3, 4, 2]  # at each step
    session = make_session(["easy"], lambda item, s: int(item[5:]) < solved[session.state.step - 1])
    session.config = replace(session.config, eval=Eval(every=2, samples=3, limit=4))
    session.data.held_out = [make_prompt(k) for k in range(9)]
    accuracies = []
    for step in range(1, 9):
        session.state.step = session.state.stage_step = step
        found = session.evaluate_when_due()
        accuracies.append(found.accuracy if found else None)
    assert accuracies == [None, 0.25, None, 0.75, None, 0.75, None, 0.5]
    # The earlier of two equals is kept: a later step has to be better.
    assert session.state.best == {"step": 4, "accuracy": 0.75, "checkpoint": "step_000004_rl1"}
    assert [items for _, _, items in session.solver.calls] == [[f"item-{k}" for k in range(4)]] * 8
    session.config = replace(session.config, eval=Eval())
    assert session.evaluate_when_due() is None


@pytest.mark.parametrize(("step", "best", "streak", "ended", "saves"), [
    (6, None, 0, False, True), (5, None, 0, False, False), (5, 5, 0, False, True), (5, 4, 0, False, False),
    (6, 6, 1, False, False), (6, 6, 0, True, False),
])  # fmt: skip
def test_a_checkpoint_is_due_every_so_often_and_at_the_best(
    make_session, monkeypatch, step, best, streak, ended, saves
):
    saved = []
    monkeypatch.setattr(Session, "save", lambda self, stage, trainer: saved.append((self.state.step, stage)))
    session = make_session(["easy"])
    session.config = replace(session.config, checkpoint=Checkpoint(every=3))
    session.state.step = session.state.stage_step = step
    session.state.bad_streak = streak
    session.state.best = {"step": best, "accuracy": 0.5, "checkpoint": "x"} if best else None
    session.checkpoint_when_due(None, ended=ended)
    assert saved == ([(step, "rl1")] if saves else [])
