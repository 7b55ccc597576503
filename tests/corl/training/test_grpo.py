from dataclasses import replace

import pytest
import torch

from corl.config import RL, Mix, Objective, Optim
from corl.model.score import score
from corl.training import grpo
from corl.training.advantages import make_group
from corl.training.grpo import improve
from corl.training.trainer import Trainer
from corl_kernels import linear_logprobs

# An eps of 1 makes the first AdamW step a smooth function of the gradient: equal to 1e-6 where the gradients are.
OPTIM = Optim(lr=0.5, eps=1.0, max_grad_norm=1e9)


def settings(**changes) -> RL:
    fields = {"optim": OPTIM, "mix": Mix(by="uniform"), "max_steps": 1, "prompts_per_step": 4, "group_size": 4}
    return RL(**(fields | {"max_tokens": 8} | changes))


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


@pytest.mark.parametrize("kind", ["reinforce", "grpo", "gspo", "cispo"])
@pytest.mark.parametrize("correction", ["truncate", "mask"])
def test_one_update_a_rollout_needs_no_scoring_pass(improved, monkeypatch, kind, correction):
    """With old_logprobs of a scoring pass the same bits come out."""
    rl = settings(objective=Objective(kind=kind, rollout_correction=correction))
    plain, score_, calls = grpo.linear_policy_loss, Trainer.score, []

    def counted(*args):
        calls.append(args)
        return score_(*args)

    def with_scored(hidden, weight, targets, *args, old_logprobs, **kwargs):
        assert old_logprobs is None
        with torch.no_grad():
            old_logprobs = linear_logprobs(hidden, weight, targets, temperature=kwargs["temperature"])[0]
        return plain(hidden, weight, targets, *args, old_logprobs=old_logprobs, **kwargs)

    monkeypatch.setattr(Trainer, "score", counted)
    (update,), policy, weights = improved(rl, 25)
    assert not calls and update.grad_norm > 1e-6
    monkeypatch.setattr(grpo, "linear_policy_loss", with_scored)
    (expected,), expected_policy, expected_weights = improved(rl, 25)
    assert (update.loss, update.grad_norm, policy) == (expected.loss, expected.grad_norm, expected_policy)
    assert all(torch.equal(weight, expected_weights[name]) for name, weight in weights.items())
    monkeypatch.setattr(grpo, "linear_policy_loss", plain)
    improved(replace(rl, updates_per_rollout=2, objective=replace(rl.objective, kind="grpo")))
    assert calls


def test_a_step_that_teaches_nothing_changes_nothing(improved, make_decoder):
    (update,), policy, weights = improved(settings(), rewards=("1111", "0000", "0000", "1111"))
    assert update.applied
    assert (update.loss, update.grad_norm) == (0.0, 0.0)
    assert all(torch.equal(weights[name], p) for name, p in make_decoder(seed=1).named_parameters())
    assert set(policy.values()) == {0.0}
