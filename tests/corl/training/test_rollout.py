import json
from dataclasses import replace

import pytest

from corl.config import RL, Mix, Optim, Rollout
from corl.training.rollout import finish_carried, roll_out, write_rollout
from corl.training.session import StoppedError


def settings(**changes) -> RL:
    fields = {"optim": Optim(lr=0.5), "mix": Mix(by="uniform"), "max_steps": 1, "prompts_per_step": 4, "group_size": 4}
    return RL(**(fields | {"max_tokens": 8} | changes))


def mixed(item, sample):
    return sample % 2 == 0


def test_a_rollout_enters_the_pool_and_the_counts(make_session):
    session = make_session(["easy"] * 6, lambda item, s: mixed(item, s) or item == "item-1")
    session.state.policy_version = 5
    rollout = roll_out(session, settings(prompts_per_step=6))
    assert len(rollout.groups) == 6
    assert rollout.policy_version == 5
    assert rollout.zero_variance == pytest.approx(1 / 6)
    assert rollout.replaced == 0
    assert rollout.mean_reward == pytest.approx((5 * 0.5 + 1) / 6)
    assert session.pool.state()["log"][:, 1:].tolist().count([5, 4, 2]) == 5
    assert session.solver.swaps == 1


def test_groups_without_variance_are_replaced_and_counted(make_session):
    def correct(item, sample):  # every third item teaches something
        return mixed(item, sample) if int(item[5:]) % 3 == 0 else True

    session = make_session(["easy"] * 60, correct)
    rollout = roll_out(session, settings(zero_variance="replace", replace_rounds=50, prompts_per_step=6))
    first = session.solver.calls[0][2]
    useless = sum(int(item[5:]) % 3 != 0 for item in first)
    assert useless > 0
    assert len(rollout.groups) == 6
    assert not any(g.zero_variance for g in rollout.groups)
    assert rollout.replaced == useless
    assert rollout.zero_variance == useless / 6
    attempted = [item for _, _, items in session.solver.calls for item in items]
    assert len(set(attempted)) == len(attempted)
    # Each round draws as many as are still missing.
    assert [len(items) for _, _, items in session.solver.calls[:2]] == [6, useless]


@pytest.mark.parametrize("rounds", [0, 1, 3])
def test_a_pool_without_variance_degrades_within_the_rounds(make_session, rounds):
    session = make_session(["easy"] * 40, lambda item, s: False)
    rollout = roll_out(session, settings(zero_variance="replace", replace_rounds=rounds))
    assert len(session.solver.calls) == 1 + rounds
    assert [g.prompt.item.id for g in rollout.groups] == session.solver.calls[0][2]
    assert rollout.zero_variance == 1.0
    assert rollout.replaced == 0


def test_a_pool_that_runs_out_while_replacing_stops_looking(make_session):
    session = make_session(["easy"] * 7, lambda item, s: mixed(item, s) and item == "item-3")
    rollout = roll_out(session, settings(zero_variance="replace", replace_rounds=50))
    attempted = [item for _, _, items in session.solver.calls for item in items]
    assert sorted(attempted) == [f"item-{k}" for k in range(7)]
    assert len(rollout.groups) == 4
    assert rollout.groups[0].prompt.item.id == "item-3"
    assert rollout.replaced == (0 if "item-3" in session.solver.calls[0][2] else 1)
    # Fewer items than prompts_per_step: what there is.
    session = make_session(["easy"] * 3, lambda item, s: False)
    rollout = roll_out(session, settings(zero_variance="replace"))
    assert (len(rollout.groups), rollout.replaced, len(session.solver.calls)) == (3, 0, 1)


def test_without_replacement_groups_stay_as_drawn(make_session):
    session = make_session(["easy"] * 40, lambda item, s: False)
    rollout = roll_out(session, settings())
    assert [g.prompt.item.id for g in rollout.groups] == session.solver.calls[0][2]
    assert len(session.solver.calls) == 1


def test_a_step_repeated_after_a_kill_draws_the_same(make_session):
    rl = settings(zero_variance="replace")
    drawn = [
        [items for _, _, items in session.solver.calls]
        for session in (make_session(["easy"] * 40, lambda item, s: False) for _ in range(2))
        if roll_out(session, rl)
    ]
    assert drawn[0] == drawn[1]


def test_every_sample_of_a_step_is_written(make_session, tmp_path):
    session = make_session(["easy"] * 4, mixed)
    rollout = roll_out(session, settings())
    session.state.step = 1
    write_rollout(session, rollout.groups, trained=True)
    lines = [json.loads(line) for line in (tmp_path / "rollouts" / "step_1.jsonl").read_text().splitlines()]
    assert [(line["item"], line["sample"]) for line in lines] == [
        (g.prompt.item.id, s) for g in rollout.groups for s in range(4)
    ]
    assert [line["reward"] for line in lines] == [1.0, 0.0] * 8
    assert lines[0]["grade"] == {"format_ok": True, "extracted": "A", "correct": True}
    assert lines[0].keys() == {
        "item", "sample", "prompt", "completion", "reward", "grade", "finish_reason", "policy_version", "trained",
    }  # fmt: skip
    assert all(line["trained"] for line in lines)


