"""Every kernel once, at the shapes of real models, beside the same in fp64 on the same device and the same inputs.

Memory that an op asks for reads as NaN until it is written: a row that a kernel leaves out is found.
"""

import sys
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

import corl_kernels
from bench.inputs import MODELS
from bench.session import smoke_head
from bench.session.context import Context
from bench.session.record import at_most
from bench.session.smoke_inputs import LOGPROB, Found, Inputs, gradient_goal, largest, make_inputs, poisoned, relative
from corl_kernels import norm, paged_attention, rotary, sampling
from corl_kernels.kv_store import store_kv_reference
from corl_kernels.swiglu import swiglu_reference

# T tokens, V vocabulary, B rows, L positions, Hq query heads, Hkv key heads, D head dim
_PAGE = 256


def run(context: Context, *, models: Sequence[str] = ("qwen2.5-7b", "qwen3-32b")) -> None:
    made: dict[str, Inputs] = {}
    for part in context.parts([f"{model}: {op}" for model in (("toy",) if context.toy else models) for op in CASES]):
        model, op = part.split(": ")
        with context.trying(part):
            if model not in made:
                made = {model: make_inputs(MODELS[model], context)}
            torch.manual_seed(0)
            for what, (error, goal) in CASES[op](made[model]).items():
                context.record.claim(f"{part}{', ' if what else ''}{what}", error, must=goal)
    for name in uncovered():
        context.record.failed(name, "a public op that no case of the smoke test runs")


def uncovered() -> list[str]:
    """Public ops of corl_kernels without a case: the functions that have a reference beside them."""
    functions = {name: getattr(corl_kernels, name) for name in corl_kernels.__all__}
    ops = {
        name
        for name, function in functions.items()
        if hasattr(sys.modules.get(getattr(function, "__module__", ""), None), f"{name}_reference")
    }
    return sorted(ops - {name.split(",")[0] for name in CASES})


def _attention(inputs: Inputs) -> Found:
    """Rows of every length from none to all, over pages in any order, in a table with columns to spare."""
    shape, rows = inputs.shape, inputs.rows
    pages = -(-inputs.context // _PAGE)
    size = (rows * pages, _PAGE, shape.kv_heads, shape.head_dim)
    k_cache, v_cache, q = inputs.random(*size), inputs.random(*size), inputs.random(rows, shape.heads, shape.head_dim)
    table = torch.full((rows, pages + 3), 2**30, dtype=torch.int32, device=q.device)
    table[:, :pages] = torch.randperm(rows * pages, device=q.device).view(rows, pages)
    lengths = torch.linspace(0, inputs.context, rows, device=q.device).int()
    scale = shape.head_dim**-0.5
    table[0, :] = 0
    k_cache[table[1, pages - 1].item()] = float("nan")  # beyond the length of its row
    arguments = (table if q.is_cuda else table.clamp(max=rows * pages - 1), lengths)
    with poisoned():
        found = corl_kernels.paged_attention_decode(q, k_cache, v_cache, *arguments, scale=scale)
    wide = (x.double() for x in (q, k_cache, v_cache))
    wanted = paged_attention.paged_attention_decode_reference(*wide, *arguments, scale=scale)
    return {"": inputs.within(found, wanted), "row of length 0": (float(found[0].abs().max()), at_most(0))}


def _sampling(inputs: Inputs, cut: bool) -> Found:
    """Tokens and log-probs of a few rows against the reference, which sorts."""
    rows, vocab = 6, inputs.shape.vocab
    logits = (torch.randn(rows, vocab) * 2).to(inputs.batch.hidden.device)
    logits[::2] += torch.eye(rows, vocab, device=logits.device)[::2] * 12
    heat = [0.0, 0.7, 1.0, 1.0, 1.3, 0.9]
    top_k, top_p = ([0, 50, 1, 0, 7, 400], [1.0, 0.95, 1.0, 0.3, 0.8, 1.0]) if cut else ([0] * rows, [1.0] * rows)
    seeds, positions = [7 * row + 3 for row in range(rows)], [100 + row for row in range(rows)]
    device = logits.device
    cuts = {"top_k": torch.tensor(top_k, device=device), "top_p": torch.tensor(top_p, device=device)} if cut else {}
    keys = {"seeds": torch.tensor(seeds, device=device), "positions": torch.tensor(positions, device=device)}
    with poisoned():
        found = corl_kernels.sample_tokens(logits, temperature=torch.tensor(heat, device=device), **keys, **cuts)
    plain = [1.0 if t == 0 else t for t in heat]
    wanted = sampling.sample_tokens_reference(
        logits.cpu(), temperature=heat, seeds=seeds, positions=positions, top_k=top_k, top_p=top_p
    )
    scores = torch.log_softmax(logits.double() / torch.tensor(plain, device=device).double()[:, None], -1)
    own = scores.gather(1, found.tokens[:, None])[:, 0]
    differing = float((found.tokens.cpu() != wanted.tokens).sum())
    return {"tokens": (differing, at_most(0)), "logprobs_max": (largest(found.logprobs, own), at_most(LOGPROB))}


def _store(inputs: Inputs) -> Found:
    """Views of a projection to slots in any order, some of them skipped; what no token is written to stays."""
    shape, tokens = inputs.shape, min(inputs.tokens, 300)
    k, v = inputs.random(tokens, 2 * shape.kv_heads, shape.head_dim).chunk(2, dim=1)
    slots = torch.randperm(4 * _PAGE, device=k.device)[:tokens]
    slots[::7] = -1
    caches = [torch.full((4, _PAGE, *k.shape[1:]), -3.0, dtype=k.dtype, device=k.device) for _ in range(2)]
    wanted = [cache.clone() for cache in caches]
    corl_kernels.store_kv(k, v, *caches, slots)
    store_kv_reference(k, v, *wanted, slots)
    wrong = sum(int((a != b).sum()) for a, b in zip(caches, wanted, strict=True))
    return {"elements that differ": (float(wrong), at_most(0))}


def _with_gradients(
    inputs: Inputs,
    function: Callable[..., Sequence[Tensor]],
    reference: Callable[..., Sequence[Tensor]],
    tensors: Mapping[str, Tensor],
) -> Found:
    """Results, and the gradient of every tensor: with a bound for gradients, which are rounded once more."""
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in tensors.items()}
    wide = {name: tensor.double().requires_grad_() for name, tensor in tensors.items()}
    wanted = reference(*wide.values())
    grads = [torch.randn_like(x).to(inputs.dtype) for x in wanted]
    wanted_grads = torch.autograd.grad(wanted, list(wide.values()), [grad.double() for grad in grads])
    with poisoned():
        results = function(*leaves.values())
        found_grads = torch.autograd.grad(results, list(leaves.values()), grads)
    found = {f"result {k}": inputs.within(a, b) for k, (a, b) in enumerate(zip(results, wanted, strict=True))}
    for name, grad, want in zip(tensors, found_grads, wanted_grads, strict=True):
        found[f"grad of {name}"] = relative(grad, want), gradient_goal(inputs)
    return found


