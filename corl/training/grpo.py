"""GRPO, stages 1 and 2: draw prompts, roll out, reward, advantages, update, until the stage is over."""

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from corl.config import RL, to_plain
from corl.curriculum.mix import Draw, draw
from corl.curriculum.plateau import read_plateau
from corl.data.prompts import prompt_text
from corl.evaluation.attempts import Sampling
from corl.observe.metrics import PhaseTimer, replace_text
from corl.observe.progress import Progress, readable
from corl.training.advantages import Group, make_group, train_sequences
from corl.training.batch import MicroBatch, micro_batch, pack
from corl.training.mine import mine, tier_items
from corl.training.policy_metrics import policy_metrics
from corl.training.reference import Reference
from corl.training.session import Session, StoppedError
from corl.training.trainer import Head, Trainer, Update
from corl_kernels import PolicyObjective, linear_policy_loss


def train_rl(session: Session, name: str, rl: RL) -> str:
    """Run stage `name` to its end; returns why it ended: "plateau" or "max_steps"."""
    state, config = session.state, session.config
    trainer = session.trainer(rl.optim, rl.max_steps * rl.updates_per_rollout)
    reference = Reference.of_stage_start(session) if rl.objective.kl_coef else None
    progress = Progress(name, rl.max_steps, state.stage_step, shown=session.world.is_main)
    why = "max_steps" if state.stage_step >= rl.max_steps else ""
    timer = PhaseTimer()
    while not why:
        tiered, mined = 0, None
        if rl.mix.by == "difficulty" and state.stage_step == 0:
            with timer("tier"):
                tiered = tier_items(session, rl)
        if rl.mix.mine_every is not None and state.stage_step and state.stage_step % rl.mix.mine_every == 0:
            assert config.mine is not None
            with timer("mine"):
                mined = mine(session, config.mine)

        with timer("rollout"):
            rollout = roll_out(session, rl)
            session.leave_rollout()
        with timer("update"):
            updates, policy = improve(session, trainer, rl, rollout.groups, reference)

        state.step += 1
        state.stage_step += 1
        for update in updates:
            session.account(update)
        state.rewards.append(rollout.mean_reward)
        state.zero_variance.append(rollout.zero_variance)
        plateau = read_plateau(state.rewards, state.zero_variance, rl.plateau) if rl.plateau else None
        if plateau is not None and plateau.reached:
            why = "plateau"
        elif state.stage_step >= rl.max_steps:
            why = "max_steps"

        with timer("eval"):
            held_out = session.evaluate_when_due()
        write_rollout(session, rollout)
        line = _metrics_line(session, name, rollout, updates, policy)
        line |= {"plateau": to_plain(plateau)} if plateau else {}
        line |= {"tiered": tiered} if tiered else {}
        line |= {"mined": mined} if mined else {}
        line |= {"eval": held_out.row("eval")} if held_out else {}
        line |= {"seconds": timer.seconds}
        if session.log is not None:
            session.log.write(line)
        _show(progress, line)
        timer = PhaseTimer()
        with timer("checkpoint"):  # after the step's line, which a kill would lose otherwise; the next one has its time
            session.checkpoint_when_due(trainer, ended=bool(why))
        session.stop_if_stuck(updates[-1])
    progress.close()
    return why


@dataclass(frozen=True, slots=True)
class RolloutStep:
    """The groups of one step (prompts_per_step of them, as far as the pool can give) and how they came about."""

    groups: list[Group]
    policy_version: int  # of the weights that sampled
    draws: list[Draw]
    zero_variance: float  # share of the groups first drawn whose rewards were all equal
    replaced: int  # groups without variance whose place one with variance took

    @property
    def mean_reward(self) -> float:
        return float(np.mean([r for group in self.groups for r in group.rewards]))


