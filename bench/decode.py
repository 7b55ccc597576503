"""What a step of generation adds to its GEMMs: attention over the paged cache, sampling, norm and rotation, the cache.

On a GPU everything that can be is timed as the replay of a CUDA graph, rivals too: kernels, not launches.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.contest import Case, Contender, Row, hold, missing
from bench.inputs import MODELS, ModelShape
from bench.norms_and_gates import gates, residual_norms
from bench.roofline import Peaks
from corl_kernels import paged_attention_decode, qk_norm_rope, sample_tokens, store_kv

# B rows, V vocabulary, L positions of context, T tokens, Hq query heads, Hkv key heads, D head dim, M pages of a row
_PAGE = 256  # the engine's; flash-attn takes multiples of 256 only
_TEMPERATURE, _TOP_K, _TOP_P = 0.8, 50, 0.95
_WIDE = 128  # pages of a table for 32,768 positions, most of them unused: what a graph for all lengths would launch
WIDE_TABLE = f"corl, a table of {_WIDE} pages"
OPS = ("paged_attention_decode", "sample_tokens", "qk_norm_rope", "store_kv", "add_rms_norm", "swiglu")


def suite(
    device: torch.device,
    peaks: Peaks,
    *,
    models: Sequence[str],
    repeats: int,
    quick: bool = False,
    ops: Sequence[str] = OPS,
    compiled: bool = True,
    batches: Sequence[int] = (),
    contexts: Sequence[int] = (),
) -> Iterator[list[Row]]:
    """One list of rows for every op, model and size; bf16 (logits fp32) on a GPU, fp32 on a CPU.

    ops                of OPS, those that are measured, with their backward where they have one
    compiled           with the contenders that torch.compile makes
    batches, contexts  numbers of rows and positions of attention; without them, those that suit the device
    """
    on_gpu = device.type == "cuda"
    dtype = torch.bfloat16 if on_gpu else torch.float32
    usual, lengths = ((1, 16, 64, 256), (512, 4096, 16384)) if on_gpu else ((1, 8), (512,))
    sampled, packed = ((64, 256), (256, 32768)) if on_gpu else ((8,), (512,))
    if quick:
        usual, lengths, sampled, packed = usual[1:2], lengths[:1], sampled[:1], packed[:1]
    batches, contexts = batches or usual, contexts or lengths
    by_tokens = {
        "qk_norm_rope": norm_and_rotation, "store_kv": cache_writes, "add_rms_norm": residual_norms,
        "swiglu": gates,
    }  # fmt: skip
    for model in models:
        shape = MODELS[model]
        if compiled:
            torch.compiler.reset()
        attention = [({"B": rows, "L": length}, paged_attention) for rows in batches for length in contexts]
        sampling = [({"B": rows, "V": shape.vocab}, sampling_rivals) for rows in sampled]
        tokens = [({"T": count}, rivals) for count in packed for op, rivals in by_tokens.items() if op in ops]
        chosen = attention * ("paged_attention_decode" in ops) + sampling * ("sample_tokens" in ops) + tokens
        for sizes, rivals in chosen:
            name = "float32" if rivals is sampling_rivals else str(dtype).removeprefix("torch.")
            entries = [
                entry
                for entry in rivals(shape, *sizes.values(), device=device, dtype=dtype)
                if compiled or "torch.compile" not in entry.name
            ]
            yield hold(Case("decode", model, name, sizes), entries, device, peaks, repeats=repeats)


def paged_attention(
    shape: ModelShape, rows: int, context: int, *, device: torch.device, dtype: torch.dtype
) -> list[Contender]:
    """One new token for each of B rows with L positions, whose pages lie anywhere in the cache."""
    pages = -(-context // _PAGE)
    q, k_cache, v_cache = (
        torch.randn(*size, device=device, dtype=dtype)
        for size in (
            (rows, shape.heads, shape.head_dim),
            *2 * ((rows * pages, _PAGE, shape.kv_heads, shape.head_dim),),
        )
    )
    table = torch.randperm(rows * pages, device=device).view(rows, pages).int()
    lengths = torch.full((rows,), context, dtype=torch.int32, device=device)
    scale = shape.head_dim**-0.5
    # The query heads of one key head are query rows of one small attention: the best form for dense attention.
    queries = q.view(rows, shape.kv_heads, -1, shape.head_dim)

    def gathered() -> list[Tensor]:
        return [cache[table.long()].flatten(1, 2)[:, :context].transpose(1, 2) for cache in (k_cache, v_cache)]

    dense = gathered()
    work = {
        "flops": 4.0 * rows * context * shape.heads * shape.head_dim,
        "traffic": float(2 * rows * context * shape.kv_heads * shape.head_dim * q.element_size() + 2 * q.nbytes),
        "graph": True,
    }

    wide = F.pad(table, (0, max(0, _WIDE - pages)))

    def ours(pages_of: Tensor = table) -> Tensor:
        return paged_attention_decode(q, k_cache, v_cache, pages_of, lengths, scale=scale)

    def flash() -> Any:
        from flash_attn import flash_attn_with_kvcache

        return flash_attn_with_kvcache(
            q[:, None], k_cache, v_cache, cache_seqlens=lengths, block_table=table, softmax_scale=scale, causal=True
        )

    def sdpa() -> Tensor:
        return F.scaled_dot_product_attention(queries, *dense, scale=scale)

    def gather_sdpa() -> Tensor:
        return F.scaled_dot_product_attention(queries, *gathered(), scale=scale)

    no_flash = missing("flash_attn") or (None if device.type == "cuda" else "it needs a GPU")
    op = "paged_attention_decode"
    return [
        Contender(op, "corl paged_attention_decode", ours, **work),
        Contender(op, WIDE_TABLE, lambda: ours(wide), **work),
        Contender(op, "flash-attn with_kvcache", flash, peer=True, skipped=no_flash, **work),
        Contender(op, "torch SDPA, keys gathered before", sdpa, peer=True, **work),
        Contender(op, "torch gather and SDPA", gather_sdpa, peer=True, **work),
    ]


def sampling_rivals(
    shape: ModelShape, rows: int, vocab: int, *, device: torch.device, dtype: torch.dtype
) -> list[Contender]:
    """A token and its log-probability for each row of fp32 logits: plainly, cut to top-k and top-p, flat rows cut."""
    logits = torch.randn(rows, vocab, device=device) * 2
    flat = logits.clone()  # rows where nearly every token could be the border of top-p
    # from rows that are all but flat to rows that are all but decided
    logits.scatter_(1, torch.randint(vocab, (rows, 1), device=device), torch.rand(rows, 1, device=device) * 16)
    seeds, positions = torch.arange(rows, device=device), torch.full((rows,), 100, device=device)
    state = {"seeds": seeds, "positions": positions}
    per_row = {
        "temperature": torch.full((rows,), _TEMPERATURE, device=device),
        "top_k": torch.zeros(rows, dtype=torch.int64, device=device),
        "top_p": torch.ones(rows, device=device),
    }
    work = {"traffic": float(logits.nbytes)}

    def plain(draw: Callable[[Tensor], Tensor]) -> Callable[[], tuple[Tensor, Tensor]]:
        def run() -> tuple[Tensor, Tensor]:
            logprobs = torch.log_softmax(logits / _TEMPERATURE, dim=-1)
            tokens = draw(logprobs.exp())
            return tokens, logprobs.gather(1, tokens)

        return run

    def multinomial(probs: Tensor) -> Tensor:
        return torch.multinomial(probs, 1)

    def exponential_race(probs: Tensor) -> Tensor:
        return (probs / torch.empty_like(probs).exponential_()).argmax(-1, keepdim=True)

    def sorted_cut(logits: Tensor, top_k: int) -> Callable[[], tuple[Tensor, Tensor]]:
        def run() -> tuple[Tensor, Tensor]:
            logprobs = torch.log_softmax(logits / _TEMPERATURE, dim=-1)
            ordered, order = logprobs.sort(dim=-1, descending=True)
            ordered[:, top_k:] = float("-inf")
            probs = ordered.softmax(-1)
            probs.masked_fill_(probs.cumsum(-1) - probs >= _TOP_P, 0)
            rank = exponential_race(probs)
            tokens = order.gather(1, rank)
            return tokens, logprobs.gather(1, tokens)

        return run

    def ours(logits: Tensor = logits, **settings: Any) -> Callable[[], object]:
        return lambda: sample_tokens(logits, **state, **settings)

    plainly, cut, hard = "sample_tokens", "sample_tokens, top-k, top-p", "sample_tokens, top-p of flat rows"
    both = {"temperature": _TEMPERATURE, "top_k": _TOP_K, "top_p": _TOP_P}
    only_p = {"temperature": _TEMPERATURE, "top_p": _TOP_P}
    return [
        Contender(plainly, "corl sample_tokens", ours(temperature=_TEMPERATURE), graph=True, **work),
        Contender(plainly, "corl, settings per row", ours(**per_row), graph=True, **work),
        # multinomial reads a flag back from the device, which a graph cannot hold; the race is its own arithmetic
        Contender(plainly, "torch softmax, multinomial", plain(multinomial), peer=True, **work),
        Contender(plainly, "torch softmax, exponential race", plain(exponential_race), peer=True, graph=True, **work),
        Contender(cut, "corl sample_tokens, cut", ours(**both), graph=True, **work),
        Contender(cut, "torch sort, race", sorted_cut(logits, _TOP_K), peer=True, graph=True, **work),
        Contender(hard, "corl sample_tokens, flat rows cut", ours(flat, **only_p), graph=True, **work),
        Contender(hard, "torch sort, race, flat rows", sorted_cut(flat, vocab), peer=True, graph=True, **work),
    ]


def eager_norm_and_rotation(
    q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, q_weight: Tensor | None, k_weight: Tensor | None
) -> tuple[Tensor, Tensor]:
    """As a model without the kernel writes it; torch's own rms_norm."""

    def turned(x: Tensor, weight: Tensor | None) -> Tensor:
        if weight is not None:
            x = F.rms_norm(x, x.shape[-1:], weight, 1e-6)
        first, second = x.chunk(2, dim=-1)
        return x * cos[:, None] + torch.cat((-second, first), dim=-1) * sin[:, None]

    return turned(q, q_weight), turned(k, k_weight)


