"""Causal attention within the sequences of a pack, for training and scoring.

16-bit tensors on a GPU go to flash attention, everything else is padded into a few rectangles of similar length: with
causal attention, padding on the right needs no mask.
"""

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from corl.model.exact import exact_packed_attention
from corl.model.exact_rows import with_gradients_of
from corl.model.flash import causal_varlen

# T packed tokens, S sequences, P padded tokens, H query heads, K kv heads, E head dim
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]


def packed_attention(cu_seqlens: Tensor, max_seqlen: int, *, exact: bool = False) -> Attend:
    """The `attend` of a Decoder for one pack: every token sees its own sequence up to itself.

    cu_seqlens  [S + 1] i32 or i64 on any device: 0, then the running sum of the lengths, ending in T
    max_seqlen  at least the longest length
    exact       a query's bits depend on its position, its query and its keys alone, and are those it has while decoding
                (exact_decode_attention); gradients are those of the ordinary way, which then runs as well
    returns     attend(layer_index, q [T, H, E], k [T, K, E], v [T, K, E]) -> [T, H, E], scale 1 / sqrt(E)

    What depends on the lengths alone is computed at the first call and kept for the other layers; on the padded path
    that reads `cu_seqlens` on the host.
    """

    @cache
    def bounds(device: torch.device) -> Tensor:
        return cu_seqlens.to(device, torch.int32)

    @cache
    def padding(device: torch.device) -> tuple[list[tuple[int, int]], Tensor, Tensor]:
        return _padding(cu_seqlens.diff().tolist(), device)

    def attend(layer_index: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if q.is_cuda and q.dtype in (torch.bfloat16, torch.float16):
            return causal_varlen(q, k, v, bounds(q.device), max_seqlen)
        return _padded(q, k, v, *padding(q.device))

    if not exact:
        return attend
    attend_exactly = exact_packed_attention(cu_seqlens, max_seqlen)

    def attend_twice(layer_index: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        with torch.no_grad():
            values = attend_exactly(q, k, v)
        return with_gradients_of(values, attend(layer_index, q, k, v)) if torch.is_grad_enabled() else values

    return attend_twice


def _padded(q: Tensor, k: Tensor, v: Tensor, groups: list[tuple[int, int]], pad: Tensor, unpad: Tensor) -> Tensor:
    """`groups` are the (sequences, length) of each rectangle; pad [P] and unpad [T] are inverse gathers."""
    padded = [_Gather.apply(x, pad, unpad).split([s * length for s, length in groups]) for x in (q, k, v)]
    outputs = []
    for (sequences, _), *group in zip(groups, *padded, strict=True):
        queries, keys, values = (x.unflatten(0, (sequences, -1)).transpose(1, 2) for x in group)  # [S, heads, L, E]
        out = F.scaled_dot_product_attention(queries, keys, values, is_causal=True, enable_gqa=True)
        outputs.append(out.transpose(1, 2).flatten(0, 1))
    return _Gather.apply(torch.cat(outputs), unpad, pad)


def _padding(lengths: list[int], device: torch.device) -> tuple[list[tuple[int, int]], Tensor, Tensor]:
    """Rectangles of sequences of similar length, and the gathers into them and back.

    How far a sequence is padded depends on its own length alone, so its numbers do not depend on its company.
    """
    members: dict[int, list[int]] = {}
    for sequence, length in enumerate(lengths):
        if length:
            members.setdefault(_padded_length(length), []).append(sequence)

    starts = torch.tensor([0, *lengths]).cumsum(0)
    total = int(starts[-1])
    rows = []
    for width, group in members.items():
        index, steps = torch.tensor(group)[:, None], torch.arange(width)
        rows.append(torch.where(steps < starts.diff()[index], starts[index] + steps, total).flatten())
    pad = torch.cat(rows)
    unpad = torch.empty(total + 1, dtype=torch.int64)
    unpad[pad] = torch.arange(len(pad))  # all padding lands on the entry that is cut off
    return [(len(group), width) for width, group in members.items()], pad.to(device), unpad[:total].to(device)


def _padded_length(length: int) -> int:
    """The next multiple of 16, from 128 on of an eighth to a quarter of the length: at most a quarter is padding."""
    step = 1 << (max(length, 64).bit_length() - 3)
    return -(-length // step) * step


class _Gather(torch.autograd.Function):
    """x[index], where an index of len(x) gives zeros; `inverse` is the same gather back.

    Autograd's own backward of an index is a scatter-add, ten times as slow on CPU as this second gather.
    """

    @staticmethod
    def forward(ctx, x: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(index, inverse)
        return torch.cat((x, x.new_zeros(1, *x.shape[1:]))).index_select(0, index)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        index, inverse = ctx.saved_tensors
        return _Gather.apply(grad, inverse, index), None, None