def roll_out(session: Session, rl: RL) -> RolloutStep:
    """Sample group_size completions of every drawn prompt with the present weights, grade them, enter the pool.

    zero_variance: replace draws further prompts for groups without variance, replace_rounds times at most; what is then
    still without variance stays, so a hard pool makes a step poorer and never stops it.
    """
    session.swap_weights()
    drawn: list[int] = []
    kept: list[Group] = []
    spare: list[Group] = []
    draws: list[Draw] = []
    first_share, replaced = 0.0, 0
    for round_ in range(1 + (rl.replace_rounds if rl.zero_variance == "replace" else 0)):
        missing = rl.prompts_per_step - len(kept)
        if missing == 0 or len(drawn) == len(session.pool.ids):
            break
        try:
            found = draw(
                session.pool,
                rl.mix,
                missing,
                seed=session.config.run.seed,
                step=(round_ << 32) + session.state.step,
                excluded=frozenset(drawn),
            )
        except ValueError as error:
            raise StoppedError(f"{session.state.stage}: {error}") from None
        if not found.indices:
            break
        drawn += found.indices
        draws.append(found)
        groups = _groups(session, rl, found.indices)
        if round_ == 0:
            first_share = sum(g.zero_variance for g in groups) / len(groups)
        else:
            replaced += sum(not g.zero_variance for g in groups)
        if rl.zero_variance == "replace":
            kept += [g for g in groups if not g.zero_variance]
            spare += [g for g in groups if g.zero_variance]
        else:
            kept += groups
    groups = (kept + spare)[: rl.prompts_per_step]
    return RolloutStep(groups, session.state.policy_version, draws, first_share, replaced)


def _groups(session: Session, rl: RL, indices: list[int]) -> list[Group]:
    prompts = [session.data.train[i] for i in indices]
    sampling = Sampling("train", rl.group_size, rl.max_tokens, rl.temperature)
    attempts = session.attempt_into_pool(prompts, sampling)
    key = {"seed": session.config.run.seed, "step": session.state.step}
    return [make_group(p, a, rl, **key) for p, a in zip(prompts, attempts, strict=True)]


