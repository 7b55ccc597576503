"""Draws by inverse CDF on the device: the sums of a row's blocks in one read of the logits, then one block of the row.

The functions at the end are those of corl_kernels.blocks, with the same arguments and results.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from corl_kernels.blocks import BLOCK, LOW, NUM_FIELDS, TIES
from corl_kernels.jit import on_its_device

# B rows, N blocks of the vocabulary, M of them held here
_TILE = 32  # blocks of a program
_BLOCK, _FIELDS, _LOW, _TIES = (tl.constexpr(value) for value in (BLOCK, NUM_FIELDS, LOW, TIES))
_LOG2E = tl.constexpr(1.4426950408889634)
_NAN_KEY = tl.constexpr(0x7FFFFFFF)
_INF_KEY = tl.constexpr(0x7F800000)


@triton.jit
def _exponent_scale(temperature):
    """1 / temperature, finite and above 0; 1 at temperature 0."""
    inverse = tl.math.div_rn(1.0, tl.where(temperature == 0, 1.0, temperature))
    return tl.minimum(tl.maximum(inverse, 2.0**-100), 2.0**100)


@triton.jit
def _key_of(values):
    """int32 keys that order fp32 values as they are, -0 like 0 and NaN above all."""
    bits = tl.where(values == 0, 0.0, values).to(tl.int32, bitcast=True)
    return tl.where(values == values, bits ^ ((bits >> 31) & 0x7FFFFFFF), _NAN_KEY)


@triton.jit
def _value_of(keys):
    """The fp32 value of each key."""
    bits = keys.to(tl.int32)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)


@triton.jit
def _power(differences, scale):
    """exp(differences * scale)."""
    return tl.exp2(differences * (scale * _LOG2E))


@triton.jit
def _load(logits, ids, inside, stride_vocab):
    """fp32 logits of one row at the ids, -inf where they are not inside."""
    return tl.load(logits + ids.to(tl.int64) * stride_vocab, mask=inside, other=float("-inf")).to(tl.float32)


@triton.jit
def _row_total(peaks, sums, top, scale, inside):
    """The sum fp64 of exp((x - top) / t) over a row's blocks."""
    return tl.sum(tl.where(inside, sums.to(tl.float64) * _power(peaks - top, scale).to(tl.float64), 0.0))


@triton.jit
def _uniform(seed, position):
    """philox.uniforms of one seed and position."""
    zero = tl.zeros((1,), tl.uint32)
    first, second, _, _ = tl.philox(seed, zero + position.to(tl.uint32), zero, zero, zero)
    return tl.sum((first >> 5).to(tl.float64) * 67108864.0 + (second >> 6).to(tl.float64)) * (1.0 / (1 << 53))


