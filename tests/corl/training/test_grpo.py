import json
from dataclasses import replace

import pytest
import torch

from corl.config import RL, Mix, Objective, Optim
from corl.model.score import score
from corl.training.advantages import make_group
from corl.training.grpo import improve, roll_out, write_rollout
from corl.training.trainer import Trainer

# An eps of 1 makes the first AdamW step a smooth function of the gradient: equal to 1e-6 where the gradients are.
OPTIM = Optim(lr=0.5, eps=1.0, max_grad_norm=1e9)


def settings(**changes) -> RL:
    fields = {"optim": OPTIM, "mix": Mix(by="uniform"), "max_steps": 1, "prompts_per_step": 4, "group_size": 4}
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
    write_rollout(session, rollout)
    lines = [json.loads(line) for line in (tmp_path / "rollouts" / "step_1.jsonl").read_text().splitlines()]
    assert [(line["item"], line["sample"]) for line in lines] == [
        (g.prompt.item.id, s) for g in rollout.groups for s in range(4)
    ]
    assert [line["reward"] for line in lines] == [1.0, 0.0] * 8
    assert lines[0]["grade"] == {"format_ok": True, "extracted": "A", "correct": True}
    assert lines[0].keys() == {
        "item", "sample", "prompt", "completion", "reward", "grade", "finish_reason", "policy_version",
    }  # fmt: skip


REWARDS = ("1010", "0001", "1111", "0110")


@pytest.fixture
def improved(world, make_sharded, make_session, make_attempt):
    """improved(rl, tokens, rewards): (updates, policy metrics, weights) of one step in micro-batches of `tokens`."""

    def run(rl: RL, tokens: int = 16384, rewards: tuple[str, ...] = REWARDS):
        decoder, parameters = make_sharded(seed=1)
        session = make_session(["easy"] * 4, tokens=tokens, world=world, decoder=decoder, parameters=parameters)
        groups = []
        for prompt, samples in zip(session.data.train, rewards, strict=True):
            attempts = [
                make_attempt(prompt.item.id, k, c == "1", length=2 + (3 * k + prompt.ids[0]) % 6)
                for k, c in enumerate(samples)
            ]
            groups.append(make_group(prompt, attempts, rl, seed=0, step=0))
        trainer = Trainer(decoder, parameters, world, rl.optim, 1)
        updates, policy = improve(session, trainer, rl, groups, None)
        return updates, policy, {name: p.full_tensor().detach().clone() for name, p in parameters.items()}

    return run


@pytest.mark.parametrize(("loss_norm", "objective"), [
    ("sequence_sum", Objective()),
    ("sequence_mean", Objective()),
    ("token_mean", Objective(entropy_coef=0.05)),
    ("constant", Objective()),
    ("sequence_mean", Objective(kind="grpo")),
    ("token_mean", Objective(kind="gspo")),
])  # fmt: skip
def test_loss_and_gradient_do_not_depend_on_the_micro_batches(improved, loss_norm, objective):
    rl = settings(loss_norm=loss_norm, objective=objective)
    (whole,), whole_policy, whole_weights = improved(rl)
    assert len(whole.outputs) == 1
    for tokens in (11, 25):
        (split,), policy, weights = improved(rl, tokens)
        assert len(split.outputs) > 3
        assert split.loss == pytest.approx(whole.loss, abs=1e-6)
        assert split.grad_norm == pytest.approx(whole.grad_norm, rel=1e-6)
        for name, weight in whole_weights.items():
            torch.testing.assert_close(weights[name], weight, rtol=0, atol=1e-6)
        for name, value in whole_policy.items():
            assert policy[name] == pytest.approx(value, abs=1e-5), name
    assert whole.applied
    assert whole.grad_norm > 1e-3


def test_the_loss_is_the_paper_s_equation(improved, make_decoder):
    """- (1 / N) sum_i (r_i - mean) sum_t log p(y_it), the log-probs sequence by sequence."""
    rl = settings()
    (update,), _, _ = improved(rl)
    total, samples = 0.0, 0
    model = make_decoder(seed=1)
    for k, rewards in enumerate(REWARDS):
        prompt = [(5 * k + j) % 61 for j in range(3 + k % 4)]
        mean = sum(map(int, rewards)) / 4
        for s, r in enumerate(rewards):
            length = 2 + (3 * s + prompt[0]) % 6
            ids = [*prompt, *((7 * s + j) % 61 for j in range(length))]
            total -= (int(r) - mean) * score(model, [ids])[0][-length:].sum().item()
            samples += 1
    assert update.loss == pytest.approx(total / samples, abs=1e-5)


def test_several_updates_a_rollout_share_it_and_keep_the_old_log_probs(improved):
    rl = settings(objective=Objective(kind="grpo"), updates_per_rollout=2)
    updates, policy, _ = improved(rl)
    assert [u.applied for u in updates] == [True, True]
    # The second update is off the policy that sampled: its ratios are no longer 1.
    assert policy["ratio_max"] > 1.001
    _, once, _ = improved(replace(rl, updates_per_rollout=1))
    assert once["ratio_max"] == pytest.approx(1.0, abs=1e-6)


def test_a_step_that_teaches_nothing_changes_nothing(improved, make_decoder):
    (update,), policy, weights = improved(settings(), rewards=("1111", "0000", "0000", "1111"))
    assert update.applied
    assert (update.loss, update.grad_norm) == (0.0, 0.0)
    assert all(torch.equal(weights[name], p) for name, p in make_decoder(seed=1).named_parameters())
    assert set(policy.values()) == {0.0}