def improve(
    session: Session, trainer: Trainer, rl: RL, groups: list[Group], reference: Reference | None
) -> tuple[list[Update], dict[str, float]]:
    """updates_per_rollout updates over the groups, in the order drawn; returns them and the policy metrics of the last.

    old_logprobs are needed only where the weights move between the samples and their loss: with one update a rollout
    the ratio is 1 by definition and no scoring pass is made, unless old_logprobs: engine asks for the engine's numbers.
    """
    size = -(-len(groups) // rl.updates_per_rollout)
    budget, rank = session.config.parallel.tokens_per_micro_batch, session.world.rank
    parts: list[list[MicroBatch]] = []
    for start in range(0, len(groups), size):
        sequences = train_sequences(groups[start : start + size], rl)
        share = pack(sequences, budget, session.world.size)[rank]
        parts.append([micro_batch(bin_, session.world.device) for bin_ in share])

    if rl.old_logprobs == "engine":
        parts = [[replace(b, old_logprobs=b.rollout_logprobs) for b in part] for part in parts]
    elif rl.updates_per_rollout > 1 or rl.objective.rollout_correction is not None:
        parts = [[replace(b, old_logprobs=trainer.score(b, rl.temperature)) for b in part] for part in parts]
    if reference is not None:
        with reference.in_place(trainer):
            parts = [[replace(b, ref_logprobs=trainer.score(b, rl.temperature)) for b in part] for part in parts]

    objective = PolicyObjective(**to_plain(rl.objective))

    def make_head(batch: MicroBatch) -> Head:
        def head(hidden: Tensor, weight: Tensor, grad_weight_out: Tensor | None) -> tuple:
            return linear_policy_loss(
                hidden,
                weight,
                batch.targets,
                batch.advantages,
                batch.token_weights,
                objective=objective,
                old_logprobs=batch.old_logprobs,
                ref_logprobs=batch.ref_logprobs,
                rollout_logprobs=batch.rollout_logprobs,
                cu_seqlens=batch.target_cu_seqlens,
                temperature=rl.temperature,
                grad_weight_out=grad_weight_out,
            )

        return head

    updates = [trainer.update(part, make_head, session.state.updates + k) for k, part in enumerate(parts)]
    return updates, policy_metrics(parts[-1], updates[-1].outputs, session.world)


def write_rollout(session: Session, rollout: RolloutStep) -> None:
    """RUN/rollouts/step_N.jsonl: every sample the step trained on."""
    if not session.world.is_main:
        return
    lines = [
        {
            "item": group.prompt.item.id,
            "sample": attempt.sample,
            "prompt": prompt_text(group.prompt.item),
            "completion": attempt.text,
            "reward": reward,
            "grade": to_plain(attempt.grade),
            "finish_reason": attempt.finish_reason,
            "policy_version": rollout.policy_version,
        }
        for group in rollout.groups
        for attempt, reward in zip(group.attempts, group.rewards, strict=True)
    ]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    replace_text(session.run_dir / "rollouts" / f"step_{session.state.step}.jsonl", text)


def _metrics_line(
    session: Session, name: str, rollout: RolloutStep, updates: list[Update], policy: dict[str, float]
) -> dict[str, Any]:
    attempts = [attempt for group in rollout.groups for attempt in group.attempts]
    lengths = [len(a.ids) for a in attempts]
    sums = {side: sum(d.got.get(side, 0) for d in rollout.draws) for side in rollout.draws[0].got}
    line: dict[str, Any] = {
        "step": session.state.step,
        "stage": name,
        "stage_step": session.state.stage_step,
        "policy_version": rollout.policy_version,
        "loss": sum(u.loss for u in updates) / len(updates),
        "losses": [u.loss for u in updates],
        "grad_norm": updates[-1].grad_norm,
        "grad_norms": [u.grad_norm for u in updates],
        "lr": updates[-1].lr,
        "applied": all(u.applied for u in updates),
        "reward": rollout.mean_reward,
        "correct_rate": float(np.mean([a.grade.correct for a in attempts])),
        "format_rate": float(np.mean([a.grade.format_ok for a in attempts])),
        "null_rate": float(np.mean([a.grade.extracted is None for a in attempts])),
        "truncated_rate": float(np.mean([a.finish_reason == "length" for a in attempts])),
        "zero_variance": rollout.zero_variance,
        "groups": len(rollout.groups),
        "groups_replaced": rollout.replaced,
        "drawn": sums,
        "pool": rollout.draws[0].sizes,
        "response_tokens": sum(lengths),
        "mean_tokens": float(np.mean(lengths)),
        "max_tokens": max(lengths),
        "policy": policy,
    }
    if rollout.draws[0].degraded:
        line["ratio_degraded"] = {"wanted": rollout.draws[0].wanted, "got": rollout.draws[0].got}
    bad = sorted({item for u in updates for item in u.bad_items})
    return line | ({"bad_items": bad} if bad else {})


def _show(progress: Progress, line: dict[str, Any]) -> None:
    shown = {key: line[key] for key in ("step", "reward", "format_rate", "zero_variance", "loss", "grad_norm")}
    shown |= {"entropy": line["policy"]["entropy"], "tokens": line["response_tokens"]}
    shown |= {"held_out": line["eval"]["accuracy"]} if "eval" in line else {}
    progress.step(readable(shown | {"s": sum(line["seconds"].values())}))
    if "ratio_degraded" in line:
        progress.note(f"step {line['step']} mix wanted {line['ratio_degraded']['wanted']}, got {line['drawn']}")
    if "mined" in line:
        progress.note(f"mined {readable(line['mined'])}")
    if "bad_items" in line:
        progress.note(f"step {line['step']} skipped, not finite: {', '.join(line['bad_items'][:8])}")
