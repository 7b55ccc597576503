"""The search for the cuts of top_k and top_p on the device: one read of the blocks that can hold it per round.

The functions at the end are those of corl_kernels.cuts, with the same arguments and results, and the same integers.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from corl_kernels import cuts
from corl_kernels.blocks import LOW, TIES
from corl_kernels.jit import on_its_device
from corl_kernels.jit.sampling import (
    _BLOCK,
    _FIELDS,
    _INF_KEY,
    _exponent_scale,
    _key_of,
    _load,
    _power,
    _row_total,
    _value_of,
)

# B rows, N blocks of the vocabulary, M of them held here, K bins
_TILE = 16  # blocks read at a time
_TILES = 4  # of a program
_LOW, _TIES, _HIGH, _COUNT, _MASS, _GOAL, _DONE, _FLOOR, _FLOOR_TIES, _TOP, _SCALE = (
    tl.constexpr(field)
    for field in (
        LOW, TIES, cuts.HIGH, cuts.COUNT, cuts.MASS, cuts.GOAL, cuts.DONE, cuts.FLOOR, cuts.FLOOR_TIES, cuts.TOP,
        cuts.SCALE,
    )
)  # fmt: skip
_LEAST, _SPAN, _ALL = tl.constexpr(cuts.LEAST), tl.constexpr(cuts.SPAN), tl.constexpr(cuts.ALL)
_NEARLY, _UNIT = tl.constexpr(cuts.NEARLY), tl.constexpr(float(1 << cuts.UNIT))


@triton.jit
def _masses(values, top, scale):
    """floor(2^UNIT exp((x - top) / t)) int64."""
    return (_power(values - top, scale) * _UNIT).to(tl.int64)


@triton.jit
def _ceil_div(value, by):
    """ceil(value / by) of positive int64."""
    return (value + by - 1) // by


@triton.jit
def _bin_scale(span, BINS: tl.constexpr):
    """Bins per unit of the logits, finite and above 0."""
    return tl.minimum(tl.maximum((BINS - 2) / span, 2.0**-120), 2.0**120)


@triton.jit
def _bin_of(values, high, low, bin_scale, BINS: tl.constexpr):
    """See corl_kernels.cuts."""
    depth = tl.minimum((high - values) * bin_scale, BINS - 2).to(tl.int64)
    return tl.where(values == low, BINS - 1, depth)


@triton.jit
def _shift(low, high, BITS: tl.constexpr):
    """How many bits of the keys from low to high to leave out for 2^BITS bins."""
    exponent = (high - low).to(tl.float64).to(tl.int64, bitcast=True) >> 52
    return tl.maximum(exponent - 1022 - BITS, 0)


@triton.jit
def _start_kernel(
    statistics_ptr, temperature_ptr, limit_ptr, before_ptr, search_ptr, num_blocks, vocab_size,
    BY_MASS: tl.constexpr, BITS: tl.constexpr, BLOCKS_PADDED: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    temperature = tl.load(temperature_ptr + row)
    scale = _exponent_scale(temperature)
    block = tl.arange(0, BLOCKS_PADDED)
    listed = block < num_blocks
    at = statistics_ptr + row.to(tl.int64) * 2 * num_blocks + block
    peaks = tl.load(at, mask=listed, other=float("-inf"))
    keys = _key_of(peaks).to(tl.int64)
    top_key = tl.max(keys)
    top = _value_of(top_key)
    active = (temperature != 0) & (top_key < _INF_KEY) & (top_key > _LEAST)
    if before_ptr is None:
        floor = tl.full((), _LEAST, tl.int64)
        floor_ties = tl.full((), _ALL, tl.int64)
        mass = tl.full((), 0, tl.int64)
        if active:
            sums = tl.load(at + num_blocks, mask=listed, other=0.0)
            mass = (_row_total(peaks, sums, top, scale, listed) * _UNIT).to(tl.int64)
    else:
        before = before_ptr + row * _FIELDS
        floor, floor_ties, mass = tl.load(before + _LOW), tl.load(before + _TIES), tl.load(before + _MASS)
    if BY_MASS:
        limit = tl.load(limit_ptr + row).to(tl.float64)
        active = active & (limit < 1)
        goal = tl.maximum(tl.ceil(limit * _NEARLY * mass.to(tl.float64)).to(tl.int64), 1)
    else:
        goal = tl.load(limit_ptr + row)
        active = active & (goal > 0) & (goal < vocab_size)
    low, ties, done = floor, floor_ties, 1
    bin_scale = tl.full((), 0.0, tl.float32)
    if active:
        weights = _masses(peaks, top, scale) if BY_MASS else tl.full((BLOCKS_PADDED,), 1, tl.int64)
        weights = tl.where(listed, weights, 0)
        # the largest of the blocks' own maxima from which on these alone reach the goal
        high = top_key
        bound = tl.full((), _LEAST, tl.int64)
        for _ in range(33):
            middle = bound + ((high - bound + 1) >> 1)
            enough = tl.sum(tl.where(keys >= middle, weights, 0)) >= goal
            high = tl.where(enough, high, tl.maximum(middle - 1, bound))
            bound = tl.where(enough, middle, bound)
        low = tl.maximum(bound, floor)
        lowest = tl.min(tl.where(tl.abs(peaks) == float("inf"), top, peaks))
        span = tl.where(low > _LEAST, top - _value_of(low), 2 * (top - lowest))
        bin_scale = _bin_scale(span, 1 << BITS)
        mass = tl.full((), 0, tl.int64)
        done = 0
        if low == top_key:
            ties = goal
            if BY_MASS:
                ties = _ceil_div(goal, tl.full((), 1, tl.int64) * (1 << 40))
            ties = tl.where(low == floor, tl.minimum(ties, floor_ties), ties)
            mass = ties << 40
            done = 1
    search = search_ptr + row * _FIELDS
    tl.store(search + _LOW, low)
    tl.store(search + _TIES, ties)
    tl.store(search + _HIGH, top_key)
    tl.store(search + _COUNT, 0)
    tl.store(search + _MASS, mass)
    tl.store(search + _GOAL, goal)
    tl.store(search + _DONE, done)
    tl.store(search + _FLOOR, floor)
    tl.store(search + _FLOOR_TIES, floor_ties)
    tl.store(search + _TOP, top_key)
    tl.store(search + _SCALE, bin_scale.to(tl.int32, bitcast=True).to(tl.int64))


@triton.jit
def _count_kernel(
    logits_ptr, temperature_ptr, peaks_ptr, search_ptr, bins_ptr,
    stride_row, stride_vocab, stride_peaks, columns, num_blocks, parts,
    BY_VALUE: tl.constexpr, BITS: tl.constexpr, TILE: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    row = program // parts
    search = search_ptr + row * _FIELDS
    if tl.load(search + _DONE) == 0:
        low, high = tl.load(search + _LOW), tl.load(search + _HIGH)
        low_value, high_value, top = _value_of(low), _value_of(high), _value_of(tl.load(search + _TOP))
        bin_scale = tl.load(search + _SCALE).to(tl.int32).to(tl.float32, bitcast=True)
        scale = _exponent_scale(tl.load(temperature_ptr + row))
        shift = _shift(low, high, BITS)
        bins = bins_ptr + row.to(tl.int64) * (4 << BITS)
        for tile in range(TILES):
            # one row of places: with [blocks, columns] triton 3.7 builds layouts for the atomics that it then rejects
            ids = (program % parts * TILES + tile) * TILE * _BLOCK + tl.arange(0, TILE * _BLOCK)
            blocks = ids // _BLOCK
            at = row.to(tl.int64) * stride_peaks + blocks
            peaks = tl.load(peaks_ptr + at, mask=blocks < num_blocks, other=float("-inf"))
            inside = (ids < columns) & (peaks >= low_value) & (blocks < num_blocks)
            values = _load(logits_ptr + row.to(tl.int64) * stride_row, ids, inside, stride_vocab)
            inside = inside & (values >= low_value) & (values <= high_value)
            values = tl.where(inside, values, high_value)
            keys = _key_of(values).to(tl.int64)
            if BY_VALUE:
                place = bins + _bin_of(values, high_value, low_value, bin_scale, 1 << BITS)
            else:
                place = bins + ((high - keys) >> shift)
            tl.atomic_add(place, tl.full(place.shape, 1, tl.int64), mask=inside, sem="relaxed")
            tl.atomic_add(place + (1 << BITS), _masses(values, top, scale), mask=inside, sem="relaxed")
            tl.atomic_max(place + (2 << BITS), keys - _LEAST + 1, mask=inside, sem="relaxed")
            tl.atomic_max(place + (3 << BITS), -keys + (_SPAN + _LEAST), mask=inside, sem="relaxed")


@triton.jit
def _narrow_kernel(
    bins_ptr, temperature_ptr, search_ptr, clear_ptr, BY_MASS: tl.constexpr, BITS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    search = search_ptr + row * _FIELDS
    if tl.load(search + _DONE) == 0:
        BINS: tl.constexpr = 1 << BITS
        low, high, goal = tl.load(search + _LOW), tl.load(search + _HIGH), tl.load(search + _GOAL)
        floor, floor_ties = tl.load(search + _FLOOR), tl.load(search + _FLOOR_TIES)
        top = _value_of(tl.load(search + _TOP))
        at = tl.arange(0, BINS)
        own = row.to(tl.int64) * (4 * BINS) + at
        counts, weights = tl.load(bins_ptr + own), tl.load(bins_ptr + own + BINS)
        until_count = tl.load(search + _COUNT) + tl.cumsum(counts, 0)
        until_mass = tl.load(search + _MASS) + tl.cumsum(weights, 0)
        reached = (until_mass if BY_MASS else until_count) >= goal
        place = tl.min(tl.where(reached, at, BINS))
        missed = place == BINS  # by rounding: then all of the interval stays
        place = tl.minimum(place, BINS - 1)
        here = at == place
        inside, inside_mass = tl.sum(tl.where(here, counts, 0)), tl.sum(tl.where(here, weights, 0))
        new_count, new_mass = tl.sum(tl.where(here, until_count, 0)), tl.sum(tl.where(here, until_mass, 0))
        whole = missed | (inside == 1 if BY_MASS else new_count == goal)
        chosen = bins_ptr + row.to(tl.int64) * (4 * BINS) + place
        greatest = tl.where(missed, high, tl.load(chosen + 2 * BINS) + _LEAST - 1)
        least = tl.where(missed, low, -tl.load(chosen + 3 * BINS) + (_SPAN + _LEAST))
        tl.debug_barrier()  # everything is read before it is set to 0
        for part in tl.static_range(4):
            tl.store(clear_ptr + own + part * BINS, tl.zeros((BINS,), tl.int64))
        each = _masses(_value_of(least), top, _exponent_scale(tl.load(temperature_ptr + row)))
        above = new_mass - inside_mass
        if BY_MASS:
            needed = tl.where(each > 0, _ceil_div(goal - above, tl.maximum(each, 1)), _ALL)
        else:
            needed = goal - (new_count - inside)
        needed = tl.where(whole, _ALL, needed)
        needed = tl.where(least == floor, tl.minimum(needed, floor_ties), needed)
        mass, done = above, 0
        if whole | (least == greatest):
            mass, done = tl.where(whole, new_mass, above + needed * each), 1
            tl.store(search + _TIES, needed)
        tl.store(search + _LOW, least)
        tl.store(search + _HIGH, greatest)
        tl.store(search + _COUNT, new_count - inside)
        tl.store(search + _MASS, mass)
        tl.store(search + _DONE, done)
        bin_scale = _bin_scale(_value_of(greatest) - _value_of(least), BINS)
        tl.store(search + _SCALE, bin_scale.to(tl.int32, bitcast=True).to(tl.int64))


@on_its_device
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
    """See corl_kernels.cuts."""
    rows, _, num_blocks = statistics.shape
    search = torch.empty(rows, cuts.NUM_FIELDS, dtype=torch.int64, device=statistics.device)
    _start_kernel[(rows,)](
        statistics, temperature.contiguous(), limit.contiguous(), before, search, num_blocks, vocab_size,
        BY_MASS=by_mass, BITS=bits, BLOCKS_PADDED=triton.next_power_of_2(num_blocks), num_warps=4,
    )  # fmt: skip
    return search


@on_its_device
def count(logits: Tensor, temperature: Tensor, peaks: Tensor, search: Tensor, bins: Tensor, *, by_value: bool) -> None:
    """See corl_kernels.cuts."""
    num_blocks, parts = peaks.shape[1], triton.cdiv(peaks.shape[1], _TILE * _TILES)
    _count_kernel[(len(logits) * parts,)](
        logits, temperature.contiguous(), peaks, search, bins, *logits.stride(), peaks.stride(0), logits.shape[1],
        num_blocks, parts,
        BY_VALUE=by_value, BITS=bins.shape[2].bit_length() - 1, TILE=_TILE, TILES=_TILES, num_warps=4,
    )  # fmt: skip


@on_its_device
def narrow(bins: Tensor, temperature: Tensor, search: Tensor, clear: Tensor, *, by_mass: bool) -> None:
    """See corl_kernels.cuts; one program a row."""
    _narrow_kernel[(len(search),)](
        bins, temperature.contiguous(), search, clear,
        BY_MASS=by_mass, BITS=bins.shape[2].bit_length() - 1, num_warps=8,
    )  # fmt: skip