class LongTailSolver:
    """Stands in for a solver whose samples all run at once, a token a step. Sample s of item-k takes lengths[k] + s
    tokens; `calls` are (item ids, ids of the carried ones, enough)."""

    def __init__(self, lengths, make_attempt, engine):
        self.lengths, self.make_attempt, self.engine = lengths, make_attempt, engine
        self.calls = []

    def attempt(self, prompts, sampling, *, step, expected=None, carried=None, enough=None):
        carried = carried or {}
        names = [p.item.id for p in prompts]
        so_far = {p.item.id: carried.get(sampling.request_id(p.item.id)) for p in prompts}
        self.calls.append((names, [name for name in names if so_far[name]], enough))
        assert all(so_far[name].step < step for name in self.calls[-1][1]), "it keeps the step that drew it"
        assert not any(expected.get(name) for name in self.calls[-1][1]), "what was left over is expected to be long"
        had = {
            name: [len(c.ids) for c in so_far[name].completions] if so_far[name] else [0] * sampling.samples
            for name in names
        }
        full = {name: [self.lengths[int(name[5:])] + s for s in range(sampling.samples)] for name in names}
        left = sorted(max(f - h for f, h in zip(full[name], had[name], strict=True)) for name in names)
        steps = left[-1] if enough is None else left[enough - 1]
        found = []
        for name in names:
            lengths = [min(f, h + steps) for f, h in zip(full[name], had[name], strict=True)]
            found.append([
                self.make_attempt(name, s, s == 0, length=n, finish="stop" if n == full[name][s] else "carried")
                for s, n in enumerate(lengths)
            ])  # fmt: skip
        return found


@pytest.fixture
def make_over_sampling(make_session, make_attempt):
    """make_over_sampling(lengths of the items, oversample): a session at step 0 whose next steps are steps_of's."""

    def make(lengths, oversample=1.5):
        session = make_session(["easy"] * len(lengths))
        session.solver = LongTailSolver(lengths, make_attempt, session.solver.engine)
        session.config = replace(session.config, rollout=Rollout(oversample=oversample))
        return session

    return make


def next_step(session, rl):
    rollout = roll_out(session, rl)
    session.state.step += 1
    session.state.policy_version += 1
    write_rollout(session, rollout.groups, trained=True)
    return rollout


def ids_of(groups) -> list[str]:
    return [g.prompt.item.id if hasattr(g, "prompt") else g.item_id for g in groups]


def test_every_prompt_drawn_is_trained_on_carried_or_finished(make_over_sampling, tmp_path):
    lengths = [3, 30, 4, 5, 6, 31, 7, 8, 9, 3, 4, 50, 5, 6, 7, 8, 9, 3, 4, 5, 6, 7, 8, 9]
    session, rl, trained, version = make_over_sampling(lengths), settings(), [], {}
    for step in range(4):
        before = list(session.carried)
        rollout = next_step(session, rl)
        names, continued, enough = session.solver.calls[-1]
        # 6 prompts at a time, carried ones first and never drawn again; the engine hears of unfinished ones alone
        assert len(names) + sum(g.complete for g in before) == 6 and len(set(names)) == len(names)
        assert continued == names[: len(continued)] == ids_of(g for g in before if not g.complete)
        assert enough == 4 - sum(g.complete for g in before)
        assert len(rollout.groups) == 4
        assert all(a.finished for g in rollout.groups for a in g.attempts)
        in_order = [g for g in ids_of(before) + names if g in ids_of(rollout.groups)]
        assert ids_of(rollout.groups) == list(dict.fromkeys(in_order))
        trained += ids_of(rollout.groups)
        version |= {name: step for name in names}
        drawn = sum(1 for n in session.pool.draws if n)
        assert len(trained) == len(set(trained)) and drawn == len(trained) + len(session.carried)
        assert not set(trained) & set(ids_of(session.carried))
    waiting = ids_of(session.carried)
    assert "item-11" in waiting or "item-1" in waiting
    finished = finish_carried(session, rl)
    assert (ids_of(finished), session.carried) == (waiting, [])
    assert all(a.finished for g in finished for a in g.attempts)
    # every sample of every prompt drawn, once, whole
    lines = [json.loads(x) for f in (tmp_path / "rollouts").iterdir() for x in f.read_text().splitlines()]
    assert sorted((line["item"], line["sample"]) for line in lines) == sorted(
        (name, s) for name in trained + waiting for s in range(4)
    )
    assert {line["item"] for line in lines if not line["trained"]} == set(waiting)
    # and once in the pool
    log = session.pool.state()["log"]
    assert sorted(log[:, 0].tolist()) == sorted(session.pool.index[name] for name in trained + waiting)
    assert log[:, 2].tolist() == [4] * len(log)


