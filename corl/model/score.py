"""Log-probabilities of given sequences under a model."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from corl.model.attention import packed_attention
from corl.model.decoder import Decoder
from corl_kernels import linear_logprobs

IGNORED = -100  # a sequence's last hidden state predicts nothing
ROWS = 64  # passes are filled up to a multiple: a GEMM of 1, 2, 3 or 5 rows rounds differently from one of many


@torch.no_grad()
def score(
    model: Decoder, sequences: list[list[int]], *, temperature: float = 1.0, max_tokens_per_pass: int = 16384
) -> list[Tensor]:
    """For each sequence of n ids the n - 1 log-probabilities of ids[1:], fp32 on CPU, nats, without gradient.

    They are those of softmax(logits / temperature). Sequences of similar length are packed into passes of at most
    `max_tokens_per_pass` tokens; a longer sequence has a pass of its own.
    Raises ValueError naming the sequence's index when it is empty, longer than the model's positions, or has ids
    outside the vocabulary.
    """
    if not temperature > 0:
        raise ValueError(f"temperature={temperature} must be above 0")
    if max_tokens_per_pass < 1:
        raise ValueError(f"max_tokens_per_pass={max_tokens_per_pass} must be at least 1")
    tensors = [_checked(index, ids, model) for index, ids in enumerate(sequences)]
    scores = [torch.empty(0)] * len(tensors)
    for members in _passes([len(ids) for ids in tensors], max_tokens_per_pass):
        packed = _score_pass(model, [tensors[index] for index in members], temperature)
        for index, logprobs in zip(members, packed, strict=True):
            scores[index] = logprobs[:-1].clone()
    return scores


def _checked(index: int, sequence: list[int], model: Decoder) -> Tensor:
    config = model.config
    ids = torch.as_tensor(sequence)
    if ids.ndim != 1 or not len(ids) or ids.is_floating_point():
        raise ValueError(f"sequence {index} is not a non-empty list of token ids; leave it out")
    if len(ids) > config.max_positions:
        raise ValueError(f"sequence {index} has {len(ids)} ids, the model {config.max_positions} positions; shorten it")
    for extreme in (int(ids.min()), int(ids.max())):
        if not 0 <= extreme < config.vocab_size:
            raise ValueError(
                f"sequence {index} has id {extreme}, outside 0..{config.vocab_size - 1}; use this model's tokenizer"
            )
    return ids.long()


def _passes(lengths: list[int], limit: int) -> Iterator[list[int]]:
    members: list[int] = []
    total = 0
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if lengths[index] < 2:
            break
        if members and total + lengths[index] > limit:
            yield members
            members, total = [], 0
        members.append(index)
        total += lengths[index]
    if members:
        yield members


def _score_pass(model: Decoder, sequences: list[Tensor], temperature: float) -> tuple[Tensor, ...]:
    filler = -sum(map(len, sequences)) % ROWS
    lengths = [*map(len, sequences), filler]
    device = model.head_weight.device
    cu_seqlens = torch.tensor([0, *lengths]).cumsum(0)
    ids = F.pad(torch.cat(sequences), (0, filler))
    targets = ids.roll(-1)
    targets[cu_seqlens[1:] - 1] = IGNORED
    targets, positions = targets.to(device), torch.cat([torch.arange(length) for length in lengths]).to(device)

    def head(hidden: Tensor, weight: Tensor) -> Tensor:
        return linear_logprobs(hidden, weight, targets, temperature=temperature, chunk_rows=model.head_rows).logprobs

    attend = packed_attention(cu_seqlens, max(lengths), exact=model.exact)
    logprobs = model(ids.to(device), positions, attend, head=head)
    return logprobs.float().cpu().split(lengths)[:-1]
