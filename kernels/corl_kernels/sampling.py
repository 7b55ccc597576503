"""Draw one token per row with random numbers that depend on nothing but the row's seed and position."""

from typing import NamedTuple

import torch
from torch import Tensor

from corl_kernels.checks import check_tensor

# B rows, V vocabulary
_WORD = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOGIT_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
_BLOCK = 1 << 17  # entries drawn at a time on the CPU: fewer are all calls, more leave the cache (bench/LOG.md)


class Sampled(NamedTuple):
    """`tokens` [B] int64 and `logprobs` [B] fp32, in nats."""

    tokens: Tensor
    logprobs: Tensor


def random_words(seeds: Tensor, positions: Tensor, scratch: Tensor) -> Tensor:
    """The first word of Philox4x32-10 with counter (position, v, 0, 0) and the halves of the seed as key, for every v.

    seeds, positions  [B, 1] int64
    scratch           [6, B, V] int64, overwritten: fresh temporaries would cost half as much again, in page faults
    returns           [B, V], one of scratch, each word in [0, 2^32)
    Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
    """
    c0, c2, *products = scratch
    left, right = products[:2], products[2:]
    # int64 products wrap around and so keep all 64 bits; what lies above a word is cut before the next product.
    k0, k1 = seeds & _WORD, (seeds >> 32) & _WORD
    # Rounds 1 to 3: half of the words are still the same for a whole row, [B, 1].
    row_1 = (positions & _WORD) * _MULTIPLIERS[0]
    row_2 = (((row_1 >> 32) ^ k1) & _WORD) * _MULTIPLIERS[1]
    row_3 = (((row_2 >> 32) ^ (k0 + _WEYL[0])) & _WORD) * _MULTIPLIERS[0]
    torch.bitwise_xor(torch.arange(scratch.shape[2]), k0, out=c0)
    torch.mul(c0, _MULTIPLIERS[0], out=left[0])
    _mix(left[0], row_1, k1 + _WEYL[1], out=c2)
    torch.mul(c2, _MULTIPLIERS[1], out=right[1])
    _mix(right[1], row_2, k0 + 2 * _WEYL[0], out=c0)
    torch.bitwise_xor(left[0], (row_3 >> 32) ^ (k1 + 2 * _WEYL[1]), out=c2).bitwise_and_(_WORD)
    c1, c3 = right[1], row_3
    for step in range(3, 8):
        new = (step + 1) % 2  # the products of the round before are still read
        torch.mul(c0, _MULTIPLIERS[0], out=left[new])
        torch.mul(c2, _MULTIPLIERS[1], out=right[new])
        _mix(right[new], c1, k0 + step * _WEYL[0], out=c0)
        _mix(left[new], c3, k1 + step * _WEYL[1], out=c2)
        c1, c3 = right[new], left[new]
    # The first word needs half of round 9 and a quarter of round 10.
    torch.mul(c2, _MULTIPLIERS[1], out=right[1])
    _mix(c0.mul_(_MULTIPLIERS[0]), c3, k1 + 8 * _WEYL[1], out=c2)
    return _mix(c2.mul_(_MULTIPLIERS[1]), right[1], k0 + 9 * _WEYL[0], out=c0)


def _mix(product: Tensor, word: Tensor, key: Tensor, *, out: Tensor) -> Tensor:
    """The upper word of the product ^ word ^ key, cut to a word."""
    return torch.bitwise_right_shift(product, 32, out=out).bitwise_xor_(word).bitwise_xor_(key).bitwise_and_(_WORD)


def _gumbel(seeds: Tensor, positions: Tensor, scratch: Tensor, *, out: Tensor) -> Tensor:
    """Standard Gumbel noise, finite, into `out` [B, V] fp32; the other arguments are those of random_words."""
    out.copy_(random_words(seeds, positions, scratch).bitwise_right_shift_(9))
    return out.add_(0.5).mul_(2.0**-23).log_().neg_().log_().neg_()


