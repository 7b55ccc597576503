"""Shapes of real models, and inputs of a language-model head that look trained."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from corl_kernels import linear_logprobs

# T tokens, H hidden, V vocabulary


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Sizes of a decoder; `intermediate` of its MLP, `layers` of the whole, 0 where they play no part."""

    hidden: int
    vocab: int
    heads: int
    kv_heads: int
    head_dim: int
    qk_norm: bool
    intermediate: int = 0
    layers: int = 0


MODELS = {
    "qwen2.5-7b": ModelShape(3584, 152064, 28, 4, 128, qk_norm=False, intermediate=18944, layers=28),
    "qwen3-32b": ModelShape(5120, 151936, 64, 8, 128, qk_norm=True, intermediate=25600, layers=64),
    "small": ModelShape(512, 32000, 8, 2, 64, qk_norm=True, intermediate=1408, layers=4),
    "toy": ModelShape(64, 1009, 8, 2, 16, qk_norm=True, intermediate=176, layers=2),
}
_WEIGHT_STD, _NOISE_STD = 0.02, 2.0


@dataclass(frozen=True, slots=True)
class HeadBatch:
    """What a loss on the head is given: `hidden` [T, H] and `weight` [V, H] are leaves, the rest [T].

    `sequence_length` cuts the tokens into equal sequences, each of one advantage, for rivals that know nothing else.
    """

    hidden: Tensor
    weight: Tensor
    targets: Tensor
    advantages: Tensor
    token_weights: Tensor
    old_logprobs: Tensor
    sequence_length: int

    def take(self, tokens: int) -> "HeadBatch":
        """The first tokens, in equal sequences no longer than here (one, if only short ones divide them), weighted
        1 / tokens, sharing the weight."""
        longest = min(self.sequence_length, tokens)
        length = next(n for n in range(longest, 0, -1) if tokens % n == 0)
        length = tokens if length < min(longest, 64) else length
        return replace(
            self,
            hidden=self.hidden.detach()[:tokens].requires_grad_(),
            targets=self.targets[:tokens],
            advantages=self.advantages[:tokens:length].repeat_interleave(length),
            old_logprobs=self.old_logprobs[:tokens],
            token_weights=torch.full_like(self.token_weights[:tokens], 1 / tokens),
            sequence_length=length,
        )

    def clear(self) -> None:
        self.hidden.grad = self.weight.grad = None


def trained_like(model: ModelShape, tokens: int, sequence_length: int, device: str, dtype: torch.dtype) -> HeadBatch:
    """A head batch whose probabilities look like those of a trained model rather than of a random one.

    Weight rows are N(0, 0.02^2), so that a random hidden state gives logits N(0, 2^2); added to it is the target's own
    row, scaled to lift the target's logit a margin above the log-sum-exp of the rest. Margins: 60 % of the tokens
    uniform in [3, 8] (p above 0.95), 25 % in [-1, 3], 15 % in [-10, -1] with another token lifted in its place.
    Targets follow 1 / rank. Old log-probabilities lie off the clip bounds of 0.2 by more than any rounding, so that no
    rival's error is a token on the other side of a bound.
    """
    generator = torch.Generator(device).manual_seed(0)

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(tokens, generator=generator, device=device) * (high - low) + low

    def ranked() -> Tensor:
        return (model.vocab ** uniform(0, 1)).long().clamp(max=model.vocab) - 1

    weight = torch.empty(model.vocab, model.hidden, device=device, dtype=dtype)
    weight.normal_(0, _WEIGHT_STD, generator=generator)
    hidden = torch.randn(tokens, model.hidden, generator=generator, device=device)
    hidden *= _NOISE_STD / (_WEIGHT_STD * math.sqrt(model.hidden))
    targets, others, kind = ranked(), ranked(), uniform(0, 1)
    margin = torch.where(kind < 0.6, uniform(3, 8), torch.where(kind < 0.85, uniform(-1, 3), uniform(3, 8)))
    rest = math.log(model.vocab) + _NOISE_STD**2 / 2
    rows = weight[torch.where(kind < 0.85, targets, others)].float()
    hidden += rows * ((margin + rest) / rows.square().sum(-1))[:, None]

    batch = HeadBatch(
        hidden.to(dtype).requires_grad_(),
        weight.requires_grad_(),
        targets,
        _per_sequence(tokens, sequence_length, generator, device),
        torch.full((tokens,), 1 / tokens, device=device),
        torch.zeros(tokens, device=device),
        sequence_length,
    )
    with torch.no_grad():
        logprobs = linear_logprobs(batch.hidden, batch.weight, targets).logprobs
    near, far = uniform(-0.1, 0.1), uniform(0.3, 0.5) * torch.where(uniform(-1, 1) < 0, -1.0, 1.0)
    return replace(batch, old_logprobs=logprobs - torch.where(uniform(0, 1) < 0.8, near, far))


def _per_sequence(tokens: int, length: int, generator: torch.Generator, device: str) -> Tensor:
    values = torch.randn(-(-tokens // length), generator=generator, device=device)
    return values.repeat_interleave(length)[:tokens]
