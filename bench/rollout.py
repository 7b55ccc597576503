"""Tokens a second of a rollout: the engine beside transformers' continuous batching and `generate`.

    python -m bench.rollout [--models tiny wide] --out FILE.jsonl

One model with random weights, made here, is read by all: same prompts, samples, lengths, dtype, threads and machine,
runs taken in turns after a warm-up. Continuous batching gets a cache that holds every sample and the best of three
max_batch_tokens, each with forked prompts and with copies of them. Prints tables and ratios, appends a line of JSON to
--out as soon as something is measured, and draws a picture beside it. A rival that fails costs its own row. What only a
GPU has (CUDA graphs, the share of a step's floor) has never been run.
"""

import argparse
import importlib.metadata
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from bench import rollout_rivals as rivals
from bench.contest import PEER_ERRORS
from bench.report import environment
from bench.rollout_rivals import Generated, Workload, by_engine, engine_for
from bench.rollout_rows import Row, append, draw, measure, table
from bench.roofline import Peaks, peaks_of
from bench.step_work import decode_step, floor_ms
from corl.model.checkpoint_io import load_model
from corl.model.decoder import Decoder
from corl.rollout.engine import Engine

_GOAL = 3.0  # times the tokens a second of either rival, on a CPU
_OURS, _BATCH, _GENERATE = "corl", "generate_batch", "generate per group"
_SMALL = {
    "model_type": "qwen3", "hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "tie_word_embeddings": True,
}  # fmt: skip
SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {**_SMALL, "vocab_size": 1024},
    "wide": {**_SMALL, "vocab_size": 16384},
    "qwen2.5-7b": {
        "model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
        "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064, "tie_word_embeddings": False,
    },
}  # fmt: skip
_PROMPT = (16, 96)  # shortest and longest
_DECODED = (512, 256)  # prompt and completion where decoding is held against its floor
# `generate` takes one group after the other, so that its rate is that of a few of them: on a GPU no more, or it alone
# would take minutes. generate_batch decodes all samples at once only where its budget holds them.
_BUDGETS, _BUDGETS_CUDA = (32, 64, 128), (512, 1024, 2048)
_GROUPS_CUDA = 4


