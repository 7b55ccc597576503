"""Do trainer and engine agree? Before any update of a step, log-probs of a sample of its sequences are compared."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from corl.evaluation.attempts import Attempt
from corl.rollout.draws import draw_seed
from corl.training.advantages import Group
from corl.training.batch import MicroBatch, TrainSequence, micro_batch, pack
from corl.training.session import Session, StoppedError
from corl.training.trainer import Trainer

RATIO_LOW, RATIO_HIGH = 0.9, 1.1


@dataclass(frozen=True, slots=True)
class Agreement:
    """|trainer - engine| in nats over the tokens compared, and the share of exp(trainer - engine) outside 0.9 .. 1.1.

    A log-prob that is not finite makes gap_mean and gap_max nan.
    """

    sequences: int
    tokens: int
    gap_mean: float
    gap_max: float
    ratios_outside: float


def check_agreement(session: Session, trainer: Trainer, groups: list[Group], temperature: float) -> Agreement | None:
    """Score rollout.check_sequences of the step's samples and compare; None where the check is off. A collective.

    Only tokens drawn by the present policy count: the log-probs of carried ones are those of older weights.
    Raises StoppedError, on every rank alike, for a mean gap above rollout.max_gap, for one that is not finite, and
    under model.exact for any gap at all. No weight has changed by then.
    """
    config = session.config
    if config.rollout.check_sequences == 0:
        return None
    chosen = choose(
        groups, config.rollout.check_sequences, session.state.policy_version, config.run.seed, session.state.step
    )
    sequences = [sequence for sequence, _ in chosen]
    drawn = {sequence.name: count for sequence, count in chosen}
    trainer.use_shards()  # the engine may read the gathered weights: stale ones must not score themselves
    gaps: list[Tensor] = []
    for bin_ in pack(sequences, config.parallel.tokens_per_micro_batch, session.world.size)[session.world.rank]:
        batch = micro_batch(bin_, session.world.device)
        scored = trainer.score(batch, temperature)
        if bin_:
            gaps.append(_fresh_gaps(batch, scored, [drawn[s.name] for s in bin_]))
    agreement = _over_all_ranks(session, torch.cat(gaps) if gaps else torch.zeros(0), len(sequences))
    _raise_alarm(session, agreement)
    return agreement


def choose(groups: list[Group], count: int, version: int, seed: int, step: int) -> list[tuple[TrainSequence, int]]:
    """`count` sequences, as far as there are, each with its number of tokens drawn by `version`: its last ones.

    A keyed draw: the same whatever the order of the groups and the number of ranks.
    """
    fresh = [(group, attempt, _drawn_by(attempt, version)) for group in groups for attempt in group.attempts]

    def key(entry: tuple[Group, Attempt, int]) -> int:
        return draw_seed(seed, step, f"agreement:{entry[0].prompt.item.id}", entry[1].sample)

    chosen = sorted((entry for entry in fresh if entry[2]), key=key)[:count]
    return [
        (
            TrainSequence(
                name=f"{group.prompt.item.id}#{attempt.sample}",
                ids=[*group.prompt.ids, *attempt.ids],
                prompt_len=len(group.prompt.ids),
                token_weight=0.0,
                rollout_logprobs=attempt.logprobs,
            ),
            tokens,
        )
        for group, attempt, tokens in chosen
    ]


def _drawn_by(attempt: Attempt, version: int) -> int:
    newest, tokens = attempt.versions[-1]
    return tokens if newest == version else 0


def _fresh_gaps(batch: MicroBatch, scored: Tensor, fresh: Sequence[int]) -> Tensor:
    """fp64 trainer - engine of the last fresh[s] targets of every sequence."""
    assert batch.rollout_logprobs is not None
    ends = batch.target_cu_seqlens[1:].tolist()
    rows = list(chain.from_iterable(range(end - count, end) for end, count in zip(ends, fresh, strict=True)))
    return (scored.double() - batch.rollout_logprobs.double())[rows].cpu()


def _over_all_ranks(session: Session, gaps: Tensor, sequences: int) -> Agreement:
    ratios = gaps.exp()
    outside = ((ratios < RATIO_LOW) | (ratios > RATIO_HIGH)).sum().item()
    total, outside, tokens = session.world.sum([gaps.abs().sum().item(), outside, len(gaps)])
    largest = max(session.world.gather(gaps.abs().max().item() if len(gaps) else 0.0))
    mean = total / max(tokens, 1)
    # a maximum over ranks may pass over a nan, their sum does not
    return Agreement(
        sequences, int(tokens), mean, largest if math.isfinite(mean) else math.nan, outside / max(tokens, 1)
    )


def _raise_alarm(session: Session, found: Agreement) -> None:
    exact, bound = session.config.model.exact, session.config.rollout.max_gap
    if exact and found.gap_max != 0.0:
        rule = "model.exact asks for 0"
    elif not math.isfinite(found.gap_mean):
        rule = "a log-prob is not finite"
    elif bound is not None and found.gap_mean > bound:
        rule = f"rollout.max_gap is {bound}"
    else:
        return
    raise StoppedError(
        f"step {session.state.step + 1}: trainer and engine disagree on the log-probs of {found.tokens} tokens of "
        f"{found.sequences} sequences: mean gap {found.gap_mean:.3g} nats, largest {found.gap_max:.3g}, "
        f"{found.ratios_outside:.2%} of the ratios outside {RATIO_LOW} .. {RATIO_HIGH}; {rule}. Likely causes: weights "
        f"that the engine did not get, another dtype, another temperature. No update was made from these samples; the "
        f"checkpoints are whole"
    )
