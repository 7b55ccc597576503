"""Walks through the CUDA branches of corl and corl_kernels on fake tensors; prints one JSON line per walk.

Started by test_cuda_walk.py with the library of fake_cuda.cpp in LD_PRELOAD.
"""

import functools
import json
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from fake_cuda import Record, install, walking
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.testing._internal.distributed.fake_pg import FakeStore

import corl_kernels
from corl.config import Optim
from corl.model.attention import packed_attention
from corl.model.config import ModelConfig
from corl.model.decoder import Decoder
from corl.model.rope import RopeConfig
from corl.parallel import World, shard_decoder
from corl.rollout import memory
from corl.rollout.engine import Engine
from corl.rollout.request import Request
from corl.rollout.tensor_parallel import BUFFER_BYTES, TensorParallel
from corl.training.batch import MicroBatch, TrainSequence, micro_batch
from corl.training.trainer import Trainer
from corl_kernels import PolicyObjective
from corl_kernels.jit.swiglu import launch_swiglu

T, D, V = 5000, 256, 1003  # packed tokens, hidden, vocab
RECORD = Record()


def make_model(kind: str = "qwen3", layers: int = 2) -> Decoder:
    config = ModelConfig(
        model_type=kind, vocab_size=V, hidden_size=D, intermediate_size=512, num_layers=layers, num_heads=8,
        num_kv_heads=2, head_dim=128, max_positions=4096, rms_norm_eps=1e-6, rope=RopeConfig(1e6),
        qkv_bias=kind == "qwen2", qk_norm=kind == "qwen3", tie_word_embeddings=False, dtype=torch.bfloat16,
    )  # fmt: skip
    with torch.device("cuda"):
        return Decoder(config)


def planted() -> None:
    """One of everything that is looked for."""
    x = floats(3)
    with suppress(RuntimeError):
        x + torch.ones(3)
    with suppress(RuntimeError):
        x.nonzero()
    x.sum().item()
    torch.ones(3).to("cuda")
    torch.cuda.synchronize()
    launch_swiglu(torch.ones(2, 3), floats(2, 3))
    with torch.cuda.graph(None):
        x.tolist()
        torch.tensor([1], device="cuda")


def rollout(weights: str, exact: bool) -> dict[str, Any]:
    """Swap, generate with and without cuts, sleep, swap, wake, generate again in a cache that is too small."""
    model = make_model()
    engine = Engine(model, max_seqs=8, kv_tokens=8192, weights=weights, exact=exact)
    engine.swap_weights(model)
    requests = [Request([1, 2, 3, 4, 5], n=4, max_tokens=20, id=str(k)) for k in range(3)]
    engine.generate(requests)
    engine.generate([Request([1] * 300, n=3, max_tokens=300, top_p=0.9, top_k=5)])
    engine.sleep()
    engine.swap_weights(model)
    engine.wake()
    engine.generate(requests)
    small = Engine(model, max_seqs=8, kv_tokens=512, page_size=16)
    small.generate([Request([1, 2, 3], n=4, max_tokens=200)])
    assert small.last_stats.preemptions > 0
    return {"gemm_rows": RECORD.gemm_rows}