def _per_row(name: str, value: float | Tensor, logits: Tensor, dtype: torch.dtype, rule: str, valid) -> Tensor:
    """`value` as [B]; on the CPU, and for a number, every entry must satisfy `valid`."""
    if not isinstance(value, int | float | Tensor):
        raise ValueError(f"{name} is a {type(value).__name__}; pass a number or a tensor [B]")
    fractional = value.is_floating_point() if isinstance(value, Tensor) else isinstance(value, float)
    if fractional and not dtype.is_floating_point:
        raise ValueError(f"{name} must hold integers, not {value.dtype if isinstance(value, Tensor) else value}")
    if isinstance(value, Tensor):
        if value.dim() == 0:
            value = value.expand(len(logits))
        check_tensor(name, value, (len(logits),), logits, (value.dtype,))
        if not value.is_cuda and not bool(valid(value).all()):
            raise ValueError(f"{name}={value[~valid(value)][0].item()} must be {rule}")
        return value.to(dtype)
    if not valid(torch.tensor(value)):
        raise ValueError(f"{name}={value} must be {rule}")
    return torch.full(logits.shape[:1], value, dtype=dtype, device=logits.device)


def _known(value: float | Tensor, constant: float) -> bool:
    """Whether every entry is known, without waiting for a device, to be `constant`."""
    if isinstance(value, Tensor):
        return not value.is_cuda and bool((value == constant).all())
    return value == constant


def sample_tokens(
    logits: Tensor,
    *,
    temperature: float | Tensor,
    seeds: Tensor,
    positions: Tensor,
    top_k: int | Tensor = 0,
    top_p: float | Tensor = 1.0,
) -> Sampled:
    """Draw from softmax(logits / temperature), cut to top_k and top_p, by the Gumbel-max trick.

    logits       [B, V] floating; everything is computed in fp32
    temperature  0 or more; 0 is argmax of the logits, the lowest id winning a tie
    seeds        [B] int64      positions  [B] int32 or int64, below 2^32
    top_k        keep the k largest logits, lowest id first among equals; 0 keeps all
    top_p        in (0, 1]: of what top_k keeps, renormalised, the fewest most likely tokens that reach top_p
    temperature, top_k and top_p are numbers or [B].
    returns      Sampled: tokens [B], and their logprobs [B] under the full softmax(logits / temperature), whatever
                 top_k and top_p are; at temperature 0, under softmax(logits)
    The noise of token v in a row is Gumbel(u), u = (floor(w / 2^9) + 1/2) / 2^23, w the first output word of
    Philox4x32-10 with counter (position, v, 0, 0) and key (seed mod 2^32, floor(seed / 2^32) mod 2^32). u has 24
    significant bits: fp32 holds it exactly, it is never 0 or 1, and the noise lies in (-2.82, 16.64). So a draw does
    not depend on the batch, its order or the device, but for the last bit of a logarithm.
    Raises ValueError for shapes, dtypes, devices and values out of range (tensor values: on CPU only).
    """
    check_tensor("logits", logits, (None, None), logits, _LOGIT_DTYPES)
    if logits.shape[1] == 0:
        raise ValueError("logits have no columns; a vocabulary holds at least one token")
    check_tensor("seeds", seeds, (len(logits),), logits, (torch.int64,))
    check_tensor("positions", positions, (len(logits),), logits, (torch.int32, torch.int64))
    heat = _per_row("temperature", temperature, logits, torch.float32, "0 or more", lambda x: x >= 0)
    keep_k = _per_row("top_k", top_k, logits, torch.int64, "0 (all) or more", lambda x: x >= 0)
    keep_p = _per_row("top_p", top_p, logits, torch.float32, "above 0 and at most 1", lambda x: (x > 0) & (x <= 1))
    cuts = () if _known(top_k, 0) and _known(top_p, 1) else (keep_k, keep_p)
    if logits.is_cuda:
        from corl_kernels.jit.sampling import launch_sample_tokens

        return Sampled(*launch_sample_tokens(logits, heat, seeds, positions, *cuts))
    greedy = heat == 0
    scaled = logits.to(torch.float32) / torch.where(greedy, 1, heat)[:, None]
    scores = scaled.masked_fill(~_kept(scaled, *cuts), float("-inf")) if cuts else scaled
    if _known(temperature, 0):
        tokens = scores.argmax(dim=-1)
    else:
        tokens = _race(scores, greedy[:, None], seeds[:, None], positions.to(torch.int64)[:, None])
    # log_softmax would write all of [B, V]: twice the time of the one sum that is wanted
    top = scaled.amax(dim=-1, keepdim=True)
    taken = scaled.gather(1, tokens[:, None]) - top
    return Sampled(tokens, (taken - (scaled - top).exp_().sum(dim=-1, keepdim=True).log_())[:, 0])