def test_a_carried_prompt_is_not_drawn_again(make_over_sampling):
    """Of 8 items two are long; the others come again and again beside them."""
    session, rl = make_over_sampling([300, 3, 3, 3, 300, 3, 3, 3]), settings()
    for _ in range(6):
        before = ids_of(session.carried)
        drawn = [session.pool.ids[i] for i in next_step(session, rl).draws[0].indices]
        assert len(drawn) == 6 - len(before) and not set(drawn) & set(before)
    assert session.pool.draws.max() > 2


def test_versions_say_which_weights_drew_which_tokens(make_over_sampling, tmp_path):
    session, rl = make_over_sampling([3, 3, 3, 3, 20, 20, 3, 3, 3, 3]), settings(group_size=2)
    session.state.policy_version = 7
    session.pool.draws[6:] = 1  # the first step draws items 0 to 5
    next_step(session, rl)
    assert [a.versions for g in session.carried for a in g.attempts] == [((7, 4),)] * 4
    session.state.policy_version = 7  # the update was skipped
    next_step(session, rl)
    assert [a.versions for g in session.carried for a in g.attempts] == [((7, 8),)] * 4
    (first, _) = finish_carried(session, rl)
    assert [a.versions for a in first.attempts] == [((7, 8), (8, 12)), ((7, 8), (8, 13))]
    assert [len(a.ids) for a in first.attempts] == [20, 21]
    lines = [json.loads(line) for line in (tmp_path / "rollouts" / "step_2.jsonl").read_text().splitlines()]
    assert [line["trained"] for line in lines] == [True] * 8 + [False] * 4
    assert {line["policy_version"] for line in lines[:8]} == {7} and "policy_versions" not in lines[0]
    assert lines[8]["policy_version"] == 8 and lines[8]["policy_versions"] == [[7, 8], [8, 12]]
    # Finished again after a kill, they stand there once.
    write_rollout(session, [first], trained=False)
    again = (tmp_path / "rollouts" / "step_2.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in again] == lines[:8] + [x for x in lines[8:] if x["item"] == lines[8]["item"]]


def test_groups_complete_beyond_the_step_are_trained_on_next(make_over_sampling):
    """All end at once: what the step has no room for waits, and is not generated again."""
    session, rl = make_over_sampling([5] * 30, oversample=2.5), settings()
    next_step(session, rl)
    assert len(session.carried) == 6 and all(g.complete for g in session.carried)
    observed = len(session.pool.state()["log"])
    waiting = ids_of(session.carried)
    second = next_step(session, rl)
    assert ids_of(second.groups) == waiting[:4] and ids_of(session.carried) == waiting[4:]
    assert len(session.solver.calls) == 1, "nothing was missing, nothing was generated"
    assert second.draws[0].indices == [] and len(session.pool.state()["log"]) == observed == 10
    third = next_step(session, rl)
    assert ids_of(third.groups)[:2] == waiting[4:] and session.solver.calls[-1][2] == 2


def test_a_small_pool_gives_what_it_has(make_over_sampling):
    session, rl = make_over_sampling([3, 3, 30]), settings()
    assert len(next_step(session, rl).groups) == 3 and session.carried == []
    session = make_over_sampling([])
    with pytest.raises(StoppedError, match="no prompt to draw"):
        roll_out(session, rl)


def test_what_is_carried_is_worked_off_when_over_sampling_ends(make_over_sampling):
    session, rl = make_over_sampling([3, 3, 3, 3, 20, 20, 3, 3, 3, 3]), settings()
    session.pool.draws[6:] = 1
    next_step(session, rl)
    waiting = ids_of(session.carried)
    session.config = replace(session.config, rollout=Rollout())
    assert ids_of(next_step(session, rl).groups)[:2] == waiting and session.carried == []


def test_a_group_keeps_its_step_for_the_control_s_coins(make_over_sampling):
    rl = settings(reward=replace(settings().reward, control="random"), group_size=16)
    rewards = []
    for steps in (1, 3):  # finished in the step that drew it, and two steps later
        session = make_over_sampling([3, 3, 3, 3, 9 * steps, 3] + [3] * 12)
        session.pool.draws[6:] = 1
        groups = [g for _ in range(steps) for g in next_step(session, rl).groups] + finish_carried(session, rl)
        rewards.append(next(g.rewards for g in groups if g.prompt.item.id == "item-4"))
    assert rewards[0] == rewards[1] and len(set(rewards[0])) == 2


def test_the_section_tells_what_waits(make_over_sampling):
    session = make_over_sampling([3, 3, 3, 3, 20, 20])
    section = next_step(session, settings(group_size=2)).engine
    assert section["carried"] == {"groups": 2, "samples": 4, "tokens": 16}
    assert section["tokens"] == 4 * 7 + 16
