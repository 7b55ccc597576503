import math
from dataclasses import replace

import pytest
import torch

from corl.config import Optim, Rollout
from corl.evaluation.attempts import Prompt, Sampling, Solver
from corl.model.score import score
from corl.rollout.engine import Engine
from corl.training.advantages import Group
from corl.training.agreement import check_agreement, choose
from corl.training.session import StoppedError
from corl.training.trainer import Trainer

TEMPERATURE = 0.7
OPTIM = Optim(lr=1e-3)


def groups_of(prompts, make_attempt, version=2, samples=3, length=4):
    """Groups whose recorded log-probs are all -0.5."""
    groups = []
    for prompt in prompts:
        attempts = [
            replace(make_attempt(prompt.item.id, s, length=length + s), versions=((version, length + s),))
            for s in range(samples)
        ]
        groups.append(Group(prompt, attempts, [0.0] * samples, [True] * samples))
    return groups


@pytest.fixture
def checked(world, make_sharded, make_session):
    """checked(groups, rollout settings, ..): check_agreement by a trainer of make_decoder(seed=1)."""

    def run(groups, tokens=16384, exact=False, **changes):
        decoder, parameters = make_sharded(seed=1)
        session = make_session(["easy"] * 4, tokens=tokens, world=world, decoder=decoder, parameters=parameters)
        config = session.config
        session.config = replace(config, rollout=Rollout(**changes), model=replace(config.model, exact=exact))
        session.state.policy_version, session.state.step = 2, 9
        return check_agreement(session, Trainer(decoder, parameters, world, OPTIM, 1), groups, TEMPERATURE)

    return run


@pytest.fixture
def prompts(make_prompt):
    return [make_prompt(k, length=3 + k % 4) for k in range(4)]


@pytest.mark.parametrize("tokens", [16384, 12], ids=["one pass", "many"])
def test_the_numbers_by_hand(checked, prompts, make_attempt, make_decoder, tokens):
    """Of two sequences the whole, of a carried one the tokens of the present policy."""
    group = groups_of(prompts[:1], make_attempt)[0]
    group.attempts[1] = replace(group.attempts[1], versions=((1, 2), (2, 3)))
    with torch.no_grad():
        scored = [
            score(make_decoder(seed=1), [[*prompts[0].ids, *a.ids]], temperature=TEMPERATURE)[0][-len(a.ids) :].tolist()
            for a in group.attempts
        ]
    gaps = [value + 0.5 for value in (*scored[0], *scored[1][2:], *scored[2])]
    found = checked([group], tokens, max_gap=None)
    assert (found.sequences, found.tokens) == (3, 4 + 3 + 6)
    assert found.gap_mean == pytest.approx(sum(map(abs, gaps)) / 13, rel=1e-6)
    assert found.gap_max == pytest.approx(max(map(abs, gaps)), rel=1e-6)
    assert found.ratios_outside == pytest.approx(sum(not 0.9 <= math.exp(gap) <= 1.1 for gap in gaps) / 13)


def test_off(checked, prompts, make_attempt):
    assert checked(groups_of(prompts, make_attempt), check_sequences=0) is None


def test_nothing_by_the_present_policy(checked, prompts, make_attempt):
    found = checked(groups_of(prompts, make_attempt, version=1), exact=True)
    assert (found.sequences, found.tokens, found.gap_mean, found.gap_max) == (0, 0, 0.0, 0.0)


def test_a_gap_above_the_bound_stops_the_run(checked, prompts, make_attempt):
    groups = groups_of(prompts, make_attempt)
    mean = checked(groups, max_gap=None).gap_mean
    assert mean > 1.0
    assert checked(groups, max_gap=mean * 1.001).gap_mean == mean
    message = (
        r"step 10: trainer and engine disagree on the log-probs of \d+ tokens of 8 sequences: mean gap \d.* nats, "
        r"largest .*%.* outside 0.9 .. 1.1; rollout.max_gap is .*weights that the engine did not get, another dtype, "
        r"another temperature. No update was made from these samples; the checkpoints are whole$"
    )
    with pytest.raises(StoppedError, match=message):
        checked(groups, max_gap=mean * 0.999)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_log_prob_that_is_not_finite_stops_the_run(checked, prompts, make_attempt, bad):
    groups = groups_of(prompts, make_attempt)
    groups[2].attempts[0].logprobs[1] = bad
    with pytest.raises(StoppedError, match="a log-prob is not finite"):
        checked(groups, max_gap=None, check_sequences=99)


