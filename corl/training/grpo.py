"""GRPO, stages 1 and 2: draw prompts, roll out, reward, advantages, update, until the stage is over."""

from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from corl.config import RL, to_plain
from corl.curriculum.plateau import read_plateau
from corl.observe.metrics import PhaseTimer
from corl.observe.progress import Progress, readable
from corl.training.advantages import Group, train_sequences
from corl.training.agreement import check_agreement
from corl.training.batch import MicroBatch, micro_batch, pack
from corl.training.mine import mine, tier_items
from corl.training.policy_metrics import policy_metrics
from corl.training.reference import Reference
from corl.training.rollout import RolloutStep, finish_carried, roll_out, write_rollout
from corl.training.session import Session
from corl.training.trainer import Head, Trainer, Update
from corl_kernels import PolicyObjective, linear_policy_loss


def train_rl(session: Session, name: str, rl: RL) -> str:
    """Run stage `name` to its end; returns why it ended: "plateau" or "max_steps"."""
    state, config = session.state, session.config
    trainer = session.trainer(rl.optim, rl.max_steps * rl.updates_per_rollout)
    reference = Reference.of_stage_start(session) if rl.objective.kl_coef else None
    progress = Progress(name, rl.max_steps, state.stage_step, shown=session.world.is_main)
    why = "max_steps" if state.stage_step >= rl.max_steps else ""
    if why:
        finish_carried(session, rl)  # of a run resumed with a lower max_steps
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
        with timer("check"):
            agreement = check_agreement(session, trainer, rollout.groups, rl.temperature)
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

        write_rollout(session, rollout.groups, trained=True)
        finished = 0
        if why and session.carried:
            with timer("finish"):
                finished = len(finish_carried(session, rl))
        with timer("eval"):
            held_out = session.evaluate_when_due()
        line = _metrics_line(session, name, rollout, updates, policy)
        line |= {"agreement": to_plain(agreement)} if agreement else {}
        line |= {"finished": finished} if finished else {}
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


def improve(
    session: Session, trainer: Trainer, rl: RL, groups: list[Group], reference: Reference | None
) -> tuple[list[Update], dict[str, float]]:
    """updates_per_rollout updates over the groups, in the order drawn; returns them and the policy metrics of the last.

    old_logprobs are needed only where the weights move between two updates of a rollout: with one update they are those
    that the loss computes itself, also in a rollout_correction, and no scoring pass is made. old_logprobs: engine takes
    the engine's numbers instead.
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
    elif rl.updates_per_rollout > 1:
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
                chunk_rows=trainer.decoder.head_rows,
                grad_weight_out=grad_weight_out,
                grad_loss_is_one=True,  # Trainer.update calls backward on this very loss
            )

        return head

    updates = [trainer.update(part, make_head, session.state.updates + k) for k, part in enumerate(parts)]
    return updates, policy_metrics(parts[-1], updates[-1].outputs, session.world)


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
        "rollout": rollout.engine,
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
