"""The rollout of a step: draw prompts, sample and grade their groups with the present weights, tell the pool."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from corl.config import RL, to_plain
from corl.curriculum.mix import Draw, draw
from corl.data.prompts import prompt_messages, prompt_text
from corl.data.shuffle import shuffle_options
from corl.evaluation.attempts import Attempt, Prompt, Sampling
from corl.observe.metrics import read_lines, replace_text
from corl.training.advantages import Group, make_group
from corl.training.carry import CarriedGroup, prompts_to_draw
from corl.training.rollout_metrics import EngineCall, rollout_metrics
from corl.training.session import Session, StoppedError


@dataclass(frozen=True, slots=True)
class RolloutStep:
    """The groups of one step (prompts_per_step of them, as far as the pool can give) and how they came about."""

    groups: list[Group]
    policy_version: int  # of the weights that sampled
    draws: list[Draw]
    zero_variance: float  # share of the groups first drawn whose rewards were all equal
    replaced: int  # groups without variance whose place one with variance took
    engine: dict[str, Any]  # what the engines of all ranks did

    @property
    def mean_reward(self) -> float:
        return float(np.mean([r for group in self.groups for r in group.rewards]))


def roll_out(session: Session, rl: RL) -> RolloutStep:
    """Sample group_size completions of every drawn prompt with the present weights, grade them, enter the pool.

    rollout.oversample above 1 works on more prompts and stops early; what is not trained on now is in session.carried.
    """
    swap = session.swap_weights()
    calls: list[EngineCall] = []
    if session.config.rollout.oversample > 1 or session.carried:
        groups, draws = _groups_of_early_stop(session, rl, calls)
        zero_variance, replaced = _share_without_variance(groups), 0
    else:
        groups, draws, zero_variance, replaced = _groups_in_rounds(session, rl, calls)
    engine = rollout_metrics(session, swap, calls)
    return RolloutStep(groups, session.state.policy_version, draws, zero_variance, replaced, engine)


def finish_carried(session: Session, rl: RL) -> list[Group]:
    """Complete with the newest weights what a stage leaves over: graded, in the pool and in the step's file of samples,
    but not trained on."""
    waiting, session.carried = session.carried, []
    finished: Iterator[list[Attempt]] = iter(())
    if unfinished := [group for group in waiting if not group.complete]:
        session.swap_weights()
        prompts = [_prompt(session, group) for group in unfinished]
        finished = iter(_attempt(session, rl, prompts, [], carried=unfinished))
    whole = [g if g.complete else CarriedGroup(g.item_id, g.step, next(finished)) for g in waiting]
    groups = [_group(session, rl, group) for group in whole]
    if groups:
        write_rollout(session, groups, trained=False)
    return groups


def _groups_in_rounds(session: Session, rl: RL, calls: list[EngineCall]) -> tuple[list[Group], list[Draw], float, int]:
    """The groups, their draws, the first draw's share without variance, and how many groups were replaced.

    zero_variance: replace draws further prompts for groups without variance, replace_rounds times at most; what is then
    still without variance stays, so a hard pool makes a step poorer and never stops it.
    """
    drawn: list[int] = []
    kept: list[Group] = []
    spare: list[Group] = []
    draws: list[Draw] = []
    first_share, replaced = 0.0, 0
    for round_ in range(1 + (rl.replace_rounds if rl.zero_variance == "replace" else 0)):
        missing = rl.prompts_per_step - len(kept)
        if missing == 0 or len(drawn) == len(session.pool.ids):
            break
        found = _draw(session, rl, missing, drawn, round_)
        if not found.indices:
            break
        drawn += found.indices
        draws.append(found)
        begun = [CarriedGroup(session.pool.ids[i], session.state.step, []) for i in found.indices]
        attempts = _attempt(session, rl, [_prompt(session, group) for group in begun], calls)
        groups = [
            _group(session, rl, replace(group, attempts=samples))
            for group, samples in zip(begun, attempts, strict=True)
        ]
        if round_ == 0:
            first_share = _share_without_variance(groups)
        else:
            replaced += sum(not g.zero_variance for g in groups)
        if rl.zero_variance == "replace":
            kept += [g for g in groups if not g.zero_variance]
            spare += [g for g in groups if g.zero_variance]
        else:
            kept += groups
    return (kept + spare)[: rl.prompts_per_step], draws, first_share, replaced


def _groups_of_early_stop(session: Session, rl: RL, calls: list[EngineCall]) -> tuple[list[Group], list[Draw]]:
    """The first prompts_per_step complete groups, carried ones before new ones; the others are carried on."""
    waiting, step = session.carried, session.state.step
    complete = [group for group in waiting if group.complete]
    begun = [group for group in waiting if not group.complete]
    missing = max(0, rl.prompts_per_step - len(complete))
    new = prompts_to_draw(rl.prompts_per_step, session.config.rollout.oversample, len(waiting)) if missing else 0
    found = _draw(session, rl, new, [session.pool.index[group.item_id] for group in waiting])
    if missing:
        drawn = [CarriedGroup(session.pool.ids[i], step, []) for i in found.indices]
        prompts = [_prompt(session, group) for group in begun + drawn]
        attempts = _attempt(session, rl, prompts, calls, carried=begun, enough=min(missing, len(prompts)))
        begun = [
            CarriedGroup(group.item_id, group.step, samples)
            for group, samples in zip(begun + drawn, attempts, strict=True)
        ]
    complete += [group for group in begun if group.complete]
    unfinished = [group for group in begun if not group.complete]
    session.carried = complete[rl.prompts_per_step :] + unfinished
    return [_group(session, rl, group) for group in complete[: rl.prompts_per_step]], [found]


def _draw(session: Session, rl: RL, count: int, excluded: Sequence[int], round_: int = 0) -> Draw:
    seed, step = session.config.run.seed, (round_ << 32) + session.state.step
    try:
        return draw(session.pool, rl.mix, count, seed=seed, step=step, excluded=frozenset(excluded))
    except ValueError as error:
        raise StoppedError(f"{session.state.stage}: {error}") from None


def _attempt(
    session: Session,
    rl: RL,
    prompts: list[Prompt],
    calls: list[EngineCall],
    *,
    carried: Sequence[CarriedGroup] = (),
    enough: int | None = None,
) -> list[list[Attempt]]:
    sampling = Sampling("train", rl.group_size, rl.max_tokens, rl.temperature)
    attempts = session.attempt_into_pool(prompts, sampling, carried=carried, enough=enough)
    tokens = sum(len(a.ids) for samples in attempts for a in samples) - sum(group.tokens for group in carried)
    calls.append(EngineCall(session.solver.engine.last_stats, tokens))
    return attempts


def _prompt(session: Session, group: CarriedGroup) -> Prompt:
    """The prompt of a group; with data.shuffle_options its options in the order of the step that drew it."""
    prompt, data = session.data.train[session.pool.index[group.item_id]], session.config.data
    if not data.shuffle_options:
        return prompt
    item = shuffle_options(prompt.item, seed=session.config.run.seed, epoch=group.step)
    if item is prompt.item:
        return prompt
    ids = session.tokenizer.encode_prompt(prompt_messages(item, system=data.system))
    # another order may split into more tokens; the limits were checked against the longest prompt as it was
    return Prompt(item, ids) if len(ids) <= session.data.longest_train else prompt


def _group(session: Session, rl: RL, group: CarriedGroup) -> Group:
    prompt = _prompt(session, group)
    return make_group(prompt, group.attempts, rl, seed=session.config.run.seed, step=group.step)


def _share_without_variance(groups: list[Group]) -> float:
    return sum(group.zero_variance for group in groups) / len(groups)


def write_rollout(session: Session, groups: list[Group], *, trained: bool) -> None:
    """RUN/rollouts/step_N.jsonl: every sample the step trained on; then, added, those it finished without training."""
    if not session.world.is_main:
        return
    path = session.run_dir / "rollouts" / f"step_{session.state.step}.jsonl"
    lines = [
        {
            "item": group.prompt.item.id,
            "sample": attempt.sample,
            "prompt": prompt_text(group.prompt.item),
            "completion": attempt.text,
            "reward": reward,
            "grade": to_plain(attempt.grade),
            "finish_reason": attempt.finish_reason,
            "policy_version": attempt.versions[-1][0],  # of its newest token
            "trained": trained,
        }
        | ({"policy_versions": attempt.versions} if len(attempt.versions) > 1 else {})
        for group in groups
        for attempt, reward in zip(group.attempts, group.rewards, strict=True)
    ]
    if not trained:
        lines = [line for line in read_lines(path) if line["trained"]] + lines
    replace_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
