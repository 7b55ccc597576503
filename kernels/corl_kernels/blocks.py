"""Draws by inverse CDF over fixed blocks of the vocabulary, on the CPU: a block's sums, then one block of every row.

A row's probabilities are summed in fp32 inside blocks of BLOCK columns and in fp64 over the blocks, in order. So what
is drawn depends on the row alone, and ranks that hold whole blocks need to exchange no more than the blocks' sums.
"""

import torch
from torch import Tensor

from corl_kernels.philox import uniforms

# B rows, C columns held here, N blocks of the vocabulary, M of them held here
BLOCK = 128
NUM_FIELDS, LOW, TIES = 11, 0, 1  # of the searches in cuts.py, whose first two fields are the cut
_CHUNK = 1 << 17  # logits worked on at a time: fewer are all calls, more leave the cache


def exponent_scale(temperature: Tensor) -> Tensor:
    """What logits are multiplied by: 1 / temperature, finite and above 0; 1 at temperature 0."""
    return torch.where(temperature == 0, 1.0, (1 / temperature).clamp(2.0**-100, 2.0**100))


def key_of(values: Tensor) -> Tensor:
    """int64 keys that order fp32 values as they are, -0 like 0."""
    bits = torch.where(values == 0, 0.0, values).view(torch.int32)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).long()


def value_of(keys: Tensor) -> Tensor:
    """The fp32 value of each key."""
    bits = keys.int()
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).view(torch.float32)


