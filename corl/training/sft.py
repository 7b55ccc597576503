"""Cold start: supervised fine-tuning on traces; the loss is on the completion and its end of turn only."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor

from corl.config import ColdStart
from corl.data.items import Trace
from corl.data.prompts import prompt_messages
from corl.data.tokenizer import Tokenizer
from corl.evaluation.evaluate import Evaluation
from corl.grading.verdict import THINK
from corl.observe.metrics import PhaseTimer
from corl.observe.progress import Progress, readable
from corl.training.batch import MicroBatch, TrainSequence, micro_batch, pack
from corl.training.session import Session
from corl.training.trainer import Head
from corl_kernels import PolicyObjective, linear_policy_loss

_LIKELIHOOD = PolicyObjective(kind="reinforce")  # with advantage 1 its loss is the cross entropy


def train_sft(session: Session, stage: ColdStart) -> str:
    """Run the stage to its end; returns why it ended: "stop_at" or "steps"."""
    state, config = session.state, session.config
    total = stage.max_steps or math.ceil(stage.epochs * len(session.data.traces) / stage.traces_per_step)
    encoded = session.data.encoded_traces
    batches = trace_batches(session.data.traces, stage, config.run.seed, state.stage_step)
    trainer = session.trainer(stage.optim, total)
    progress = Progress("cold_start", total, state.stage_step, shown=session.world.is_main)
    ended = state.stage_step >= total
    why = "steps"
    timer = PhaseTimer()
    while not ended:
        chosen = next(batches)
        tokens = sum(len(ids) - prompt_len for ids, prompt_len in (encoded[i] for i in chosen))
        sequences = [
            TrainSequence(session.data.traces[i].item.id, *encoded[i], token_weight=1.0 / tokens, advantage=1.0)
            for i in chosen
        ]
        with timer("update"):
            session.leave_rollout()  # after an evaluation; nothing to do otherwise
            shares = pack(sequences, config.parallel.tokens_per_micro_batch, session.world.size)
            micro = [micro_batch(share, session.world.device) for share in shares[session.world.rank]]
            update = trainer.update(micro, likelihood_head, state.updates)
        state.step += 1
        state.stage_step += 1
        session.account(update)

        dev = None
        if stage.dev_every is not None and state.stage_step % stage.dev_every == 0:
            with timer("dev"):
                dev = session.evaluate(session.data.dev, samples=1)
        if dev is not None and stage.stop_at is not None and _reached(dev, stage):
            ended, why = True, "stop_at"
        ended = ended or state.stage_step >= total
        with timer("eval"):
            held_out = session.evaluate_when_due()
        numbers = {"loss": update.loss, "grad_norm": update.grad_norm, "lr": update.lr}
        if session.log is not None:
            session.log.write(
                {"step": state.step, "stage": "cold_start", "stage_step": state.stage_step}
                | {"policy_version": state.policy_version, **numbers, "tokens": tokens, "applied": update.applied}
                | ({"bad_items": update.bad_items} if update.bad_items else {})
                | ({"dev": dev.row("dev")} if dev else {})
                | ({"eval": held_out.row("eval")} if held_out else {})
                | {"seconds": timer.seconds}
            )
        shown = {"dev": dev.accuracy, "dev_letter_min": min(dev.by_letter.values())} if dev else {}
        progress.step(readable({"step": state.step, **numbers, **shown, "s": sum(timer.seconds.values())}))
        timer = PhaseTimer()
        with timer("checkpoint"):  # after the step's line, which a kill would lose otherwise; the next one has its time
            session.checkpoint_when_due(trainer, ended=ended)
        if not update.applied:
            progress.note(f"step {state.step} skipped, not finite: {', '.join(update.bad_items[:8])}")
            session.stop_if_stuck(update)
    progress.close()
    return why


def encode_trace(trace: Trace, tokenizer: Tokenizer, system: str | None) -> tuple[list[int], int]:
    """(prompt + completion + end of turn as ids, length of the prompt). A prefilled <think> is not repeated."""
    prompt = tokenizer.encode_prompt(prompt_messages(trace.item, system=system))
    completion = trace.completion
    if tokenizer.prefill and completion.startswith(THINK):
        completion = completion[len(THINK) :]
        if tokenizer.prefill[-1].isspace():
            completion = completion.lstrip()
    return [*prompt, *tokenizer.encode(completion), *tokenizer.end_of_turn_ids], len(prompt)


def trace_batches(traces: list[Trace], stage: ColdStart, seed: int, done: int) -> Iterator[list[int]]:
    """Indices of the traces of each step from step `done` on: a pure function of its arguments.

    Every tier named in stage.mix is gone through in a keyed order, epoch after epoch; a keyed coin settles the fraction
    of a trace that a share leaves over. Without a mix there is one tier: everything.
    """
    tiers: dict[Any, float] = {**stage.mix} if stage.mix else {None: 1.0}
    members = {t: [i for i, trace in enumerate(traces) if t in (None, trace.item.difficulty)] for t in tiers}
    shares = np.array([tiers[t] if members[t] else 0.0 for t in tiers])
    edges = np.cumsum([0.0, *(stage.traces_per_step * shares / shares.sum())])
    streams = [_stream(members[t], seed, k) for k, t in enumerate(tiers)]
    step = 0
    while True:
        coin = np.random.Generator(np.random.Philox(key=[seed, step])).random()
        counts = np.diff(np.floor(edges + coin + 1e-9).astype(int))
        chosen = [next(stream) for stream, count in zip(streams, counts, strict=True) for _ in range(count)]
        if step >= done:
            yield chosen
        step += 1


def _stream(members: list[int], seed: int, tier: int) -> Iterator[int]:
    epoch = 0
    while members:
        rng = np.random.Generator(np.random.Philox(key=[seed, (tier << 32) + epoch]))
        yield from (members[k] for k in rng.permutation(len(members)))
        epoch += 1


def likelihood_head(batch: MicroBatch) -> Head:
    def head(hidden: Tensor, weight: Tensor, grad_weight_out: Tensor | None) -> tuple:
        return linear_policy_loss(
            hidden,
            weight,
            batch.targets,
            batch.advantages,
            batch.token_weights,
            objective=_LIKELIHOOD,
            grad_weight_out=grad_weight_out,
            grad_loss_is_one=True,  # Trainer.update calls backward on this very loss
        )

    return head


def _reached(dev: Evaluation, stage: ColdStart) -> bool:
    stop = stage.stop_at
    assert stop is not None
    accurate = stop.accuracy is None or dev.accuracy >= stop.accuracy
    return accurate and (stop.letter_accuracy is None or min(dev.by_letter.values()) >= stop.letter_accuracy)
