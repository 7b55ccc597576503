"""Microbenchmarks of every public op beside its alternatives, small enough to run after each change.

    python -m pytest bench                      --benchmark-compare and the other options of pytest-benchmark apply

`python -m bench.ops` is the measurement to cite; this is the one to watch.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bench import decode, head, norms_and_gates
from bench.contest import Contender
from bench.inputs import MODELS, ModelShape, trained_like
from bench.timing import Run
from corl_kernels import LogProbs, kl_estimate, linear_kl, linear_logprobs
from corl_kernels.kl import linear_kl_reference
from corl_kernels.logprobs import linear_logprobs_reference

# T tokens, B rows, L positions of context
ON_GPU = torch.cuda.is_available()
DEVICE, DTYPE = (torch.device("cuda"), torch.bfloat16) if ON_GPU else (torch.device("cpu"), torch.float32)
SHAPE = MODELS["qwen2.5-7b"] if ON_GPU else ModelShape(128, 4000, 8, 2, 64, qk_norm=True, intermediate=352)
TOKENS, ROWS, CONTEXT = (4096, 64, 4096) if ON_GPU else (256, 4, 512)
ROUNDS = 20


def _on_the_head() -> list[Contender]:
    batch = trained_like(SHAPE, TOKENS, min(TOKENS, 2048), DEVICE.type, DTYPE)
    policy, reference = (batch.hidden, batch.weight), (batch.hidden.detach() * 0.9, batch.weight.detach())
    old = batch.old_logprobs
    new = old + 0.1

    def divergence(function: Callable[..., Tensor]) -> Run:
        return lambda: function(*policy, *reference).mean().backward()

    def scores(function: Callable[..., LogProbs]) -> Run:
        return lambda: function(*policy, batch.targets).logprobs.mean().backward()

    kl, both = "linear_kl and backward", "logprobs and backward"
    return [
        *head.contenders(batch, head.ways(DEVICE)),
        Contender(both, "corl linear_logprobs, backward", scores(linear_logprobs), batch.clear),
        Contender(both, "full logits, backward", scores(linear_logprobs_reference), batch.clear),
        Contender(kl, "corl linear_kl", divergence(linear_kl), batch.clear),
        Contender(kl, "two full logits", divergence(linear_kl_reference), batch.clear),
        Contender("kl_estimate", "corl kl_estimate", lambda: kl_estimate(new, old, "k3")),
        Contender("kl_estimate", "torch expression", lambda: (old - new).exp() - (old - new) - 1),
    ]


def _entries() -> list[Contender]:
    return [
        *_on_the_head(),
        *decode.paged_attention(SHAPE, ROWS, CONTEXT, device=DEVICE, dtype=DTYPE),
        *decode.sampling_rivals(SHAPE, ROWS, SHAPE.vocab, device=DEVICE, dtype=DTYPE),
        *decode.norm_and_rotation(SHAPE, TOKENS, device=DEVICE, dtype=DTYPE),
        *decode.cache_writes(SHAPE, TOKENS, device=DEVICE, dtype=DTYPE),
        *norms_and_gates.residual_norms(SHAPE, TOKENS, device=DEVICE, dtype=DTYPE),
        *norms_and_gates.gates(SHAPE, TOKENS, device=DEVICE, dtype=DTYPE),
    ]


def _event_timer() -> Callable[[], float]:
    """A clock of the GPU, in seconds: the sum of the times between its events."""
    total, last = 0.0, None

    def timer() -> float:
        nonlocal total, last
        now = torch.cuda.Event(enable_timing=True)
        now.record()
        now.synchronize()
        total, last = total + (last.elapsed_time(now) / 1e3 if last is not None else 0.0), now
        return total

    return timer


pytestmark = [pytest.mark.benchmark(timer=_event_timer())] if ON_GPU else []


@pytest.mark.parametrize("entry", _entries(), ids=lambda entry: entry.name.replace(" ", "-"))
def test_op(benchmark, entry: Contender) -> None:
    if entry.skipped is not None:
        pytest.skip(entry.skipped)
    floors = {head.GEMMS: "policy", head.GEMM: "logprobs"}
    benchmark.group = floors.get(entry.name, entry.op)
    benchmark.pedantic(entry.run, setup=entry.prepare, rounds=ROUNDS, warmup_rounds=2)
    entry.prepare()
