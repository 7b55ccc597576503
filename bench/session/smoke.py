"""Every kernel once, at the shapes of real models, beside the same in fp64 on the same device and the same inputs.

Memory that an op asks for reads as NaN until it is written: a row that a kernel leaves out is found.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

import corl_kernels
from bench.accuracy import cross_entropy_truth, errors, policy_truth
from bench.inputs import MODELS, HeadBatch, ModelShape, trained_like
from bench.session.context import Context
from bench.session.record import Goal, at_most
from corl_kernels import PolicyObjective, norm, paged_attention, rotary, sampling
from corl_kernels.kl import linear_kl_reference
from corl_kernels.kv_store import store_kv_reference
from corl_kernels.logprobs import linear_logprobs_reference
from corl_kernels.policy_loss import linear_policy_loss_reference
from corl_kernels.swiglu import swiglu_reference

# T tokens, H hidden, V vocabulary, B rows, L positions, Hq query heads, Hkv key heads, D head dim
_PAGE = 256
# ||x - fp64|| / ||fp64||: a bf16 result is off by 2^-9 / sqrt(3) = 1.1e-3, one of two roundings by 1.6e-3
_RELATIVE = {torch.bfloat16: 4e-3, torch.float32: 1e-5}
_LOGPROB = 1e-4  # nats, the design's bound


@dataclass(frozen=True, slots=True)
class Inputs:
    """`batch`: of the head ops, more than one chunk of rows. `tokens`, `rows`, `context`: of the others."""

    shape: ModelShape
    batch: HeadBatch
    tokens: int
    rows: int
    context: int

    @property
    def dtype(self) -> torch.dtype:
        return self.batch.hidden.dtype

    def random(self, *size: int) -> Tensor:
        return torch.randn(*size, device=self.batch.hidden.device).to(self.dtype)

    def within(self, found: Tensor, wanted: Tensor) -> tuple[float, Goal]:
        """The error of a result in the inputs' dtype, and its bound."""
        return _relative(found, wanted), at_most(_RELATIVE[self.dtype])


Found = dict[str, tuple[float, Goal]]  # by what was compared


@contextmanager
def poisoned() -> Iterator[None]:
    """Memory fresh from the allocator reads as NaN, and as the largest number where it holds integers."""
    fills = torch.utils.deterministic.fill_uninitialized_memory
    torch.utils.deterministic.fill_uninitialized_memory = True
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)
        torch.utils.deterministic.fill_uninitialized_memory = fills


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


def make_inputs(shape: ModelShape, context: Context) -> Inputs:
    tokens, length = (300, 100) if context.toy else (4500, 1024)
    batch = trained_like(shape, tokens, length, context.device.type, context.dtype)
    return Inputs(shape, batch, 37, 5, 300) if context.toy else Inputs(shape, batch, 2049, 33, 1300)


def uncovered() -> list[str]:
    """Public ops of corl_kernels without a case: the functions that have a reference beside them."""
    functions = {name: getattr(corl_kernels, name) for name in corl_kernels.__all__}
    ops = {
        name
        for name, function in functions.items()
        if hasattr(sys.modules.get(getattr(function, "__module__", ""), None), f"{name}_reference")
    }
    return sorted(ops - {name.split(",")[0] for name in CASES})


def _relative(found: Tensor, wanted: Tensor) -> float:
    return float((found.double() - wanted.double()).norm() / wanted.double().norm())


def _largest(found: Tensor, wanted: Tensor) -> float:
    return float((found.double() - wanted.double()).abs().max())


def _gradient_goal(inputs: Inputs) -> Goal:
    """dlogits are rounded to bf16 and their products once more."""
    return at_most(1.5 * _RELATIVE[inputs.dtype])


def _on_the_head(inputs: Inputs, name: str) -> Found:
    """Log-probs and gradients of `name` over all rows, against fp64."""
    batch = inputs.batch
    batch.clear()
    logprobs: Tensor | None
    if name == "linear_cross_entropy":
        truth = cross_entropy_truth(batch)
        with poisoned():
            logprobs = None
            inputs_of = (batch.hidden, batch.weight, batch.targets, batch.token_weights)
            corl_kernels.linear_cross_entropy(*inputs_of).backward()
    else:
        objective = PolicyObjective("grpo", entropy_coef=0.01)
        truth = policy_truth(batch, objective)
        settings: dict = {"objective": objective, "old_logprobs": batch.old_logprobs}
        main_grad = torch.zeros_like(batch.weight, dtype=torch.float32)
        if name.endswith("grad_weight_out"):
            settings |= {"grad_weight_out": main_grad, "grad_loss_is_one": True}
        inputs_of = (batch.hidden, batch.weight, batch.targets, batch.advantages, batch.token_weights)
        with poisoned():
            result = corl_kernels.linear_policy_loss(*inputs_of, **settings)
            result.loss.backward()
        logprobs = result.logprobs
        if name.endswith("grad_weight_out"):
            batch.weight.grad = main_grad.to(batch.weight.dtype)
    found: Found = {}
    for what, error in errors(batch, truth, logprobs).items():
        if what != "logprobs_mean":
            found[what] = error, at_most(_LOGPROB) if what == "logprobs_max" else _gradient_goal(inputs)
    batch.clear()
    return found


