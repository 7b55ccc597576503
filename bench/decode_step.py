"""A decode step of the engine, of a model made of random weights on the device: no checkpoint, nothing on the disk.

    python -m bench.decode_step [--model qwen2.5-7b] [--batches 32 64 128 256]

Prints milliseconds a step, tokens a second and the share of the step's floor (per operation the larger of FLOPs and
bytes), then what one step launches and where its time is. On a CPU a toy model, whose numbers mean nothing.
"""

import argparse
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import median
from unittest import mock

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from bench.inputs import MODELS, ModelShape
from bench.roofline import Peaks, peaks_of
from bench.step_work import decode_step, floor_ms
from corl.model.config import ModelConfig
from corl.model.decoder import Decoder
from corl.model.rope import RopeConfig
from corl.rollout.engine import Engine
from corl.rollout.graphs import EagerSteps
from corl.rollout.request import Completion, Request

GROUP = 8  # samples of a prompt
_KINDS = (
    ("GEMM", r"gemm|nvjet|cutlass|xmma|gemv|mm$|addmm|linear"),
    ("attention", r"decode_split|merge_splits|attention|flash"),
    ("sampling", r"draw|kept|block_statistics|(start|count|narrow)_kernel"),
    ("norm, gate, rotation, cache", r"norm|swiglu|rope|rotary|store"),
    ("copies", r"mem(cpy|set)|copy|fill|index|gather"),
)


@dataclass(frozen=True, slots=True)
class StepTime:
    """Of decoding `rows` samples: ms a step, what it takes at least, both at `context` positions on average."""

    rows: int
    context: float
    ms: float
    floor_ms: float

    @property
    def tokens_per_s(self) -> float:
        return self.rows / self.ms * 1e3

    @property
    def floor_share(self) -> float:
        return self.floor_ms / self.ms


@dataclass(frozen=True, slots=True)
class Launches:
    """What one step launches: how often each kernel, and ms a step of each; on a CPU the operators of torch."""

    counts: dict[str, float]
    ms: dict[str, float]

    @property
    def total(self) -> float:
        return sum(self.counts.values())

    def by_kind(self) -> dict[str, float]:
        """ms a step of GEMMs, attention and so on."""
        found: Counter[str] = Counter()
        for name, milliseconds in self.ms.items():
            kind = next((kind for kind, pattern in _KINDS if re.search(pattern, name, re.IGNORECASE)), "other")
            found[kind] += milliseconds
        return dict(found.most_common())


def model_config(shape: ModelShape, dtype: torch.dtype, *, layers: int | None = None) -> ModelConfig:
    """A decoder of these sizes; Qwen3's where it norms the heads of q and k, else Qwen2's."""
    return ModelConfig(
        model_type="qwen3" if shape.qk_norm else "qwen2",
        vocab_size=shape.vocab,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_layers=shape.layers if layers is None else layers,
        num_heads=shape.heads,
        num_kv_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        max_positions=32768,
        rms_norm_eps=1e-6,
        rope=RopeConfig(1e6),
        qkv_bias=not shape.qk_norm,
        qk_norm=shape.qk_norm,
        tie_word_embeddings=False,
        dtype=dtype,
    )


def random_decoder(config: ModelConfig, device: torch.device) -> Decoder:
    with device:
        model = Decoder(config)
    model.init_weights(torch.Generator(device).manual_seed(0))
    return model.requires_grad_(False)