def _race(scores: Tensor, greedy: Tensor, seeds: Tensor, positions: Tensor) -> Tensor:
    """The token [B] with the highest score + noise of each row, without noise where `greedy` [B, 1]."""
    step = max(1, _BLOCK // scores.shape[1])
    scratch = seeds.new_empty(6, min(step, len(scores)), scores.shape[1])
    noise = torch.empty_like(scratch[0], dtype=torch.float32)
    tokens = torch.empty_like(seeds[:, 0])
    for start in range(0, len(scores), step):
        rows = slice(start, min(start + step, len(scores)))
        size = rows.stop - start
        lifted = _gumbel(seeds[rows], positions[rows], scratch[:, :size], out=noise[:size])
        tokens[rows] = lifted.masked_fill_(greedy[rows], 0).add_(scores[rows]).argmax(dim=-1)
    return tokens


def _kept(scaled: Tensor, top_k: Tensor, top_p: Tensor) -> Tensor:
    """Which tokens [B, V] top_k and then top_p leave."""
    ordered, order = scaled.sort(dim=-1, descending=True, stable=True)
    rank = torch.arange(scaled.shape[1], device=scaled.device)
    among_k = (rank < top_k[:, None]) | (top_k[:, None] == 0)
    probs = ordered.masked_fill(~among_k, float("-inf")).softmax(dim=-1)
    before = probs.cumsum(dim=-1) - probs
    # rank 0 always stays; rounding of the sum must not cut the tail of a row that wants everything
    kept = among_k & ((before < top_p[:, None]) | (rank == 0) | (top_p[:, None] >= 1))
    return torch.zeros_like(kept).scatter_(1, order, kept)


def sample_tokens_reference(
    logits: Tensor,
    *,
    temperature: list[float],
    seeds: list[int],
    positions: list[int],
    top_k: list[int],
    top_p: list[float],
) -> Sampled:
    """The same row by row, with Python integers and fp64."""
    tokens, logprobs = [], []
    for row, heat, seed, position, k, p in zip(
        logits.double(), temperature, seeds, positions, top_k, top_p, strict=True
    ):
        scaled = row / (heat or 1.0)
        order = sorted(range(len(row)), key=scaled.tolist().__getitem__, reverse=True)[: k or len(row)]
        probs, total = scaled[order].softmax(-1).tolist(), 0.0
        kept: list[int] = []
        for token, prob in zip(order, probs, strict=True):
            if kept and total >= p and p < 1:
                break
            kept.append(token)
            total += prob
        scores = {token: float(scaled[token]) for token in sorted(kept)}
        if heat:
            for token in scores:
                word = philox4x32_reference((position, token, 0, 0), (seed & _WORD, (seed >> 32) & _WORD))[0]
                uniform = ((word >> 9) + 0.5) / 2**23
                scores[token] -= float(torch.tensor(uniform, dtype=torch.float64).log().neg().log())
        tokens.append(max(scores, key=scores.__getitem__))
        logprobs.append(float(scaled.log_softmax(-1)[tokens[-1]]))
    return Sampled(torch.tensor(tokens), torch.tensor(logprobs))


def philox4x32_reference(counter: tuple[int, ...], key: tuple[int, int]) -> tuple[int, ...]:
    """Philox4x32-10 on Python integers: four random words from a counter of four and a key of two."""
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        left, right = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (right >> 32) ^ c1 ^ k0, right & _WORD, (left >> 32) ^ c3 ^ k1, left & _WORD
        k0, k1 = (k0 + _WEYL[0]) & _WORD, (k1 + _WEYL[1]) & _WORD
    return c0, c1, c2, c3