def _rope(inputs: Inputs) -> Found:
    shape, tokens = inputs.shape, min(inputs.tokens, 1000)
    angles = (torch.rand(tokens, shape.head_dim // 2, device=inputs.batch.hidden.device) * 6.28).repeat(1, 2)
    cos, sin = angles.cos().to(inputs.dtype), angles.sin().to(inputs.dtype)
    sizes = (shape.heads, shape.kv_heads)
    tensors = {name: inputs.random(tokens, n, shape.head_dim) for name, n in zip("qk", sizes, strict=True)}
    if shape.qk_norm:
        tensors |= {name: inputs.random(shape.head_dim) for name in ("q_weight", "k_weight")}

    def reference(q: Tensor, k: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        return rotary.qk_norm_rope_reference(q, k, cos.to(q.dtype), sin.to(q.dtype), *weights)

    def ours(q: Tensor, k: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        return corl_kernels.qk_norm_rope(q, k, cos, sin, *weights)

    return _with_gradients(inputs, ours, reference, tensors)


def _norms(inputs: Inputs, added: bool) -> Found:
    size = (inputs.tokens, inputs.shape.hidden)
    tensors = {"x": inputs.random(*size), "weight": inputs.random(size[1])}
    if not added:
        return _with_gradients(
            inputs,
            lambda x, weight: (corl_kernels.rms_norm(x, weight, eps=1e-6),),
            lambda x, weight: (norm.rms_norm_reference(x, weight, eps=1e-6),),
            tensors,
        )
    # multiples of 1/8 below 4, whose sums are exact: fp64 would not round them where bf16 does
    exact = [(inputs.random(*size) * 8).round().clamp(-31, 31) / 8 for _ in range(2)]
    tensors = {"x": exact[0], "residual": exact[1], "weight": tensors["weight"]}
    return _with_gradients(
        inputs,
        lambda x, residual, weight: corl_kernels.add_rms_norm(x, residual, weight, eps=1e-6),
        lambda x, residual, weight: norm.add_rms_norm_reference(x, residual, weight, eps=1e-6),
        tensors,
    )


def _swiglu(inputs: Inputs) -> Found:
    both = inputs.random(inputs.tokens, 2 * inputs.shape.intermediate)
    return _with_gradients(
        inputs, lambda x: (corl_kernels.swiglu(x),), lambda x: (swiglu_reference(x),), {"gate and up": both}
    )


CASES: dict[str, Callable[[Inputs], Found]] = {
    **smoke_head.CASES,
    "paged_attention_decode": _attention,
    "sample_tokens": lambda inputs: _sampling(inputs, cut=False),
    "sample_tokens, cut": lambda inputs: _sampling(inputs, cut=True),
    "store_kv": _store,
    "qk_norm_rope": _rope,
    "rms_norm": lambda inputs: _norms(inputs, added=False),
    "add_rms_norm": lambda inputs: _norms(inputs, added=True),
    "swiglu": _swiglu,
}
