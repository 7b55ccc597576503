"""Sampling on the device: Gumbel-max over splits of the vocabulary, and the cuts of top_k and top_p without a sort."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from corl_kernels.jit import on_its_device

# B rows, V vocabulary, S splits of it.
# Every token of a row has its own int64 key: first its value, then how low its id is. A cut is a key too: the tokens
# with that key or a higher one stay. So no two tokens ever tie.
_SPLIT = 4096  # fixed, so that a row's sums do not depend on how many rows there are
_SEARCH_BLOCK = 2048
_RUNG_BITS = 3  # 2^3 candidates a pass of a search: by estimate, comparing then takes as long as reading
_OUTSIDE = tl.constexpr(-(1 << 62))  # the key of what is outside the vocabulary, below every other
_TINY = tl.constexpr(1e-30)


@triton.jit
def _keys(values, ids, vocab_size, ID_BITS: tl.constexpr):
    """int64 keys that order tokens by value, NaN first, -0 like 0, then by lower id."""
    bits = tl.where(values == 0, 0.0, values).to(tl.int32, bitcast=True)
    image = tl.where(values == values, bits ^ ((bits >> 31) & 0x7FFFFFFF), 0x7FFFFFFF)
    keys = (image.to(tl.int64) << ID_BITS) + ((1 << ID_BITS) - 1 - ids)
    return tl.where(ids < vocab_size, keys, _OUTSIDE)


@triton.jit
def _scaled(logits, ids, heat, stride_vocab, vocab_size):
    """Logits / temperature (temperature 0: the logits); -inf outside the vocabulary."""
    inside = ids < vocab_size
    values = tl.load(logits + ids.to(tl.int64) * stride_vocab, mask=inside, other=0.0).to(tl.float32)
    # `/` would be approximate on the device; the CPU path rounds to nearest
    return tl.where(inside, tl.math.div_rn(values, tl.where(heat == 0, 1.0, heat)), float("-inf"))


@triton.jit
def _random_words(ids, seed, position):
    """The first words of Philox4x32-10 with counter (position, id, 0, 0) and the two halves of the seed as key."""
    words, _, _, _ = tl.philox(seed, position.to(tl.uint32), ids, 0, 0)
    return words


@triton.jit
def _gumbel(words):
    return -tl.log(-tl.log(((words >> 9).to(tl.float32) + 0.5) * (1.0 / (1 << 23))))


@triton.jit
def _weight_from(
    rungs, floor, logits, heat, top, stride_vocab, vocab_size,
    BY_MASS: tl.constexpr, BLOCK: tl.constexpr, ID_BITS: tl.constexpr,
):  # fmt: skip
    """The weight of the tokens from each key of `rungs` [R] and from `floor` upwards: 1 or exp(scaled - top) each."""
    weight = tl.zeros((rungs.shape[0], BLOCK), tl.float32 if BY_MASS else tl.int32)
    # two stages: one block is on its way while the last is weighed; three spill at an odd row stride
    for start in tl.range(0, vocab_size, BLOCK, num_stages=2):
        # [1, BLOCK] from the load on, so that nothing changes its layout on the way to [R, BLOCK]
        ids = start + tl.arange(0, BLOCK)[None, :]
        scaled = _scaled(logits, ids, heat, stride_vocab, vocab_size)
        keys = _keys(scaled, ids, vocab_size, ID_BITS)
        each = tl.where(keys >= floor, tl.exp(scaled - top) if BY_MASS else 1, 0)
        weight += tl.where(keys >= rungs[:, None], each, 0)
    return tl.sum(weight, axis=1)


@triton.jit
def _raised(
    floor, target, logits, heat, top, stride_vocab, vocab_size,
    BY_MASS: tl.constexpr, BLOCK: tl.constexpr, RUNG_BITS: tl.constexpr, ID_BITS: tl.constexpr,
):  # fmt: skip
    """The highest key from which on the tokens not below `floor` weigh `target` or more, RUNG_BITS of it a pass."""
    PASSES: tl.constexpr = (31 + ID_BITS + RUNG_BITS) // RUNG_BITS
    cut = tl.full((), -(1 << (31 + ID_BITS)), tl.int64)
    for step in range(PASSES):
        shift = (PASSES - 1 - step) * RUNG_BITS
        rungs = cut + (tl.arange(0, 1 << RUNG_BITS).to(tl.int64) << shift)
        weight = _weight_from(rungs, floor, logits, heat, top, stride_vocab, vocab_size, BY_MASS, BLOCK, ID_BITS)
        # the lowest rung is always reached, unless the weights are NaN: then the cut sinks and `floor` stands
        cut += (tl.sum((weight >= target).to(tl.int64)) - 1) << shift
    return tl.maximum(cut, floor)


@triton.jit
def _cut_kernel(
    logits_ptr, temperature_ptr, top_k_ptr, top_p_ptr, cut_ptr,
    stride_row, stride_vocab, vocab_size,
    BLOCK: tl.constexpr, RUNG_BITS: tl.constexpr, ID_BITS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    logits = logits_ptr + row.to(tl.int64) * stride_row
    heat = tl.load(temperature_ptr + row)
    top_k = tl.load(top_k_ptr + row)
    top_p = tl.load(top_p_ptr + row)
    cut = tl.full((), _OUTSIDE + 1, tl.int64)
    if (heat != 0) & (top_k > 0) & (top_k < vocab_size):
        cut = _raised(cut, top_k, logits, heat, 0.0, stride_vocab, vocab_size, False, BLOCK, RUNG_BITS, ID_BITS)
    if (heat != 0) & (top_p < 1):
        tops = tl.full((BLOCK,), float("-inf"), tl.float32)
        for start in range(0, vocab_size, BLOCK):
            tops = tl.maximum(tops, _scaled(logits, start + tl.arange(0, BLOCK), heat, stride_vocab, vocab_size))
        top = tl.max(tops)
        lowest = tl.full((1 << RUNG_BITS,), _OUTSIDE, tl.int64)
        total = tl.max(_weight_from(lowest, cut, logits, heat, top, stride_vocab, vocab_size, True, BLOCK, ID_BITS))
        target = tl.maximum(top_p * total, _TINY)  # above 0, so that the first token always stays
        cut = _raised(cut, target, logits, heat, top, stride_vocab, vocab_size, True, BLOCK, RUNG_BITS, ID_BITS)
    tl.store(cut_ptr + row, cut)


@triton.jit
def _draw_split_kernel(
    logits_ptr, temperature_ptr, seeds_ptr, positions_ptr, cut_ptr, best_ptr, top_ptr, total_ptr,
    stride_row, stride_vocab, vocab_size, splits,
    SPLIT: tl.constexpr, ID_BITS: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    row = program // splits
    ids = program % splits * SPLIT + tl.arange(0, SPLIT)
    heat = tl.load(temperature_ptr + row)
    scaled = _scaled(logits_ptr + row.to(tl.int64) * stride_row, ids, heat, stride_vocab, vocab_size)
    scores = scaled
    if heat != 0:
        scores += _gumbel(_random_words(ids, tl.load(seeds_ptr + row), tl.load(positions_ptr + row)))
    keys = _keys(scores, ids, vocab_size, ID_BITS)
    if cut_ptr is not None:
        keys = tl.where(_keys(scaled, ids, vocab_size, ID_BITS) >= tl.load(cut_ptr + row), keys, _OUTSIDE)
    top = tl.max(scaled)
    tl.store(best_ptr + program, tl.max(keys))
    tl.store(top_ptr + program, top)
    tl.store(total_ptr + program, tl.sum(tl.exp(scaled - tl.where(top == float("-inf"), 0.0, top))))


@triton.jit
def _merge_splits_kernel(
    logits_ptr, temperature_ptr, best_ptr, top_ptr, total_ptr, tokens_ptr, logprobs_ptr,
    stride_row, stride_vocab, vocab_size, splits,
    SPLITS_PADDED: tl.constexpr, ID_BITS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    split = tl.arange(0, SPLITS_PADDED)
    inside = split < splits
    best = tl.max(tl.load(best_ptr + row * splits + split, mask=inside, other=_OUTSIDE))
    token = (1 << ID_BITS) - 1 - (best & ((1 << ID_BITS) - 1))
    tops = tl.load(top_ptr + row * splits + split, mask=inside, other=float("-inf"))
    top = tl.max(tops)
    top = tl.where(top == float("-inf"), 0.0, top)
    total = tl.sum(tl.load(total_ptr + row * splits + split, mask=inside, other=0.0) * tl.exp(tops - top))
    logits = logits_ptr + row.to(tl.int64) * stride_row
    chosen = _scaled(logits, token, tl.load(temperature_ptr + row), stride_vocab, vocab_size)
    tl.store(tokens_ptr + row, token)
    tl.store(logprobs_ptr + row, chosen - top - tl.log(total))


@on_its_device
def launch_cut(logits: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor) -> Tensor:
    """The lowest key [B] int64 that top_k [B] int64 and then top_p [B] fp32 keep in logits [B, V].

    A row that keeps everything is not read. Otherwise either cut reads it (32 + log2 V) / _RUNG_BITS times.
    """
    rows, vocab_size = logits.shape
    cut = torch.empty(rows, dtype=torch.int64, device=logits.device)
    _cut_kernel[(rows,)](
        logits, temperature.contiguous(), top_k.contiguous(), top_p.contiguous(), cut, *logits.stride(), vocab_size,
        BLOCK=_SEARCH_BLOCK, RUNG_BITS=_RUNG_BITS, ID_BITS=(vocab_size - 1).bit_length(), num_warps=16,
    )  # fmt: skip
    return cut


@on_its_device
def launch_sample_tokens(
    logits: Tensor,
    temperature: Tensor,
    seeds: Tensor,
    positions: Tensor,
    top_k: Tensor | None = None,
    top_p: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Tokens [B] int64 and logprobs [B] fp32 as sample_tokens defines them; without both top_k and top_p, no cut.

    logits [B, V] of any strides, temperature [B] fp32, seeds [B] int64, positions [B] int32 or int64, top_k [B] int64,
    top_p [B] fp32.
    """
    rows, vocab_size = logits.shape
    splits, id_bits = triton.cdiv(vocab_size, _SPLIT), (vocab_size - 1).bit_length()
    cut = None if top_k is None or top_p is None else launch_cut(logits, temperature, top_k, top_p)
    temperature = temperature.contiguous()
    best = torch.empty(rows, splits, dtype=torch.int64, device=logits.device)
    top = torch.empty(rows, splits, dtype=torch.float32, device=logits.device)
    total = torch.empty_like(top)
    _draw_split_kernel[(rows * splits,)](
        logits, temperature, seeds.contiguous(), positions.contiguous(), cut, best, top, total,
        *logits.stride(), vocab_size, splits, SPLIT=_SPLIT, ID_BITS=id_bits, num_warps=8,
    )  # fmt: skip
    tokens = torch.empty(rows, dtype=torch.int64, device=logits.device)
    logprobs = torch.empty(rows, dtype=torch.float32, device=logits.device)
    _merge_splits_kernel[(rows,)](
        logits, temperature, best, top, total, tokens, logprobs, *logits.stride(), vocab_size, splits,
        SPLITS_PADDED=triton.next_power_of_2(splits), ID_BITS=id_bits, num_warps=1,
    )  # fmt: skip
    return tokens, logprobs