@triton.jit
def _block_statistics_kernel(
    logits_ptr, temperature_ptr, statistics_ptr,
    stride_row, stride_vocab, columns, num_blocks, parts,
    TILE: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    row = program // parts
    blocks = program % parts * TILE + tl.arange(0, TILE)
    ids = blocks[:, None] * _BLOCK + tl.arange(0, _BLOCK)[None, :]
    values = _load(logits_ptr + row.to(tl.int64) * stride_row, ids, ids < columns, stride_vocab)
    peaks = tl.max(values, axis=1)
    shift = tl.where(tl.abs(peaks) == float("inf"), 0.0, peaks)
    sums = tl.sum(_power(values - shift[:, None], _exponent_scale(tl.load(temperature_ptr + row))), axis=1)
    at = statistics_ptr + row.to(tl.int64) * 2 * num_blocks + blocks
    # where a block holds NaN its sum is NaN; the largest logit may have passed over it
    tl.store(at, tl.where(sums == sums, peaks, float("nan")), mask=blocks < num_blocks)
    tl.store(at + num_blocks, sums, mask=blocks < num_blocks)


@triton.jit
def _kept_statistics_kernel(
    logits_ptr, temperature_ptr, peaks_ptr, cut_ptr, kept_ptr,
    stride_row, stride_vocab, stride_peaks, columns, num_blocks, parts,
    TILE: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    row = program // parts
    blocks = program % parts * TILE + tl.arange(0, TILE)
    peaks = tl.load(peaks_ptr + row.to(tl.int64) * stride_peaks + blocks, mask=blocks < num_blocks, other=float("-inf"))
    least = _value_of(tl.load(cut_ptr + row * _FIELDS + _LOW))
    ids = blocks[:, None] * _BLOCK + tl.arange(0, _BLOCK)[None, :]
    lowest_read = tl.where(least > float("-inf"), least, float("inf"))  # nothing of a row that keeps everything
    inside = (ids < columns) & (peaks >= lowest_read)[:, None]
    values = _load(logits_ptr + row.to(tl.int64) * stride_row, ids, inside, stride_vocab)
    terms = _power(values - peaks[:, None], _exponent_scale(tl.load(temperature_ptr + row)))
    at = kept_ptr + row.to(tl.int64) * 2 * num_blocks + blocks
    above = tl.sum(tl.where(inside & (values > least), terms, 0.0), axis=1)
    tl.store(at, above, mask=blocks < num_blocks)
    equal = tl.sum((inside & (values == least)).to(tl.float32), axis=1)
    tl.store(at + num_blocks, equal, mask=blocks < num_blocks)


@triton.jit
def _first(found, at, none):
    """The lowest of the places `at` where something was found, else `none`, which is no lower than any of them."""
    return tl.min(tl.where(found, at, none))


@triton.jit
def _draw_kernel(
    logits_ptr, temperature_ptr, statistics_ptr, kept_ptr, cut_ptr, seeds_ptr, positions_ptr,
    tokens_ptr, logprobs_ptr,
    stride_row, stride_vocab, columns, num_blocks, first_block,
    BLOCKS_PADDED: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    scale = _exponent_scale(tl.load(temperature_ptr + row))
    block = tl.arange(0, BLOCKS_PADDED)
    listed = block < num_blocks
    at = row.to(tl.int64) * 2 * num_blocks + block
    peaks = tl.load(statistics_ptr + at, mask=listed, other=float("-inf"))
    keys = _key_of(peaks)
    top_key = tl.max(keys)
    top = _value_of(top_key)
    sums = tl.load(statistics_ptr + num_blocks + at, mask=listed, other=0.0)
    total = _row_total(peaks, sums, top, scale, listed)
    greedy = (tl.load(temperature_ptr + row) == 0) | (tl.abs(top) == float("inf")) | (top != top)

    weights = sums.to(tl.float64) * _power(peaks - top, scale)
    if cut_ptr is not None:
        least = _value_of(tl.load(cut_ptr + row * _FIELDS + _LOW))
        above = tl.load(kept_ptr + at, mask=listed, other=0.0).to(tl.float64)
        equals = tl.load(kept_ptr + num_blocks + at, mask=listed, other=0.0).to(tl.int64)
        quotas = tl.maximum(tl.load(cut_ptr + row * _FIELDS + _TIES) - (tl.cumsum(equals, 0) - equals), 0)
        kept = tl.minimum(quotas, equals).to(tl.float64)
        cut_weights = above * _power(peaks - top, scale) + kept * _power(least - top, scale)
        weights = tl.where(least > float("-inf"), cut_weights, weights)
    weights = tl.where(listed & (weights > 0), weights, 0.0)
    until = tl.cumsum(weights, 0)
    wanted = _uniform(tl.load(seeds_ptr + row), tl.load(positions_ptr + row)) * tl.sum(
        tl.where(block == num_blocks - 1, until, 0.0)
    )
    # a parallel sum need not rise from block to block: one without weight is passed over whatever it says
    last = tl.max(tl.where(weights > 0, block, 0))
    chosen = _first((until > wanted) & (weights > 0), block, last)
    chosen = tl.where(greedy, _first(keys == top_key, block, BLOCKS_PADDED), chosen)
    here = block == chosen
    weight = tl.sum(tl.where(here, weights, 0.0))
    fraction = (wanted - tl.sum(tl.where(here, until - weights, 0.0))) / weight
    peak = tl.sum(tl.where(here, peaks, 0.0))

    place = tl.arange(0, _BLOCK)
    ids = (chosen - first_block) * _BLOCK + place
    inside = (ids >= 0) & (ids < columns)
    values = _load(logits_ptr + row.to(tl.int64) * stride_row, ids, inside, stride_vocab)
    terms = _power(values - peak, scale)
    if cut_ptr is not None:
        quota = tl.sum(tl.where(here, quotas, 0))
        equal = (values == least) & inside
        first = equal & (tl.cumsum(equal.to(tl.int64), 0) <= quota)
        terms = tl.where((values > least) | first, terms, 0.0)
    terms = tl.where(inside & (terms > 0), terms.to(tl.float64), 0.0)
    until = tl.cumsum(terms, 0)
    goal = fraction * tl.sum(tl.where(place == _BLOCK - 1, until, 0.0))
    found = _first((until > goal) & (terms > 0), place, tl.max(tl.where(terms > 0, place, 0)))
    value_keys = tl.where(inside, _key_of(values), -_NAN_KEY - 1)
    found = tl.where(greedy, _first(value_keys == tl.max(value_keys), place, _BLOCK), found)
    value = tl.sum(tl.where(place == found, values, 0.0))
    logprob = ((value - top) * scale).to(tl.float64) - tl.log(total)
    held = (chosen >= first_block) & ((chosen - first_block) * _BLOCK < columns)
    tl.store(tokens_ptr + row, tl.where(held, (chosen * _BLOCK + found).to(tl.int64), 0))
    tl.store(logprobs_ptr + row, tl.where(held, logprob, 0.0).to(tl.float32))


@on_its_device
def block_statistics(logits: Tensor, temperature: Tensor, num_blocks: int) -> Tensor:
    """See corl_kernels.blocks; logits of any strides."""
    rows, columns = logits.shape
    out = torch.empty(rows, 2, num_blocks, dtype=torch.float32, device=logits.device)
    parts = triton.cdiv(num_blocks, _TILE)
    _block_statistics_kernel[(rows * parts,)](
        logits, temperature.contiguous(), out, *logits.stride(), columns, num_blocks, parts, TILE=_TILE, num_warps=4,
    )  # fmt: skip
    return out


@on_its_device
def kept_statistics(logits: Tensor, temperature: Tensor, peaks: Tensor, cut: Tensor) -> Tensor:
    """See corl_kernels.blocks; a block whose largest logit is below the cut is not read."""
    (rows, num_blocks), columns = peaks.shape, logits.shape[1]
    out = torch.empty(rows, 2, num_blocks, dtype=torch.float32, device=logits.device)
    parts = triton.cdiv(num_blocks, _TILE)
    _kept_statistics_kernel[(rows * parts,)](
        logits, temperature.contiguous(), peaks, cut, out, *logits.stride(), peaks.stride(0), columns, num_blocks,
        parts, TILE=_TILE, num_warps=4,
    )  # fmt: skip
    return out


@on_its_device
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
    """See corl_kernels.blocks; one program a row.

    Products are not fused into sums, so that a row that is not cut has the same bits with and without rows that are.
    """
    rows, _, num_blocks = statistics.shape
    tokens = torch.empty(rows, dtype=torch.int64, device=logits.device)
    logprobs = torch.empty(rows, dtype=torch.float32, device=logits.device)
    _draw_kernel[(rows,)](
        logits, temperature.contiguous(), statistics, kept, cut, seeds.contiguous(), positions.contiguous(),
        tokens, logprobs, *logits.stride(), logits.shape[1], num_blocks, first_block,
        BLOCKS_PADDED=triton.next_power_of_2(num_blocks), num_warps=8, enable_fp_fusion=False,
    )  # fmt: skip
    return tokens, logprobs