def block_statistics(logits: Tensor, temperature: Tensor, num_blocks: int) -> Tensor:
    """Return [B, 2, M] fp32: the largest logit m of each block, NaN where there is one, and sum exp((x - m) / t).

    logits       [B, C], C at most M * BLOCK; columns that are missing count as -inf
    temperature  [B] fp32
    """
    rows, columns = logits.shape
    out = torch.empty(rows, 2, num_blocks)
    if num_blocks == 0:
        return out
    step = max(1, _CHUNK // (num_blocks * BLOCK))
    scratch = torch.full((min(step, rows), num_blocks, BLOCK), float("-inf"))
    whole = columns == num_blocks * BLOCK and logits.dtype == torch.float32 and logits.is_contiguous()
    scale = exponent_scale(temperature)[:, None, None]
    for start in range(0, rows, step):
        part = logits[start : start + step]
        space = scratch[: len(part)]
        if whole:
            values = part.view(space.shape)
        else:
            values = space
            space.view(len(part), -1)[:, :columns] = part
        peaks, sums = out[start : start + step].unbind(1)
        torch.amax(values, dim=-1, out=peaks)
        shift = torch.where(peaks.isinf(), 0.0, peaks)[..., None]
        terms = torch.sub(values, shift, out=space).mul_(scale[start : start + step]).exp_()
        torch.sum(terms, dim=-1, out=sums)
        if not whole:
            space.view(len(part), -1)[:, columns:] = float("-inf")
    return out


def row_totals(statistics: Tensor, temperature: Tensor) -> Tensor:
    """The sum [B] fp64 of exp((x - largest x) / t) over the blocks [B, 2, N], in order."""
    (peaks, sums), scale = statistics.unbind(1), exponent_scale(temperature)
    shares = ((peaks - peaks.amax(-1, keepdim=True)) * scale[:, None]).exp().double()
    return (sums * shares).cumsum(-1)[:, -1]


def read_blocks(logits: Tensor, rows: Tensor | None, blocks: Tensor) -> Tensor:
    """The logits [n, BLOCK] fp32 of block `blocks` [n] of row `rows` [n], -inf where there is no column.

    rows  None: of all rows in turn
    """
    last, tail = divmod(logits.shape[1], BLOCK)
    if logits.shape[1] == 0:
        return torch.full((len(blocks), BLOCK), float("-inf"))
    places = (blocks[:, None] * BLOCK + torch.arange(BLOCK)).clamp_(max=logits.shape[1] - 1)
    values = (logits.gather(1, places) if rows is None else logits[rows[:, None], places]).float()
    values[:, tail:].masked_fill_((blocks == last)[:, None], float("-inf"))
    return values.masked_fill_((blocks > last)[:, None], float("-inf"))


def kept_statistics(logits: Tensor, temperature: Tensor, peaks: Tensor, cut: Tensor) -> Tensor:
    """Return [B, 2, M] fp32: of each block the sum of exp((x - m) / t) over x above the cut, and how many equal it.

    peaks  [B, M], the blocks' largest logits m      cut  [B, NUM_FIELDS] int64 of cuts.py
    Only blocks that hold something to keep are read, and none of a row that keeps everything (LOW the key of -inf).
    """
    out = torch.zeros(len(peaks), 2, peaks.shape[1])
    threshold = value_of(cut[:, LOW])
    is_cut = (threshold > float("-inf"))[:, None]
    rows, blocks = (is_cut & (peaks >= threshold[:, None])).nonzero(as_tuple=True)
    step = _CHUNK // BLOCK
    for row, block in zip(rows.split(step), blocks.split(step), strict=True):
        values, least = read_blocks(logits, row, block), threshold[row, None]
        terms = (values - peaks[row, block][:, None]).mul_(exponent_scale(temperature)[row, None]).exp_()
        out[row, 0, block] = terms.masked_fill_(values <= least, 0).sum(-1)
        out[row, 1, block] = (values == least).sum(-1).float()
    return out


def draw(
    logits: Tensor,
    temperature: Tensor,
    statistics: Tensor,
    kept: Tensor | None,
    cut: Tensor | None,
    seeds: Tensor,
    positions: Tensor,
    first_block: int,
) -> tuple[Tensor, Tensor]:
    """Return tokens [B] int64 and logprobs [B] fp32, both 0 in rows whose token lies in no block held here.

    logits      [B, C], the columns from block `first_block` on
    statistics  [B, 2, N] of all blocks; kept, with a cut, the same of kept_statistics, and cut [B, NUM_FIELDS]
    """
    (peaks, sums), scale = statistics.unbind(1), exponent_scale(temperature)
    top = peaks.amax(-1)
    shares = ((peaks - top[:, None]) * scale[:, None]).exp().double()
    total = (sums * shares).cumsum(-1)[:, -1]
    weights = sums * shares
    if kept is not None and cut is not None:
        above, equals = kept[:, 0], kept[:, 1].long()
        earlier = equals.cumsum(-1) - equals
        threshold, quota = value_of(cut[:, LOW]), (cut[:, TIES, None] - earlier).clamp_(min=0)
        each = ((threshold - top) * scale).exp().double()[:, None]
        # a row that keeps everything has the weights, to the bit, that it has where no row is cut
        cut_weights = above * shares + torch.minimum(quota, equals) * each
        weights = torch.where((threshold > float("-inf"))[:, None], cut_weights, weights)
    until = weights.cumsum(-1)
    wanted = uniforms(seeds, positions)[:, None] * until[:, -1:]
    greedy = (temperature == 0) | ~top.isfinite()
    # the first sum above what is wanted: never one that a block or token without weight has not raised
    chosen = torch.where(greedy[:, None], peaks.argmax(-1, keepdim=True), _first_above(until, wanted))
    weight = weights.gather(1, chosen)
    fraction = ((wanted - until.gather(1, chosen) + weight) / weight).clamp_(0, 1 - 2.0**-53)

    own = chosen[:, 0] - first_block
    held = (own >= 0) & (own * BLOCK < logits.shape[1])
    values = read_blocks(logits, None, torch.where(held, own, 0))  # [B, BLOCK]
    terms = ((values - peaks.gather(1, chosen)) * scale[:, None]).exp()
    if cut is not None and kept is not None:
        equal = values == threshold[:, None]
        first = equal & (equal.cumsum(-1, dtype=torch.int32) <= quota.gather(1, chosen))
        terms.masked_fill_(~((values > threshold[:, None]) | first), 0)
    until = terms.double().cumsum(-1)
    place = _first_above(until, fraction * until[:, -1:])
    place = torch.where(greedy[:, None], values.argmax(-1, keepdim=True), place)
    logprobs = (values.gather(1, place)[:, 0] - top).mul_(scale).double() - total.log()
    return torch.where(held, (chosen * BLOCK + place)[:, 0], 0), torch.where(held, logprobs, 0.0).float()


def _first_above(until: Tensor, wanted: Tensor) -> Tensor:
    """The first place [B, 1] where sums that rise [B, K] exceed what is wanted [B, 1], the last where none does."""
    return torch.searchsorted(until, wanted, right=True).clamp_(max=until.shape[1] - 1)