def requests(vocab: int, rows: int, prompt: int, drawn: int) -> list[Request]:
    """Groups of GROUP samples, or one smaller one, of random prompts."""
    generator = torch.Generator().manual_seed(rows)
    group = min(GROUP, rows)
    prompts = torch.randint(vocab, (rows // group, prompt), generator=generator).tolist()
    return [Request(ids, n=group, max_tokens=drawn) for ids in prompts]


def engine_for(model: Decoder, rows: int, prompt: int, drawn: int, page_size: int) -> Engine:
    """An engine that prefills all prompts at once and holds every sample."""
    pages = -(-(prompt + drawn) // page_size)
    fitting = max(16384, -(-rows // GROUP) * prompt)
    sizes = {"max_seqs": rows, "kv_tokens": rows * pages * page_size, "page_size": page_size}
    return Engine(model, prefill_tokens=fitting, **sizes)


@contextmanager
def eager_steps() -> Iterator[None]:
    """Engines whose first generate is called in here decode without CUDA graphs."""
    with mock.patch("corl.rollout.runner.make_steps", lambda body, *_: EagerSteps(body)):
        yield


def time_steps(
    engine: Engine, peaks: Peaks, *, rows: int, prompt: int, drawn: int, repeats: int
) -> tuple[StepTime, list[Completion]]:
    """The median of `repeats` runs after a warm-up, which captures the graphs; and what the last run drew."""
    asked = requests(engine.model.config.vocab_size, rows, prompt, drawn)
    found, times = engine.generate(asked), []
    for _ in range(repeats):
        found = engine.generate(asked)
        stats = engine.last_stats
        assert stats.preemptions == 0 and stats.prefill_tokens == sum(len(request.prompt_ids) for request in asked)
        times.append((stats.seconds - stats.first_token_s) / stats.decode_steps * 1e3)
    context = prompt + drawn / 2  # the steps forward tokens prompt .. prompt + drawn - 2, each with itself
    work = decode_step(engine.model.config, rows, context)
    return StepTime(rows, context, median(times), floor_ms(work, peaks)), found


def launches(engine: Engine, *, rows: int, prompt: int, steps: int) -> Launches:
    """Of one step: what the profiler counts in a run of 2 x `steps` steps more than in one of `steps`, over `steps`."""
    vocab, on_gpu = engine.model.config.vocab_size, engine.model.head_weight.is_cuda
    totals = []
    for drawn in (1 + steps, 1 + 2 * steps):
        asked = requests(vocab, rows, prompt, drawn)
        engine.generate(asked)
        with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU], acc_events=True) as prof:
            engine.generate(asked)
        counts, spent = Counter[str](), Counter[str]()
        for event in prof.events() or []:
            if on_gpu and event.device_type == DeviceType.CUDA:
                counts[event.name] += 1
                spent[event.name] += event.device_time_total
            elif not on_gpu and event.name.startswith("aten::"):
                counts[event.name] += not event.cpu_children
                spent[event.name] += event.self_cpu_time_total
        totals.append((counts, spent))
    (fewer, less), (more, longer) = totals
    return Launches(
        {name: (more[name] - fewer[name]) / steps for name in more if more[name] > fewer[name]},
        {name: (longer[name] - less[name]) / steps / 1e3 for name in longer if longer[name] > less[name]},
    )


def launches_a_layer(
    config: ModelConfig, device: torch.device, *, rows: int, prompt: int, page_size: int, steps: int
) -> float:
    """What a step of two layers launches more than a step of one."""
    found = []
    for layers in (1, 2):
        model = random_decoder(replace(config, num_layers=layers), device)
        engine = engine_for(model, rows, prompt, 1 + 2 * steps, page_size)
        found.append(launches(engine, rows=rows, prompt=prompt, steps=steps).total)
    return found[1] - found[0]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.decode_step", description=__doc__.splitlines()[0])
    on_gpu = torch.cuda.is_available()
    parser.add_argument("--model", choices=tuple(MODELS), default="qwen2.5-7b" if on_gpu else "toy")
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 64, 128, 256] if on_gpu else [8, 16])
    parser.add_argument("--prompt", type=int, default=512 if on_gpu else 32, help="tokens")
    parser.add_argument("--drawn", type=int, default=129 if on_gpu else 9, help="tokens of every sample")
    options = parser.parse_args(arguments)
    if min(options.batches) < 1 or any(rows > GROUP and rows % GROUP for rows in options.batches):
        parser.error(f"--batches {options.batches} must be below {GROUP} or its multiples")
    device = torch.device("cuda" if on_gpu else "cpu")
    config = model_config(MODELS[options.model], torch.bfloat16 if on_gpu else torch.float32)
    peaks, page_size = peaks_of(device), 256 if on_gpu else 16
    engine = engine_for(random_decoder(config, device), max(options.batches), options.prompt, options.drawn, page_size)
    for rows in options.batches:
        found, _ = time_steps(engine, peaks, rows=rows, prompt=options.prompt, drawn=options.drawn, repeats=3)
        print(
            f"batch {rows:4}, {found.context:.0f} positions: {found.ms:.3f} ms a step, "
            f"{found.tokens_per_s:.0f} tokens/s, {found.floor_share:.0%} of its floor of {found.floor_ms:.3f} ms",
            flush=True,
        )
    step = launches(engine, rows=max(options.batches), prompt=options.prompt, steps=8)
    print(f"{step.total:.0f} launches a step; ms: { {kind: round(ms, 3) for kind, ms in step.by_kind().items()} }")


if __name__ == "__main__":
    main()