def sliced_rollout() -> None:
    """Tensor parallelism with all-reduces in symmetric memory and by NCCL, plain and with cuts."""
    # Objects travel as bytes, which fake tensors do not have.
    TensorParallel.smallest = lambda parallel, value: value  # type: ignore[method-assign]
    TensorParallel.assert_equal = lambda parallel, value: None  # type: ignore[method-assign]
    group = world().mesh.get_group()
    for buffer in (floats(BUFFER_BYTES // 4).view(torch.uint8), None):
        model = make_model("qwen2")
        parallel = TensorParallel(group, 0, 2, buffer)
        engine = Engine(model, max_seqs=8, kv_tokens=8192, weights="arena", tensor_parallel=parallel)
        engine.swap_weights(model)
        for cuts in ({}, {"top_k": 5, "top_p": 0.9}):
            engine.generate([Request([1, 2, 3], n=8, max_tokens=9, **cuts)])


def default_cache() -> None:
    Engine(make_model())


def decode_kernels(kind: str) -> dict[str, Any]:
    """Kernels that a step launches for each layer, and once."""
    counts = []
    for layers in (1, 2):
        RECORD.captured.clear()
        Engine(make_model(kind, layers), max_seqs=8, kv_tokens=8192).generate([Request([1, 2, 3], n=8, max_tokens=9)])
        counts.append(Counter(RECORD.captured))
    return {"layer": counts[1] - counts[0], "once": counts[0] - (counts[1] - counts[0])}


def train_kernels(kind: str, exact: bool) -> dict[str, Any]:
    """Kernels of a forward and backward with checkpointing, for each layer, and once."""
    counts = []
    for layers in (1, 2):
        model = make_model(kind, layers)
        model.set_activation_checkpointing(True)
        model.set_exact(exact)
        cu_seqlens = floats(4).int()
        ids, rows = floats(700).long(), floats(600).long()

        def head(hidden: Tensor, weight: Tensor) -> tuple:
            targets, ones = floats(600).long(), floats(600)
            hidden = hidden.index_select(0, rows)  # noqa: B023
            objective = PolicyObjective("grpo", kl_coef=0.1)
            return tuple(
                corl_kernels.linear_policy_loss(
                    hidden, weight, targets, ones, ones, objective=objective, old_logprobs=ones, ref_logprobs=ones
                )
            )

        RECORD.kernels.clear()
        model(ids, ids, packed_attention(cu_seqlens, 300, exact=exact), head)[0].backward()
        assert all(p.grad is not None and p.grad.is_cuda for p in model.parameters())
        counts.append(Counter(RECORD.kernels))
    return {"layer": counts[1] - counts[0], "once": counts[0] - (counts[1] - counts[0])}


@functools.cache
def world() -> World:
    """Two ranks of which this is the first; the collectives of the other are left out."""
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    return World(0, 2, torch.device("cuda", 0), init_device_mesh("cuda", (2,), mesh_dim_names=("data",)))


def update(weights: str) -> None:
    """Under FSDP2: swap, generate, sleep, score, update over two micro-batches, swap, wake, generate."""
    with torch.device("meta"):
        decoder = Decoder(replace(make_model().config, dtype=torch.float32))
    decoder.set_activation_checkpointing(True)
    parameters = shard_decoder(decoder, world(), compute_dtype=torch.bfloat16, reshard_after_forward=True)
    trainer = Trainer(decoder, parameters, world(), Optim(lr=1.0), 9, keep_gathered=weights == "shared")
    engine = Engine(decoder, max_seqs=8, kv_tokens=8192, weights=weights)
    requests = [Request([1, 2, 3, 4, 5], n=4, max_tokens=9)]
    batches = [micro_batch([TrainSequence(str(k), [1] * (200 + k), 9, 1.0)], world().device) for k in range(2)]

    def make_head(batch: MicroBatch) -> Any:
        def head(hidden: Tensor, weight: Tensor, grad_weight_out: Tensor | None) -> tuple:
            tokens = batch.targets, batch.advantages, batch.token_weights
            objective = PolicyObjective("grpo")
            return tuple(
                corl_kernels.linear_policy_loss(
                    hidden, weight, *tokens, objective=objective, grad_weight_out=grad_weight_out
                )
            )

        return head

    engine.swap_weights(decoder)
    engine.generate(requests)
    engine.sleep()
    for batch in batches:
        trainer.score(batch, 1.0)
    assert trainer.update(batches, make_head, 0).applied
    engine.swap_weights(decoder)
    engine.wake()
    engine.generate(requests)


def floats(*shape: int) -> Tensor:
    return torch.zeros(*shape, device="cuda")


def states(*shape: int) -> Tensor:
    return torch.zeros(*shape, device="cuda", dtype=torch.bfloat16, requires_grad=True)


def ids(*shape: int) -> Tensor:
    return torch.zeros(*shape, device="cuda", dtype=torch.int64)


def policy_losses() -> None:
    cu_seqlens = ids(3)
    everything = {"old_logprobs": floats(T), "ref_logprobs": floats(T), "rollout_logprobs": floats(T)}
    cases: list[tuple[PolicyObjective, dict[str, Any]]] = [
        (PolicyObjective("reinforce"), {}),
        (PolicyObjective("grpo", kl_coef=0.1, dual_clip=3.0, entropy_coef=0.1, rollout_correction="truncate"),
         {**everything, "temperature": floats(T)}),
        (PolicyObjective("gspo"), {"old_logprobs": floats(T), "cu_seqlens": cu_seqlens}),
        (PolicyObjective("cispo"), {"temperature": 0.7, "grad_weight_out": floats(V, D)}),
    ]  # fmt: skip
    for objective, options in cases:
        hidden, weight = states(T, D), states(V, D)
        out = corl_kernels.linear_policy_loss(
            hidden, weight, ids(T), floats(T), floats(T), objective=objective, **options
        )
        out.loss.backward()
        assert hidden.grad is not None and (weight.grad is None) == ("grad_weight_out" in options)


def backward(out: Tensor, *leaves: Tensor) -> None:
    out.sum().backward()
    assert all(leaf.grad is not None and leaf.grad.device == leaf.device for leaf in leaves)


def differentiated(function: Callable[..., Any], *leaves: Tensor) -> None:
    outputs = function(*leaves)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    backward(torch.stack([out.float().sum() for out in outputs if out is not None and out.requires_grad]), *leaves)


def logprobs() -> None:
    run = functools.partial(corl_kernels.linear_logprobs, targets=ids(T), return_entropy=True, temperature=floats(T))
    differentiated(lambda hidden, weight: tuple(run(hidden, weight)), states(T, D), states(V, D))
    with torch.no_grad():
        corl_kernels.linear_logprobs(states(T, D), states(V, D), ids(T))


def decode_attention() -> None:
    table, lens = ids(7, 3).int(), ids(7).int()
    caches = floats(9, 256, 2, 128), floats(9, 256, 2, 128)
    corl_kernels.paged_attention_decode(floats(7, 8, 128), *caches, table, lens, scale=0.1)


def samples() -> None:
    for temperature in (1.0, floats(7)):
        for cuts in ({}, {"top_k": 5, "top_p": 0.9}, {"top_k": ids(7), "top_p": floats(7)}):
            corl_kernels.sample_tokens(floats(7, V), temperature=temperature, seeds=ids(7), positions=ids(7), **cuts)


def rope() -> None:
    tables = floats(T, 128), floats(T, 128)
    q, k = states(T, 8, 128), states(T, 2, 128)
    differentiated(lambda *x: corl_kernels.qk_norm_rope(*x[:2], *tables, *x[2:]), q, k, states(128), states(128))
    differentiated(lambda *x: corl_kernels.qk_norm_rope(*x, *tables), states(T, 8, 128), states(T, 2, 128))


# every public function of corl_kernels
FUNCTIONS: dict[str, Callable[[], Any]] = {
    "add_rms_norm": lambda: differentiated(
        functools.partial(corl_kernels.add_rms_norm, eps=1e-6), states(T, D), states(T, D), states(D)
    ),
    "kl_estimate": lambda: [corl_kernels.kl_estimate(floats(T), floats(T), kind) for kind in ("k1", "k2", "k3")],
    "linear_cross_entropy": lambda: differentiated(
        lambda hidden, weight: corl_kernels.linear_cross_entropy(hidden, weight, ids(T), floats(T)),
        states(T, D), states(V, D),
    ),
    "linear_kl": lambda: differentiated(
        lambda hidden, weight: corl_kernels.linear_kl(hidden, weight, states(T, D).detach(), states(V, D).detach()),
        states(T, D), states(V, D),
    ),
    "linear_logprobs": logprobs,
    "linear_policy_loss": policy_losses,
    "paged_attention_decode": decode_attention,
    "qk_norm_rope": rope,
    "rms_norm": lambda: differentiated(functools.partial(corl_kernels.rms_norm, eps=1e-6), states(T, D), states(D)),
    "sample_tokens": samples,
    "store_kv": lambda: corl_kernels.store_kv(
        floats(7, 2, 128), floats(7, 2, 128), floats(9, 256, 2, 128), floats(9, 256, 2, 128), ids(7)
    ),
    "swiglu": lambda: differentiated(corl_kernels.swiglu, states(T, 2 * D)),
}  # fmt: skip
WALKS: dict[str, Callable[[], Any]] = {
    **{name: functools.partial(rollout, *name.split()[1:2], "exact" in name)
       for name in ("rollout shared", "rollout arena", "rollout shared exact", "rollout arena exact")},
    **{f"update {weights}": functools.partial(update, weights) for weights in ("shared", "arena")},
    "planted": planted,
    "rollout in slices": sliced_rollout,
    "default cache": default_cache,
    **{f"decode {kind}": functools.partial(decode_kernels, kind) for kind in ("qwen2", "qwen3")},
    **{f"train {kind}": functools.partial(train_kernels, kind, False) for kind in ("qwen2", "qwen3")},
    "train qwen3 exact": functools.partial(train_kernels, "qwen3", True),
    **{f"function {name}": walk for name, walk in FUNCTIONS.items()},
}  # fmt: skip


def main() -> None:
    warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")  # the arena compares its own
    install(RECORD)
    memory._kind = lambda device: functools.partial(memory.HeldMemory, device=device)  # no driver to ask
    world()  # of real numbers
    with walking(RECORD):
        for name, walk in WALKS.items():
            if len(sys.argv) > 1 and sys.argv[1] not in name:
                continue
            for counter in (RECORD.findings, RECORD.kernels, RECORD.captured):
                counter.clear()
            RECORD.gemm_rows = 0
            counts = walk()
            findings = [[*place, *found] for place, found in RECORD.findings.items()]
            print(
                json.dumps({"walk": name, "findings": findings, "kernels": counts if isinstance(counts, dict) else {}}),
                flush=True,
            )


main()