def build(name: str, folder: Path, device: torch.device) -> tuple[Any, Decoder]:
    """transformers' model and ours with the same weights: bf16 on a GPU, fp32 on a CPU."""
    from transformers import AutoConfig, AutoModelForCausalLM

    common = {"max_position_embeddings": 4096, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    torch.manual_seed(0)
    with device:
        reference = AutoModelForCausalLM.from_config(AutoConfig.for_model(**common, **SHAPES[name]), dtype=dtype)
    reference.save_pretrained(folder)
    return reference.eval(), load_model(folder, device=device)


def random_prompts(vocab: int, count: int, shortest: int, longest: int) -> list[list[int]]:
    draw_from = random.Random(0)
    lengths = [draw_from.randint(shortest, longest) for _ in range(count)]
    return [[draw_from.randrange(vocab) for _ in range(length)] for length in lengths]


def contest(
    name: str,
    reference: Any,
    model: Decoder,
    workload: Workload,
    *,
    page_size: int,
    repeats: int,
    budgets: Sequence[int],
    groups: int,
) -> Iterator[list[Row]]:
    """A row of every setting generate_batch is tried with; then of the engine, generate_batch at its best and generate.

    budgets  the max_batch_tokens tried, once each after a warm-up
    groups   prompts that `generate` is given, at most
    """
    tokens = workload.samples * workload.max_tokens
    few = Workload(workload.prompts[:groups], workload.n, workload.max_tokens)

    def batched(**chosen: Any) -> Callable[[], Generated]:
        return lambda: rivals.by_generate_batch(reference, workload, page_size=page_size, **chosen)

    settings = {
        f"{_BATCH} {budget}, {'forks' if fork else 'copies'}": {"max_batch_tokens": budget, "fork": fork}
        for budget in budgets
        for fork in (True, False)
    }
    small = Workload(workload.prompts[:1], workload.n, workload.max_tokens)  # a warm-up
    with suppress(*PEER_ERRORS):  # what fails here fails below, in a row of its own
        rivals.by_generate(reference, small)
        rivals.by_generate_batch(reference, small, page_size=page_size, max_batch_tokens=budgets[0], fork=True)
    tried: list[Row] = []
    for key, setting in settings.items():
        trial = {key: (batched(**setting), setting)}
        tried += measure(name, trial, repeats=1, tokens=tokens, warm_up=False, peers=[key])
        yield tried[-1:]
    best = settings[max(tried, key=lambda row: row.rate).name]
    engine = engine_for(model, workload, page_size)
    runs = {
        _OURS: (lambda: by_engine(engine, workload), {"max_seqs": engine.max_seqs, "kv_tokens": engine.kv_tokens}),
        _BATCH: (batched(**best, keep=True), best | {"best_of": len(tried)}),
        _GENERATE: (lambda: rivals.by_generate(reference, few), {"prompts": len(few.prompts)}),
    }
    made = {_OURS: tokens, _BATCH: tokens, _GENERATE: few.samples * few.max_tokens}
    ours, *theirs = measure(name, runs, repeats=repeats, tokens=made, peers=[_BATCH, _GENERATE])
    rivals.forget(reference)
    yield [ours.known(**occupancy(engine)), *theirs]


def occupancy(engine: Engine) -> dict[str, float]:
    """Of the last generate: the cache's fullest moment and the rows that drew nothing, as shares of 1; preemptions."""
    stats = engine.last_stats
    idle = stats.idle / max(1, engine.max_seqs * stats.decode_steps)
    return {"kv_peak": stats.peak_pages / stats.num_pages, "idle": idle, "preemptions": stats.preemptions}


def upkeep(name: str, model: Decoder, workload: Workload, *, page_size: int, repeats: int) -> Iterator[list[Row]]:
    """Rows of what a training step asks of an engine: newest weights in place, memory given back and taken again.

    On a GPU the rollout after that replays graphs captured before it; on both, it makes the same tokens.
    """
    engines = {mode: engine_for(model, workload, page_size, weights=mode) for mode in ("shared", "arena")}
    for engine in engines.values():
        engine.swap_weights(model)
    before = [rivals.completions(engine, workload) for engine in engines.values()]

    def swap(mode: str) -> Callable[[], None]:
        return lambda: _finish(engines[mode].swap_weights(model))

    def rest() -> None:
        engines["shared"].sleep()
        _finish(engines["shared"].wake())

    runs = {f"swap_weights, {mode}": (swap(mode), {"weights": mode}) for mode in engines}
    rows = measure(name, runs | {"sleep and wake": (rest, {"weights": "shared"})}, repeats=repeats)
    engines["arena"].sleep()
    engines["arena"].swap_weights(model)
    after = [rivals.completions(engine, workload) for engine in engines.values()]
    assert after == before, "a rest changed what is generated"
    moved = [engine.swap_weights(model).bytes for engine in engines.values()]
    yield [*(row.known(bytes=size) for row, size in zip(rows, moved, strict=False)), rows[-1]]


def _finish(_: object) -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def decoding(
    name: str, model: Decoder, peaks: Peaks, *, batches: Sequence[int], page_size: int, repeats: int
) -> Iterator[list[Row]]:
    """A row of decoding B samples, batch by batch: its steps' floor (bench.step_work) as a share of their time."""
    prompt, drawn = _DECODED
    for batch in batches:
        workload = Workload(random_prompts(model.config.vocab_size, batch // 8, prompt, prompt), 8, drawn)
        engine = engine_for(model, workload, page_size)
        runs = {f"corl, batch {batch}": (lambda e=engine, w=workload: by_engine(e, w), {"prompt": prompt})}
        (row,) = measure(name, runs, repeats=repeats, tokens=workload.samples * drawn)
        assert row.timing is not None
        # the steps forward tokens prompt + 1 .. prompt + drawn - 1 of every sample, counted with themselves
        floors = (floor_ms(decode_step(model.config, batch, prompt + step), peaks) for step in range(1, drawn))
        milliseconds = row.timing.p50 - row.facts["first_token_s"] * 1e3
        yield [row.known(floor_share=sum(floors) / milliseconds, **occupancy(engine))]


def verdict(rows: Sequence[Row], *, goal: float | None) -> list[str]:
    """Tokens a second of the engine over those of each rival, by the wall clock and by CPU time."""
    lines = []
    for model in dict.fromkeys(row.model for row in rows):
        named = {row.name: row for row in rows if row.model == model}
        for rival in (_BATCH, _GENERATE):
            ours, theirs = named[_OURS], named[rival]
            if theirs.skipped is not None:
                lines.append(f"{model}: corl / {rival}: nothing to compare with ({theirs.skipped})")
                continue
            ratio = ours.rate / theirs.rate
            met = "" if goal is None else f" (goal >= {goal:g}: {'met' if ratio >= goal else 'MISSED'})"
            cpu = f"by CPU time {ours.cpu_rate / theirs.cpu_rate:.2f}"
            lines.append(f"{model}: corl / {rival}: {ratio:.2f}{met}, {cpu}")
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parse(arguments)
    rivals.quiet()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    on_gpu = device.type == "cuda"
    surroundings = environment(device) | {"transformers": importlib.metadata.version("transformers")}
    print(f"{surroundings}\n{'' if on_gpu else 'no GPU: neither CUDA graphs nor the floor of a step'}", flush=True)
    page_size = 256 if on_gpu else 64
    budgets = options.budgets or (_BUDGETS_CUDA if on_gpu else _BUDGETS)
    groups = min(_GROUPS_CUDA, options.prompts) if on_gpu else options.prompts
    sizes = {"prompts": options.prompts, "samples": options.samples, "max_tokens": options.max_tokens}
    found: list[Row] = []
    for name in options.models or (["qwen2.5-7b"] if on_gpu else ["tiny", "wide"]):
        with tempfile.TemporaryDirectory() as folder:
            reference, model = build(name, Path(folder), device)
        shape = {"shape": SHAPES[name] | sizes, "dtype": str(model.head_weight.dtype)}
        prompts = random_prompts(model.config.vocab_size, options.prompts, *_PROMPT)
        workload = Workload(prompts, options.samples, options.max_tokens)
        same = {"page_size": page_size, "repeats": options.repeats}
        decoded = decoding(name, model, peaks_of(device), batches=(64, 256), **same) if on_gpu else ()
        measured = chain(
            contest(name, reference, model, workload, budgets=budgets, groups=groups, **same),
            upkeep(name, model, workload, **same),
            decoded,
        )
        rows: list[Row] = []
        for some in measured:
            append(some, surroundings | shape, options.out)
            rows += some
        print(f"{name}: {sizes}, prompts of {_PROMPT[0]} to {_PROMPT[1]} tokens\n{table(rows)}\n", flush=True)
        found += rows
        del reference
    picture = options.out.with_suffix(".png")
    draw(found, str(surroundings["device"]), picture)
    print(f"wrote {options.out} and {picture}", *verdict(found, goal=None if on_gpu else _GOAL), sep="\n")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.rollout", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/bench/rollout.jsonl"), help="JSON lines, appended")
    parser.add_argument("--models", choices=tuple(SHAPES), nargs="+", help="shapes (tiny, wide; on a GPU qwen2.5-7b)")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--samples", type=int, default=8, help="of every prompt")
    parser.add_argument("--max-tokens", type=int, default=64, help="of every sample; none ends earlier")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--budgets", type=int, nargs=3, help="of generate_batch, in tokens (32 64 128; on a GPU 512 to 2048)"
    )
    options = parser.parse_args(arguments)
    if options.out.suffix != ".jsonl":
        parser.error(f"--out {options.out} must end in .jsonl; the picture goes beside it as .png")
    for name in ("prompts", "samples", "max_tokens", "repeats"):
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')} {getattr(options, name)} must be 1 or more")
    return options


if __name__ == "__main__":
    main()
