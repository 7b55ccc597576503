"""Questions that only the device can answer: which results are the same bits, and which are not.

Claims with a goal are what the kernels promise; those without one decide how much may be promised.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from bench.inputs import MODELS, HeadBatch, ModelShape, trained_like
from bench.session.context import Context
from bench.session.record import at_most
from corl_kernels import (
    PolicyObjective,
    linear_logprobs,
    linear_policy_loss,
    paged_attention_decode,
    sample_tokens,
)
from corl_kernels.chunks import chunk_rows, gemm

# T tokens, H hidden, V vocabulary, B rows, M rows of a GEMM
_ROWS = (128, 256, 512, 1024, 2048, 4096)
_PACKS = (5000, 12300, 16384)  # numbers of tokens whose evened chunks are tried as well
_PAGE = 256


def run(context: Context) -> None:
    for model in ("toy",) if context.toy else ("qwen2.5-7b", "qwen3-32b"):
        shape = MODELS[model]
        for name in context.parts([f"{model}: GEMM", f"{model}: head", f"{model}: decode"]):
            with context.trying(name):
                torch.manual_seed(0)
                {"GEMM": gemms, "head": head, "decode": decode}[name.split(": ")[1]](context, model, shape)


def gemms(context: Context, model: str, shape: ModelShape) -> None:
    """Are the first rows of a product of M rows those of a product of more? Per GEMM, and the M where they are not."""
    most = 300 if context.toy else max(_ROWS)
    wanted = (16, 32, 128, 256) if context.toy else _ROWS
    evened = {chunk_rows(tokens, not context.toy) for tokens in _PACKS}
    rows = [count for count in sorted({*wanted, *evened}) if count < most]
    width, vocab, heads = shape.hidden, shape.vocab, (shape.heads + 2 * shape.kv_heads) * shape.head_dim
    wide = torch.float32  # of logits; the other GEMMs leave results in the inputs' dtype
    for name, inner, outer, out_dtype in (
        ("logits", width, vocab, wide), ("dX of the head", vocab, width, context.dtype),
        ("qkv", width, heads, context.dtype), ("gate and up", width, 2 * shape.intermediate, context.dtype),
        ("down", shape.intermediate, width, context.dtype),
    ):  # fmt: skip
        a = torch.randn(most, inner, device=context.device).to(context.dtype)
        # a weight has its outputs as rows; dX alone multiplies with it as it is
        size = (inner, outer) if name.startswith("dX") else (outer, inner)
        weight = (torch.randn(*size, device=context.device) * inner**-0.5).to(context.dtype)
        b = weight if name.startswith("dX") else weight.t()

        def product(count: int, a: Tensor = a, b: Tensor = b, out_dtype: torch.dtype = out_dtype) -> Tensor:
            out = torch.empty(count, b.shape[1], device=a.device, dtype=out_dtype)
            gemm(a[:count], b, out, accumulate=False)
            return out

        whole = product(most)
        differing = [count for count in rows if not torch.equal(product(count), whole[:count])]
        decoding = [count for count in (1, 8, 32, 64, 256) if not torch.equal(product(count), whole[:count])]
        claim = f"{model}: {name}, of {len(rows)} numbers of rows those whose bits differ from {most} rows'"
        context.record.claim(claim, len(differing), differing=differing, rows=rows, decode_rows_differing=decoding)
        del whole
        context.free()


def head(context: Context, model: str, shape: ModelShape) -> None:
    """One number or another of the head, made twice: by another variant, in another run, in another pack, replayed."""
    long, short = (300, 100) if context.toy else (5000, 1000)
    batch = trained_like(shape, long, short, context.device.type, context.dtype)
    objective = PolicyObjective("grpo", entropy_coef=0.01)

    def update(part: HeadBatch) -> list[Tensor]:
        part.clear()
        inputs = (part.hidden, part.weight, part.targets, part.advantages, part.token_weights)
        result = linear_policy_loss(*inputs, objective=objective, old_logprobs=part.old_logprobs)
        result.loss.backward()
        assert part.hidden.grad is not None and part.weight.grad is not None
        return [result.logprobs, result.entropy, part.hidden.grad.clone(), part.weight.grad.clone()]

    def scores(part: HeadBatch, rows: int | None = None) -> Tensor:
        with torch.no_grad():
            inputs = (part.hidden, part.weight, part.targets)
            return linear_logprobs(*inputs, return_entropy=True, chunk_rows=rows).logprobs

    first, scored = update(batch), scores(batch)
    record, must = context.record, at_most(0)
    record.claim(f"{model}: log-probs that score and update do not share", _differ(scored, first[0]), must=must)
    again = max(_differ(a, b) for a, b in zip(first, update(batch), strict=True))
    record.claim(f"{model}: numbers of an update that a second one changes", again, must=must)
    record.claim(
        f"{model}: log-probs that replaying a graph changes", _replayed(context, lambda: scores(batch)), must=must
    )
    packs = (short, long // 2)
    changed = {count: _differ(scores(batch.take(count)), scored[:count]) for count in packs}
    sizes = {count: chunk_rows(count, not context.toy) for count in (*packs, long)}
    claim = f"{model}: log-probs that a shorter pack changes, of {sum(packs)}"
    record.claim(claim, sum(changed.values()), by_pack=changed, chunk_rows=sizes)
    rows = 64 if context.toy else 1024
    fixed = scores(batch, rows)
    changed = {count: _differ(scores(batch.take(count), rows), fixed[:count]) for count in packs}
    claim = f"{model}: log-probs that a shorter pack changes with chunk_rows={rows}"
    record.claim(claim, sum(changed.values()), must=must, by_pack=changed)


def decode(context: Context, model: str, shape: ModelShape) -> None:
    """Rows of attention and draws in a batch and alone; replayed; attention under a wider table."""
    rows, length = (6, 300) if context.toy else (64, 1500)
    pages = -(-length // _PAGE)
    size = (rows * pages, _PAGE, shape.kv_heads, shape.head_dim)
    q, k_cache, v_cache = (
        torch.randn(*sizes, device=context.device).to(context.dtype)
        for sizes in ((rows, shape.heads, shape.head_dim), size, size)
    )
    table = torch.randperm(rows * pages, device=q.device).view(rows, pages).int()
    lengths = torch.linspace(1, length, rows, device=q.device).int()

    def attend(part: slice, columns: int = pages) -> Tensor:
        wide = torch.nn.functional.pad(table[part], (0, columns - pages))
        return paged_attention_decode(q[part], k_cache, v_cache, wide, lengths[part], scale=shape.head_dim**-0.5)

    logits = torch.randn(rows, shape.vocab, device=q.device) * 3
    keys = {"seeds": torch.arange(rows, device=q.device), "positions": torch.arange(rows, device=q.device) + 9}

    def draw(part: slice, **cuts: float) -> Tensor:
        own = {name: value[part] for name, value in keys.items()}
        tokens, logprobs = sample_tokens(logits[part], temperature=0.8, **own, **cuts)
        return torch.stack((tokens.double(), logprobs.double()))

    whole, record, must = slice(0, rows), context.record, at_most(0)
    attended = attend(whole)
    alone = torch.cat([attend(slice(row, row + 1)) for row in range(rows)])
    wider = attend(whole, pages + (4 if context.toy else 122))
    # torch's own attention on a CPU may sum another way for another number of rows
    claim, promised = f"{model}: elements of attention that change for a row alone", None if context.toy else must
    record.claim(claim, _differ(attended, alone), must=promised)
    record.claim(f"{model}: elements of attention that a wider table changes", _differ(attended, wider), must=promised)
    claim = f"{model}: elements of attention that replaying a graph changes"
    record.claim(claim, _replayed(context, lambda: attend(whole)), must=must)
    for name, cuts in (("draws", {}), ("cut draws", {"top_k": 50, "top_p": 0.95})):
        drawn = draw(whole, **cuts)
        lonely = torch.cat([draw(slice(row, row + 1), **cuts) for row in range(rows)], dim=1)
        record.claim(f"{model}: {name} that change for a row alone", _differ(drawn, lonely), must=must)
        replayed = _replayed(context, lambda cuts=cuts: draw(whole, **cuts))
        record.claim(f"{model}: {name} that replaying a graph changes", replayed, must=must)


def _differ(a: Tensor, b: Tensor) -> int:
    """Elements whose bits are not the same."""
    if a.is_floating_point():
        a, b = (x.contiguous().view({2: torch.int16, 4: torch.int32, 8: torch.int64}[x.element_size()]) for x in (a, b))
    return int((a != b).sum())


def _replayed(context: Context, call: Callable[[], Tensor]) -> int:
    """Elements that differ between a call and the replay of its graph; on a CPU between two calls."""
    wanted = call().clone()
    if context.toy:
        return _differ(call(), wanted)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = call()
    out.zero_()
    graph.replay()
    torch.cuda.synchronize()
    return _differ(out, wanted)