def test_the_choice_is_a_keyed_draw(prompts, make_attempt):
    groups = groups_of(prompts, make_attempt)
    names = [s.name for s, _ in choose(groups, 5, 2, seed=3, step=7)]
    assert len(set(names)) == 5
    assert names == [s.name for s, _ in choose(groups[::-1], 5, 2, seed=3, step=7)]
    assert names == [s.name for s, _ in choose(groups, 12, 2, seed=3, step=7)][:5]
    others = [[s.name for s, _ in choose(groups, 5, 2, seed=a, step=b)] for a, b in ((4, 7), (3, 8))]
    assert names not in others
    # every sample has its turn
    drawn = {s.name for step in range(60) for s, _ in choose(groups, 2, 2, seed=3, step=step)}
    assert len(drawn) == 12


class Numbers:
    """A tokenizer that no text has."""

    stop_ids, prefill = (60,), ""

    def decode(self, ids):
        return " ".join(map(str, ids))


@pytest.fixture
def live(world, make_sharded, make_session, make_prompt):
    """live(weights): a session with an engine over a sharded decoder, and its trainer."""

    def make(weights, **rollout):
        decoder, parameters = make_sharded(seed=1)
        engine = Engine(decoder, max_seqs=4, kv_tokens=512, page_size=8, seed=3, weights=weights)
        solver = Solver(engine, Numbers(), world)
        session = make_session(
            ["easy"] * 4, world=world, decoder=decoder, parameters=parameters, tokenizer=Numbers(), solver=solver
        )
        session.config = replace(session.config, rollout=Rollout(weights=weights, check_sequences=6, **rollout))
        session.data.train[:] = [Prompt(p.item, [7, 3, k]) for k, p in enumerate(session.data.train)]
        return session, Trainer(decoder, parameters, world, OPTIM, 1, keep_gathered=weights == "shared")

    return make


def sampled(session):
    attempts = session.attempt_into_pool(session.data.train, Sampling("train", 2, 12, TEMPERATURE))
    return [Group(p, a, [0.0] * 2, [True] * 2) for p, a in zip(session.data.train, attempts, strict=True)]


@torch.no_grad()
def move(session, scale=0.5):
    """What an update with a large learning rate does to the shards."""
    for parameter in session.parameters.values():
        parameter.to_local().mul_(1 + scale)


@pytest.mark.parametrize("weights", ["shared", "arena"])
def test_a_fresh_engine_agrees_and_a_stale_one_does_not(live, weights):
    session, trainer = live(weights)
    session.swap_weights()
    assert check_agreement(session, trainer, sampled(session), TEMPERATURE).gap_max < 1e-5
    move(session)
    session.swap_weights()
    fresh = sampled(session)
    assert check_agreement(session, trainer, fresh, TEMPERATURE).gap_max < 1e-4
    with pytest.raises(StoppedError, match="disagree"):  # another temperature
        check_agreement(session, trainer, fresh, 1.0)
    move(session)  # and no swap
    with pytest.raises(StoppedError, match="weights that the engine did not get"):
        check_agreement(session, trainer, sampled(session), TEMPERATURE)


@pytest.mark.parametrize("weights", ["shared", "arena"])
def test_one_stale_tensor_is_enough(live, weights):
    session, trainer = live(weights)
    session.swap_weights()
    with torch.no_grad():
        session.solver.engine._weights.decoder.layers[1].mlp.down_proj.weight.mul_(1.5)
    with pytest.raises(StoppedError, match="disagree"):
        check_agreement(session, trainer, sampled(session), TEMPERATURE)


@pytest.mark.parametrize("weights", ["shared", "arena"])
def test_exact_mode_asks_for_no_gap_at_all(live, weights):
    torch.set_num_threads(1)
    session, trainer = live(weights)
    session.config = replace(session.config, model=replace(session.config.model, exact=True))
    session.swap_weights()
    with pytest.raises(StoppedError, match="model.exact asks for 0"):
        check_agreement(session, trainer, sampled(session), TEMPERATURE)
    session.decoder.set_exact(True)
    session.swap_weights()
    found = check_agreement(session, trainer, sampled(session), TEMPERATURE)
    assert (found.gap_mean, found.gap_max, found.sequences) == (0.0, 0.0, 6)
    assert found.tokens > 30
