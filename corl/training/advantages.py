"""Rewards, advantages and the weight of every token: the arithmetic between a rollout and its loss."""

import hashlib
import statistics
from dataclasses import dataclass

from corl.config import RL, Reward
from corl.evaluation.attempts import Attempt, Prompt
from corl.training.batch import TrainSequence

STD_EPS = 1e-6


@dataclass(frozen=True, slots=True)
class Group:
    """The samples of one prompt with their rewards. counted[i] is False for a sample that mask_truncated leaves out."""

    prompt: Prompt
    attempts: list[Attempt]
    rewards: list[float]
    counted: list[bool]

    @property
    def zero_variance(self) -> bool:
        return len({r for r, c in zip(self.rewards, self.counted, strict=True) if c}) <= 1


def make_group(prompt: Prompt, attempts: list[Attempt], rl: RL, *, seed: int, step: int) -> Group:
    rewards = [reward_of(a, rl.reward, seed=seed, step=step) for a in attempts]
    counted = [not (rl.mask_truncated and a.finish_reason == "length") for a in attempts]
    return Group(prompt, attempts, rewards, counted)


def reward_of(attempt: Attempt, reward: Reward, *, seed: int, step: int) -> float:
    """1 when correct and well-formed (the gate of grading R9), plus format_bonus for the form.

    A truncated sample scores 0: it has no closing tag, so neither condition holds. The random control is a keyed coin
    that knows nothing of the completion.
    """
    if reward.control == "random":
        key = f"{seed}/{step}/{attempt.item_id}/{attempt.sample}".encode()
        return float(hashlib.blake2b(key, digest_size=1).digest()[0] & 1)
    if attempt.finish_reason == "length":
        return 0.0
    formed = attempt.grade.format_ok
    return float(formed and attempt.grade.correct) + reward.format_bonus * float(formed)


def group_advantages(group: Group, *, divide_by_std: bool) -> list[float]:
    """reward - mean of the group's counted rewards (the paper's eq. 2-3), on demand over their standard deviation.

    A sample that is not counted has advantage 0 and no part in the mean.
    """
    counted = [r for r, c in zip(group.rewards, group.counted, strict=True) if c]
    if group.zero_variance:
        return [0.0] * len(group.rewards)
    mean = sum(counted) / len(counted)
    scale = statistics.pstdev(counted) + STD_EPS if divide_by_std else 1.0
    return [(r - mean) / scale if c else 0.0 for r, c in zip(group.rewards, group.counted, strict=True)]


def train_sequences(groups: list[Group], rl: RL) -> list[TrainSequence]:
    """Every sample of one update with its advantage and token weight; the weights carry the global normaliser.

    With N samples of |y_i| tokens in the update, a token of sample i weighs (loss_norm)
      sequence_sum   1 / N            the paper's eq. 1: a log-prob is a sum over the sequence
      sequence_mean  1 / (N |y_i|)
      token_mean     1 / sum_i |y_i|
      constant       1 / (N max_tokens)
    N and the sum run over all counted samples, also those of groups without variance. Those samples have no gradient
    unless the objective has a KL or an entropy term, so without one they are left out of the computation.
    """
    samples = [
        (group, k, advantage)
        for group in groups
        for k, advantage in enumerate(group_advantages(group, divide_by_std=rl.divide_by_std))
        if group.counted[k]
    ]
    lengths = [len(group.attempts[k].ids) for group, k, _ in samples]
    weights = {
        "sequence_sum": lambda n: 1.0 / len(samples),
        "sequence_mean": lambda n: 1.0 / (len(samples) * n),
        "token_mean": lambda n: 1.0 / sum(lengths),
        "constant": lambda n: 1.0 / (len(samples) * rl.max_tokens),
    }
    weight_of = weights[rl.loss_norm]
    needs_all = rl.objective.kl_coef != 0.0 or rl.objective.entropy_coef != 0.0
    return [
        TrainSequence(
            name=f"{group.prompt.item.id}#{k}",
            ids=[*group.prompt.ids, *group.attempts[k].ids],
            prompt_len=len(group.prompt.ids),
            token_weight=weight_of(length),
            advantage=advantage,
            rollout_logprobs=group.attempts[k].logprobs,
        )
        for (group, k, advantage), length in zip(samples, lengths, strict=True)
        if advantage != 0.0 or needs_all
    ]