def _sequences(inputs: Inputs) -> Found:
    """gspo over sequences that lie across two chunks of rows, on a slice that fits full logits in fp64."""
    batch = inputs.batch
    count = min(len(batch.targets), 1100)
    part = batch.take(count)
    bounds = torch.tensor([0, count // 3, count // 3 + 1, count])
    settings = {"objective": PolicyObjective("gspo"), "old_logprobs": part.old_logprobs, "cu_seqlens": bounds}
    wide_hidden, wide_weight = (x.detach().double().requires_grad_() for x in (part.hidden, part.weight))
    numbers = (part.targets, part.advantages, part.token_weights)
    linear_policy_loss_reference(wide_hidden, wide_weight, *numbers, **settings)[0].backward()
    part.clear()
    with poisoned():
        corl_kernels.linear_policy_loss(part.hidden, part.weight, *numbers, **settings).loss.backward()
    goal, found = _gradient_goal(inputs), {}
    for name, leaf, wanted in (("grad_hidden", part.hidden, wide_hidden), ("grad_weight", part.weight, wide_weight)):
        assert leaf.grad is not None and wanted.grad is not None
        found[name] = _relative(leaf.grad, wanted.grad), goal
    part.clear()
    return found


def _logprobs(inputs: Inputs) -> Found:
    batch = inputs.batch
    heat = torch.linspace(0.5, 2.0, len(batch.targets), device=batch.hidden.device)
    with poisoned(), torch.no_grad():
        settings = {"temperature": heat, "return_entropy": True}
        found = corl_kernels.linear_logprobs(batch.hidden, batch.weight, batch.targets, **settings)
    gaps = [0.0, 0.0]
    weight = batch.weight.detach().double()
    for rows in torch.arange(len(heat), device=heat.device).split(512):
        hidden = batch.hidden.detach()[rows].double()
        wanted = linear_logprobs_reference(
            hidden, weight, batch.targets[rows], temperature=heat[rows].double(), return_entropy=True
        )
        assert found.entropy is not None and wanted.entropy is not None
        pairs = ((found.logprobs[rows], wanted.logprobs), (found.entropy[rows], wanted.entropy))
        gaps = [max(gap, _largest(*pair)) for gap, pair in zip(gaps, pairs, strict=True)]
    return {"logprobs_max": (gaps[0], at_most(_LOGPROB)), "entropy_max": (gaps[1], at_most(_LOGPROB))}


def _kl(inputs: Inputs) -> Found:
    part = inputs.batch.take(min(len(inputs.batch.targets), 700))
    reference = (part.hidden.detach() * 0.9, part.weight.detach())
    wide = [x.detach().double() for x in (part.hidden, part.weight, *reference)]
    wide[0].requires_grad_()
    wanted = linear_kl_reference(*wide)
    wanted.mean().backward()
    part.clear()
    with poisoned():
        found = corl_kernels.linear_kl(part.hidden, part.weight, *reference)
        found.mean().backward()
    assert part.hidden.grad is not None and wide[0].grad is not None
    result: Found = {"": (_largest(found.detach(), wanted.detach()), at_most(_LOGPROB))}
    result |= {"grad_hidden": (_relative(part.hidden.grad, wide[0].grad), _gradient_goal(inputs))}
    part.clear()
    return result


def _kl_estimate(inputs: Inputs) -> Found:
    policy, reference = (torch.randn(inputs.tokens, device=inputs.batch.hidden.device) for _ in range(2))
    return {
        kind: (
            _relative(
                corl_kernels.kl_estimate(policy, reference, kind),
                corl_kernels.kl_estimate(policy.double(), reference.double(), kind),
            ),
            at_most(1e-5),
        )
        for kind in ("k1", "k2", "k3")
    }


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
    return {"tokens": (differing, at_most(0)), "logprobs_max": (_largest(found.logprobs, own), at_most(_LOGPROB))}


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
        found[f"grad of {name}"] = _relative(grad, want), _gradient_goal(inputs)
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
    "linear_policy_loss": lambda inputs: _on_the_head(inputs, "linear_policy_loss"),
    "linear_policy_loss, grad_weight_out": lambda inputs: _on_the_head(inputs, "grad_weight_out"),
    "linear_policy_loss, sequences": _sequences,
    "linear_cross_entropy": lambda inputs: _on_the_head(inputs, "linear_cross_entropy"),
    "linear_logprobs": _logprobs,
    "linear_kl": _kl,
    "kl_estimate": _kl_estimate,
    "paged_attention_decode": _attention,
    "sample_tokens": lambda inputs: _sampling(inputs, cut=False),
    "sample_tokens, cut": lambda inputs: _sampling(inputs, cut=True),
    "store_kv": _store,
    "qk_norm_rope": _rope,
    "rms_norm": lambda inputs: _norms(inputs, added=False),
    "add_rms_norm": lambda inputs: _norms(inputs, added=True),
    "swiglu": _swiglu,
}
