"""Where top_k and top_p cut a row: a search by histograms that reads few blocks and sorts nothing, on the CPU.

A cut is the lowest value that stays and how many tokens of just that value do, lowest ids first. The largest logits of
the blocks bound it from below, so that blocks under the bound are not read again. What is left is counted in bins: the
values in the bin that holds the cut are the next, narrower interval. Counts and masses are integers, whose sums are the
same in any order, and on any number of ranks.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from corl_kernels.blocks import BLOCK, LOW, NUM_FIELDS, TIES, exponent_scale, key_of, read_blocks, row_totals, value_of

# B rows, N blocks of the vocabulary, M of them held here, K bins
# A search, [B, NUM_FIELDS] int64 a row: the keys of blocks.key_of between which the cut lies (LOW and HIGH), the count
# and mass above HIGH, the count or mass to reach (GOAL), whether it is done. When it is: LOW is the key of the cut,
# TIES how many tokens of this value stay, MASS what all that stays weighs. FLOOR and FLOOR_TIES are the cut of the
# search before, TOP is the key of the row's largest logit, SCALE (the bits of an fp32) the bins per unit of the logits.
# Bins, [B, 4, K] int64: the count, the mass, and the highest and lowest key of what fell in, the keys counted up from
# LEAST and down from SPAN, so that a larger number is what to keep and 0 is an empty bin.
HIGH, COUNT, MASS, GOAL, DONE, FLOOR, FLOOR_TIES, TOP, SCALE = range(2, NUM_FIELDS)
LEAST = -0x7F800001  # the key of -inf
SPAN = 1 << 32  # more than there are keys
UNIT = 40  # bits of the mass of a row's largest logit: 2^22 of them fit an int64
ALL = 1 << 30  # ties that stay where none is cut
NEARLY = 1 - 2.0**-21  # of top_p counts as top_p: more than fp32 rounds, so 0.3 is 3 of 10 equal tokens everywhere
BITS = 11  # 2^BITS bins a round
BY_VALUE = 2  # rounds whose bins are of equal width in the logits: what is spread out is found in these
SORTED = 4096  # a vocabulary no larger than this is sorted: by then that is faster


def rounds_of(bits: int) -> int:
    """Rounds that end any search: after those by value, `bits` bits of the 32-bit keys at a time."""
    return BY_VALUE + -(-32 // bits)


def find_cut(
    ops: Any,
    logits: Tensor,
    temperature: Tensor,
    statistics: Tensor,
    first_block: int,
    num_blocks: int,
    top_k: Tensor | None,
    top_p: Tensor | None,
    vocab_size: int,
    combine: Callable[[Tensor], Tensor] | None,
    bits: int = BITS,
) -> Tensor:
    """Return the cut [B, NUM_FIELDS] int64, whose fields LOW and TIES count from here on.

    ops         this module or corl_kernels.jit.cuts: who computes
    statistics  [B, 2, N] of all blocks; logits [B, C] are the columns of num_blocks blocks from first_block on
    top_k       [B] int64 or None     top_p  [B] fp32 or None; rows of temperature 0, or whose largest logit is not
                finite, are not cut
    combine     the bins of all ranks that hold columns, from this rank's; None where all are here
    """
    peaks = statistics[:, 0, first_block : first_block + num_blocks]
    search = None
    for limit, by_mass in ((top_k, False), (top_p, True)):
        if limit is None:
            continue
        search = ops.start(statistics, temperature, limit, search, vocab_size, by_mass=by_mass, bits=bits)
        bins = torch.zeros(len(logits), 4, 1 << bits, dtype=torch.int64, device=logits.device)
        for step in range(rounds_of(bits)):
            # a GPU is not asked: there the rounds of a search that is done read nothing
            if logits.device.type == "cpu" and bool(search[:, DONE].all()):
                break
            ops.count(logits, temperature, peaks, search, bins, by_value=step < BY_VALUE)
            found = bins if combine is None else combine(bins)
            ops.narrow(found, temperature, search, bins, by_mass=by_mass)
    assert search is not None
    return search


def masses(values: Tensor, top: Tensor, scale: Tensor) -> Tensor:
    """floor(2^UNIT exp((x - top) / t)) int64 of every value x; the other two broadcast."""
    return ((values - top) * scale).exp_().mul_(2.0**UNIT).long()


def start(
    statistics: Tensor,
    temperature: Tensor,
    limit: Tensor,
    before: Tensor | None,
    vocab_size: int,
    *,
    by_mass: bool,
    bits: int,
) -> Tensor:
    """Return a search [B, NUM_FIELDS] for top_k, or by_mass for top_p of what the search `before` keeps."""
    peaks, scale = statistics[:, 0], exponent_scale(temperature)[:, None]
    top = peaks.amax(-1, keepdim=True)
    search = torch.zeros(len(peaks), NUM_FIELDS, dtype=torch.int64)
    low, ties, high, _, mass, goal, done, floor, floor_ties, top_key, bin_scale = search.unbind(1)
    top_key.copy_(key_of(top[:, 0]))
    valid = (temperature != 0) & top[:, 0].isfinite()
    if before is None:
        floor.fill_(LEAST)
        floor_ties.fill_(ALL)
        mass.copy_(torch.where(valid, row_totals(statistics, temperature) * 2.0**UNIT, 0).long())
    else:
        floor.copy_(before[:, LOW])
        floor_ties.copy_(before[:, TIES])
        mass.copy_(before[:, MASS])
    if by_mass:
        goal.copy_((limit.double() * NEARLY * mass.double()).ceil().clamp_(min=1).long())
        active = valid & (limit < 1)
    else:
        goal.copy_(limit)
        active = valid & (limit > 0) & (limit < vocab_size)
    # the largest of the blocks' own maxima from which on these alone reach the goal
    ordered = peaks.sort(-1, descending=True).values
    reached = masses(ordered, top, scale).cumsum(-1) if by_mass else torch.arange(1, 1 + peaks.shape[1])
    enough = reached >= goal[:, None]
    bound = key_of(ordered.gather(1, enough.int().argmax(-1, keepdim=True)))[:, 0]
    bound = torch.where(enough[:, -1], bound, LEAST)
    low.copy_(torch.where(active, torch.maximum(bound, floor), floor))
    high.copy_(top_key)
    top = top[:, 0]
    lowest = torch.where(peaks.isinf(), top[:, None], peaks).amin(-1)
    span = torch.where(low > LEAST, top - value_of(low), 2 * (top - lowest))
    bin_scale.copy_(_scale_bits(span, 1 << bits))
    at_top = active & (low == top_key)
    needed = (goal + (1 << UNIT) - 1) >> UNIT if by_mass else goal
    needed = torch.where(low == floor, torch.minimum(needed, floor_ties), needed)
    ties.copy_(torch.where(at_top, needed, floor_ties))
    mass.copy_(torch.where(at_top, needed << UNIT, torch.where(active, 0, mass)))
    done.copy_(~active | at_top)
    return search


def _scale_bits(span: Tensor, num_bins: int) -> Tensor:
    """The field SCALE for values that span [B] fp32."""
    return ((num_bins - 2) / span).clamp_(2.0**-120, 2.0**120).view(torch.int32).long()


def _bin_of(values: Tensor, high: Tensor, low: Tensor, bin_scale: Tensor, num_bins: int) -> Tensor:
    """Bins of equal width from `high` down; the last is for the lowest value alone, the one before for all above it.

    No bin holds a larger value than the bin before, however the differences round.
    """
    depth = ((high - values) * bin_scale).clamp_(max=num_bins - 2).long()
    return torch.where(values == low, num_bins - 1, depth)


def _shift(low: Tensor, high: Tensor, num_bins: int) -> Tensor:
    """How many bits of the keys from low to high to leave out for num_bins bins."""
    bits = torch.frexp((high - low).double()).exponent.long()
    return (bits - (num_bins.bit_length() - 1)).clamp_(min=0)


def count(logits: Tensor, temperature: Tensor, peaks: Tensor, search: Tensor, bins: Tensor, *, by_value: bool) -> None:
    """Put the values between LOW and HIGH into bins [B, 4, K]; rows that are done put nothing there.

    logits  [B, C], the columns of the blocks whose largest logits are peaks [B, M]
    """
    low, high, top = (value_of(search[:, field]) for field in (LOW, HIGH, TOP))
    rows, blocks = ((peaks >= low[:, None]) & (search[:, DONE] == 0)[:, None]).nonzero(as_tuple=True)
    num_bins, (last, tail) = bins.shape[2], divmod(logits.shape[1], BLOCK)
    for row, block in zip(rows.split(4096), blocks.split(4096), strict=True):
        values = read_blocks(logits, row, block)
        inside = (values >= low[row, None]) & (values <= high[row, None])
        inside[:, tail:] &= (block != last)[:, None]
        inside &= (block <= last)[:, None]
        at, _ = inside.nonzero(as_tuple=True)
        owner, values = row[at], values[inside]
        keys = key_of(values)
        if by_value:
            bin_scale = search[owner, SCALE].int().view(torch.float32)
            place = _bin_of(values, high[owner], low[owner], bin_scale, num_bins)
        else:
            place = (search[owner, HIGH] - keys) >> _shift(search[owner, LOW], search[owner, HIGH], num_bins)
        place += owner * (4 * num_bins)
        weights = masses(values, top[owner], exponent_scale(temperature)[owner])
        flat = bins.view(-1)
        flat.index_add_(0, place, torch.ones_like(place))
        flat.index_add_(0, place + num_bins, weights)
        flat.scatter_reduce_(0, place + 2 * num_bins, keys - LEAST + 1, "amax")
        flat.scatter_reduce_(0, place + 3 * num_bins, SPAN - (keys - LEAST), "amax")


def join_bins(parts: Tensor) -> Tensor:
    """The bins of all ranks [R, B, 4, K] in one."""
    return torch.cat((parts[:, :, :2].sum(0), parts[:, :, 2:].amax(0)), dim=1)


def narrow(bins: Tensor, temperature: Tensor, search: Tensor, clear: Tensor, *, by_mass: bool) -> None:
    """Continue with the values of the bin that holds the cut, in place, or be done; `clear` is set to 0.

    A bin of which everything stays needs no further look, nor does one that is a single value.
    """
    low, ties, high, count, mass, goal, done, floor, floor_ties, top, bin_scale = search.unbind(1)
    num_bins = bins.shape[2]
    counts, weights, highest, lowest = bins.unbind(1)
    until_count, until_mass = count[:, None] + counts.cumsum(-1), mass[:, None] + weights.cumsum(-1)
    reached = (until_mass if by_mass else until_count) >= goal[:, None]
    missed = ~reached[:, -1]  # by rounding: then all of the interval stays
    place = torch.where(missed, num_bins - 1, reached.int().argmax(-1))
    chosen = place[:, None]
    inside, inside_mass = counts.gather(1, chosen)[:, 0], weights.gather(1, chosen)[:, 0]
    new_mass = until_mass.gather(1, chosen)[:, 0]
    new_count = until_count.gather(1, chosen)[:, 0]
    whole = missed | ((inside == 1) if by_mass else (new_count == goal))
    least = torch.where(missed, low, SPAN + LEAST - lowest.gather(1, chosen)[:, 0])
    greatest = torch.where(missed, high, highest.gather(1, chosen)[:, 0] + LEAST - 1)
    single = (least == greatest) & ~whole
    each = masses(value_of(least), value_of(top), exponent_scale(temperature))
    above = new_mass - inside_mass
    if by_mass:
        needed = torch.where(each > 0, (goal - above + each.clamp(min=1) - 1) // each.clamp(min=1), ALL)
    else:
        needed = goal - (new_count - inside)
    needed = torch.where(whole, ALL, needed)
    needed = torch.where(least == floor, torch.minimum(needed, floor_ties), needed)
    ended = whole | single
    live = done == 0
    kept_mass = torch.where(whole, new_mass, above + needed * each)
    for field, value in (
        (low, least), (high, greatest), (ties, torch.where(ended, needed, ties)),
        (count, new_count - inside), (mass, torch.where(ended, kept_mass, above)), (done, ended.long()),
        (bin_scale, _scale_bits(value_of(greatest) - value_of(least), num_bins)),
    ):  # fmt: skip
        field.copy_(torch.where(live, value, field))
    clear.zero_()


def cut_by_sorting(
    logits: Tensor, temperature: Tensor, statistics: Tensor, top_k: Tensor | None, top_p: Tensor | None
) -> Tensor:
    """What find_cut returns, from a sort of every row [B, V]: the reference, and the way for small vocabularies."""
    rows, vocab_size = logits.shape
    scale = exponent_scale(temperature)[:, None]
    top = statistics[:, 0].amax(-1, keepdim=True)
    valid = (temperature != 0) & top[:, 0].isfinite()
    ordered = logits.float().contiguous().sort(-1, descending=True).values
    keep = torch.full((rows,), vocab_size)
    if top_k is not None:
        keep = torch.where(top_k == 0, vocab_size, top_k.clamp(max=vocab_size))
    if top_p is not None:
        until = masses(ordered, top, scale).cumsum(-1)
        total = torch.where(valid, row_totals(statistics, temperature) * 2.0**UNIT, 0).long()
        total = torch.where(keep < vocab_size, until.gather(1, keep[:, None] - 1)[:, 0], total)
        goal = (top_p.double() * NEARLY * total.double()).ceil().clamp_(min=1).long()
        keep = torch.where(top_p < 1, torch.minimum(keep, 1 + torch.searchsorted(until, goal[:, None])[:, 0]), keep)
    keep = torch.where(valid, keep, vocab_size)[:, None]
    least = ordered.gather(1, keep - 1)
    before = torch.searchsorted(-ordered, -least)[:, 0]  # larger logits
    cut = torch.zeros(rows, NUM_FIELDS, dtype=torch.int64)
    is_cut = keep[:, 0] < vocab_size
    cut[:, LOW] = torch.where(is_cut, key_of(least)[:, 0], LEAST)
    cut[:, TIES] = torch.where(is_cut, keep[:, 0] - before, ALL)
    return cut
