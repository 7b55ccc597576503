"""Compile every kernel for Hopper on a machine without a GPU: `python -m corl_kernels.aot`.

A case calls launchers on meta tensors at the shapes of a real model; hopper.py compiles what they launch. A variant
that models share is listed once. Exit code 0: all is well; 1: findings, one line each; 2: the call is wrong.
"""

import argparse
import importlib
import json
import os
import pkgutil
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
import triton
from torch import Tensor
from triton.runtime.jit import KernelInterface

from corl_kernels.hopper import Finding, Limit, Row, compile_launches, defined_in

# Kernels that write into the row they read, in a narrower dtype: what one thread stores lies where another one loads.
IN_PLACE = frozenset({"_gradient_rows_kernel", "_divergence_gradient_rows_kernel"})
# What the rows of logits may cost, by kernel and case: with it both passes are bound by memory on a full multiprocessor
# (bench/LOG.md, 2026-12-01). Little's law wants 26,000 bytes in flight at 4.3 TB/s.
LIMITS = {
    ("_statistics_rows_kernel", "policy rows"): Limit(registers=40, blocks=6, per_value=8.5, in_flight=64_000),
    ("_gradient_rows_kernel", "policy rows"): Limit(registers=40, blocks=6, per_value=7.5, in_flight=64_000),
    ("_divergence_rows_kernel", "kl rows"): Limit(registers=64, blocks=8, per_value=9, in_flight=64_000),
    ("_divergence_gradient_rows_kernel", "kl rows"): Limit(registers=40, blocks=12, per_value=7.5, in_flight=64_000),
    # these have no loop but the norm's backward: a thread holds its part of a row, or of a block
    ("_rms_norm_fwd_kernel", "norm of rows"): Limit(registers=32, blocks=2, per_value=0, in_flight=0),
    ("_rms_norm_bwd_kernel", "norm of rows"): Limit(registers=64, blocks=1, per_value=24, in_flight=26_000),
    ("_swiglu_fwd_kernel", "swiglu"): Limit(registers=40, blocks=12, per_value=0, in_flight=0),
    ("_swiglu_bwd_kernel", "swiglu"): Limit(registers=40, blocks=12, per_value=0, in_flight=0),
}
# These stand for numbers that vary from call to call: no compiled kernel may depend on them.
TOKENS, ROWS = 5000, 200


@dataclass(frozen=True, slots=True)
class Model:
    """The sizes that decide what is compiled."""

    name: str
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    qk_norm: bool  # RMSNorm of every head of q and k before the rotation


MODELS = (
    Model(
        "qwen2.5-7b", hidden=3584, intermediate=18_944, heads=28, kv_heads=4, head_dim=128, vocab=152_064, qk_norm=False
    ),
    Model(
        "qwen3-32b", hidden=5120, intermediate=25_600, heads=64, kv_heads=8, head_dim=128, vocab=151_936, qk_norm=True
    ),
)