def norm_and_rotation(shape: ModelShape, tokens: int, *, device: torch.device, dtype: torch.dtype) -> list[Contender]:
    """Forward, and forward with backward, on views of one projection; the weights only where the model has them."""
    head_dim, sizes = shape.head_dim, [shape.heads, shape.kv_heads, shape.kv_heads]
    projected = torch.randn(tokens, sum(sizes), head_dim, device=device, dtype=dtype, requires_grad=True)
    q, k, _ = projected.split(sizes, dim=1)
    angles = torch.rand(tokens, head_dim // 2, device=device).mul(6.28).repeat(1, 2)
    cos, sin = angles.cos().to(dtype), angles.sin().to(dtype)
    weights = [torch.rand(head_dim, device=device, dtype=dtype, requires_grad=True) for _ in range(2)]
    q_weight, k_weight = weights if shape.qk_norm else (None, None)
    grads = [torch.randn_like(x) for x in (q, k)]
    rows = float(q.nbytes + k.nbytes)
    forward = {"traffic": 2 * rows + 2 * cos.nbytes, "graph": True}
    # the backward reads the gradients, writes others, and with a norm reads q and k again
    both = {"traffic": (5 if shape.qk_norm else 4) * rows + 4 * cos.nbytes}
    wanted = [q, k, *(weights if shape.qk_norm else [])]

    def scored(function: Callable[..., tuple[Tensor, Tensor]]) -> Callable[[], object]:
        def run() -> object:
            with torch.no_grad():
                return function(q, k, cos, sin, q_weight, k_weight)

        return run

    def trained(function: Callable[..., tuple[Tensor, Tensor]]) -> Callable[[], object]:
        def run() -> object:
            return torch.autograd.grad(function(q, k, cos, sin, q_weight, k_weight), wanted, grads)

        return run

    op, training = "qk_norm_rope", "qk_norm_rope and backward"
    entries = [
        Contender(op, "corl qk_norm_rope", scored(qk_norm_rope), **forward),
        Contender(op, "torch eager", scored(eager_norm_and_rotation), peer=True, **forward),
        Contender(training, "corl qk_norm_rope, backward", trained(qk_norm_rope), **both),
        Contender(training, "torch eager, backward", trained(eager_norm_and_rotation), peer=True, **both),
    ]
    if device.type == "cuda":
        compiled = torch.compile(eager_norm_and_rotation, dynamic=False)
        entries += [
            Contender(op, "torch.compile", scored(compiled), peer=True, **forward),
            Contender(training, "torch.compile, backward", trained(compiled), peer=True, **both),
        ]
    return entries


def cache_writes(shape: ModelShape, tokens: int, *, device: torch.device, dtype: torch.dtype) -> list[Contender]:
    """Keys and values of T tokens, views of one projection, to slots anywhere in the cache."""
    sizes = [shape.heads, shape.kv_heads, shape.kv_heads]
    _, k, v = torch.randn(tokens, sum(sizes), shape.head_dim, device=device, dtype=dtype).split(sizes, dim=1)
    pages = 2 * -(-tokens // _PAGE)
    k_cache, v_cache = torch.zeros(2, pages, _PAGE, *k.shape[1:], device=device, dtype=dtype)
    slots = torch.randperm(pages * _PAGE, device=device)[:tokens]
    inputs = (k, v, k_cache, v_cache, slots)
    work = {"traffic": float(2 * (k.nbytes + v.nbytes) + slots.nbytes), "graph": True}
    entries = [
        Contender("store_kv", "corl store_kv", lambda: store_kv(*inputs), **work),
        Contender("store_kv", "torch index_copy_", lambda: eager_store(*inputs), peer=True, **work),
    ]
    if device.type == "cuda":
        compiled = torch.compile(eager_store, dynamic=False)
        entries.append(Contender("store_kv", "torch.compile", lambda: compiled(*inputs), peer=True, **work))
    return entries


def eager_store(k: Tensor, v: Tensor, k_cache: Tensor, v_cache: Tensor, slots: Tensor) -> None:
    for cache, rows in ((k_cache, k), (v_cache, v)):
        cache.flatten(0, 1).index_copy_(0, slots, rows)