def _meta(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def _floats(*shape: int) -> Tensor:
    return _meta(*shape, dtype=torch.float32)


def _ids(*shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
    return _meta(*shape, dtype=dtype)


def _policy_rows(model: Model, bias: bool = False, softcap: float | None = None) -> None:
    from corl_kernels.jit.policy_rows import gradient, policy_gradient, statistics
    from corl_kernels.objective import PolicyObjective, TokenInputs
    from corl_kernels.rows import make_tokens

    run, bf16 = (0, TOKENS), torch.bfloat16
    per_vocab = _floats(model.vocab) if bias else None
    tokens = make_tokens(_ids(TOKENS), _floats(TOKENS), per_vocab, softcap, torch.float32)
    logits = _floats(TOKENS, model.vocab)
    statistics(logits, tokens, *run)
    gradient(logits, tokens, *run, _floats(TOKENS), None, bf16)
    gradient(logits, tokens, *run, _floats(TOKENS), _floats(TOKENS), bf16)
    on_policy = TokenInputs(_floats(TOKENS), _floats(TOKENS), None, None, None)
    full = TokenInputs(*(_floats(TOKENS) for _ in range(5)))
    policy_gradient(logits, tokens, *run, on_policy, PolicyObjective("reinforce"), bf16)
    if bias or softcap:
        return
    # every choice of an objective in at least one variant
    objectives = (
        PolicyObjective(kl_coef=1e-3, kl_estimator="k1", rollout_correction="mask"),
        PolicyObjective("grpo", kl_coef=1e-3, kl_estimator="k2", entropy_coef=0.1),
        PolicyObjective("grpo", kl_coef=1e-3, kl_estimator="k3", dual_clip=3.0),
        PolicyObjective("cispo", rollout_correction="truncate"),
    )
    for objective in objectives:
        policy_gradient(logits, tokens, *run, full, objective, bf16)


def _bounded_rows(model: Model) -> None:
    _policy_rows(model, bias=True, softcap=30.0)


def _kl_rows(model: Model) -> None:
    from corl_kernels.jit.kl_rows import divergence, gradient
    from corl_kernels.kl_rows import make_divergence

    logits, ref_logits = _floats(TOKENS, model.vocab), _floats(TOKENS, model.vocab)
    for heat in (None, _floats(TOKENS)):
        tokens = make_divergence(heat, TOKENS, logits)
        divergence(logits, ref_logits, tokens, 0, TOKENS)
        gradient(logits, ref_logits, tokens, 0, TOKENS, _floats(TOKENS), torch.bfloat16)


def _decode_attention(model: Model) -> None:
    from corl_kernels.jit.decode_attention import launch_decode_attention

    q, cache = _meta(ROWS, model.heads, model.head_dim), _meta(1000, 256, model.kv_heads, model.head_dim)
    table, lens = _ids(ROWS, 60, dtype=torch.int32), _ids(ROWS, dtype=torch.int32)
    launch_decode_attention(q, cache, cache, table, lens, scale=model.head_dim**-0.5)


def _store_kv(model: Model) -> None:
    from corl_kernels.jit.kv_store import launch_store_kv

    new, cache = _meta(TOKENS, model.kv_heads, model.head_dim), _meta(1000, 256, model.kv_heads, model.head_dim)
    launch_store_kv(new, new, cache, cache, _ids(TOKENS))


def _sampling(model: Model) -> None:
    from corl_kernels.jit import cuts, sampling
    from corl_kernels.sampling import Ranks, draw_tokens, vocabulary_slice

    keys = _floats(ROWS), _ids(ROWS), _ids(ROWS)
    limits = _ids(ROWS), _floats(ROWS)
    for logits in (_meta(ROWS, model.vocab), _floats(ROWS, model.vocab)):
        draw_tokens(sampling, cuts, logits, *keys)
        draw_tokens(sampling, cuts, logits, *keys, *limits)
        draw_tokens(sampling, cuts, logits, *keys, top_p=limits[1])
    quarter = Ranks(model.vocab, 1, 4, lambda x: x.new_empty(4, *x.shape))
    logits = _floats(ROWS, vocabulary_slice(model.vocab, 1, 4)[1])
    draw_tokens(sampling, cuts, logits, *keys, *limits, ranks=quarter)


def _qk_norm_rope(model: Model) -> None:
    from corl_kernels.jit.rotary import launch_qk_norm_rope, launch_qk_norm_rope_backward

    q, k = (_meta(TOKENS, heads, model.head_dim) for heads in (model.heads, model.kv_heads))
    cos, sin = _meta(TOKENS, model.head_dim), _meta(TOKENS, model.head_dim)
    weight = _meta(model.head_dim) if model.qk_norm else None
    tables = cos, sin, weight, weight, 1e-6
    launch_qk_norm_rope(q, k, *tables)
    if model.qk_norm:
        launch_qk_norm_rope_backward(q, k, q, k, *tables, weight_grads=True)
        launch_qk_norm_rope_backward(q, k, q, k, *tables, weight_grads=False)
    else:
        launch_qk_norm_rope_backward(q, k, None, None, *tables, weight_grads=False)


def _norm(model: Model) -> None:
    from corl_kernels.jit.norm import launch_rms_norm, launch_rms_norm_backward

    x, weight = _meta(TOKENS, model.hidden), _meta(model.hidden)
    for residual in (None, x):
        launch_rms_norm(x, residual, weight, 1e-6)
        launch_rms_norm_backward(x, residual, x, weight, 1e-6, weight_grad=True)
    launch_rms_norm_backward(x, x, x, weight, 1e-6, weight_grad=False)


def _swiglu(model: Model) -> None:
    from corl_kernels.jit.swiglu import launch_swiglu, launch_swiglu_backward

    gate, up = _meta(TOKENS, 2 * model.intermediate).chunk(2, dim=1)
    launch_swiglu(gate, up)
    launch_swiglu_backward(_meta(TOKENS, model.intermediate), gate, up)


Case = Callable[[Model], object]
CASES: dict[str, Case] = {
    "policy rows": _policy_rows,
    "policy rows, bias and soft cap": _bounded_rows,
    "kl rows": _kl_rows,
    "decode attention": _decode_attention,
    "store kv": _store_kv,
    "sampling": _sampling,
    "qk norm and rope": _qk_norm_rope,
    "norm of rows": _norm,
    "swiglu": _swiglu,
}

_LINE = (
    "{kernel:<46} {case:<42} {warps:>5} {registers:>9} {stack:>5} {shared:>6} {blocks:>6} {per_value:>9} "
    "{in_flight:>9} {wgmma:>5} {tma:>3} {cp_async:>8} {barriers:>8} {seconds:>7}"
)
_HEAD = _LINE.format(**{name: name for name in re.findall(r"{(\w+)", _LINE)})


def jit_functions(package: str) -> dict[str, KernelInterface]:
    """Every @triton.jit function that a module of the package defines, by full name."""
    modules = pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}.")
    return {name: jit for info in modules for name, jit in defined_in(importlib.import_module(info.name)).items()}


def main(
    argv: Sequence[str] | None = None, *, cases: dict[str, Case] = CASES, package: str = "corl_kernels.jit"
) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m corl_kernels.aot", description="Compile every kernel for sm_90.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows there")
    parser.add_argument("--only", metavar="TEXT", default="", help="only the cases whose name contains this")
    parser.add_argument("--keep-cache", action="store_true", help="use triton's cache instead of an empty one")
    parser.add_argument("--limit-s", type=float, default=120.0, help="seconds a kernel may take (default 120)")
    parser.add_argument("--jobs", type=int, default=min(os.cpu_count() or 1, 8), help="processes at a time")
    options = parser.parse_args(argv)
    if triton.knobs.runtime.interpret:
        print("error: TRITON_INTERPRET is set, so kernels would be interpreted; unset it", file=sys.stderr)
        return 2
    names = set(jit_functions(package))
    chosen = {name: build for name, build in cases.items() if options.only in name}
    jobs = [{f"{name}/{model.name}": partial(build, model) for model in MODELS} for name, build in chosen.items()]
    rows: list[Row] = []
    findings: list[str] = []
    print(_HEAD)
    with tempfile.TemporaryDirectory() as empty:
        for result in compile_launches(
            jobs,
            functions=names,
            in_place=IN_PLACE,
            limit_s=options.limit_s,
            workers=max(options.jobs, 1),
            cache="" if options.keep_cache else empty,
        ):
            if isinstance(result, Finding):
                findings.append(result.text)
            else:
                rows.append(result)
                kernel = result.kernel.removeprefix(f"{package}.")
                print(_LINE.format(**asdict(result) | {"kernel": kernel}), flush=True)
                limit = LIMITS.get((kernel.rpartition(".")[2], result.case.partition("/")[0]))
                findings += [f"{kernel} ({result.case}): {what}" for what in (limit.broken(result) if limit else ())]
    compiled = {name for row in rows for name in (row.kernel, *row.calls)}
    if not options.only:
        findings += [f"{name}: no case compiled it; add its launcher to CASES" for name in sorted(names - compiled)]
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    print("\n".join([f"{len(rows)} variants, {len(compiled)} functions, {len(findings)} findings", *findings]))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
