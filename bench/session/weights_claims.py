"""New weights for the engine, its sleep and its waking: a 7B under FSDP2 with one rank, fp32 master weights."""

from time import perf_counter

import torch
import torch.distributed as dist

from bench.inputs import MODELS
from bench.session.context import Context
from bench.session.record import at_most

_TURNS = 3


def run(context: Context) -> None:
    """Seconds of swap_weights, verify_weights, sleep and wake, for weights in place and for copies."""
    from bench.decode_step import requests
    from bench.train_step import build_trainer
    from corl.parallel import init_world
    from corl.rollout.engine import Engine

    on_gpu = not context.toy
    shape = MODELS["qwen2.5-7b" if on_gpu else "toy"]
    rows, prompt, drawn, page_size = (32, 128, 17, 256) if on_gpu else (4, 12, 9, 16)
    world = init_world(60)
    try:
        decoder = build_trainer(shape, shape.layers, world).decoder
        asked = requests(shape.vocab, rows, prompt, drawn)
        tokens = rows * -(-(prompt + drawn) // page_size) * page_size
        for mode in ("shared", "arena"):
            with context.trying(f"weights, {mode}"):
                engine = Engine(decoder, max_seqs=rows, kv_tokens=tokens, page_size=page_size, weights=mode)
                moved = engine.swap_weights(decoder).bytes
                before = engine.generate(asked)
                found: dict[str, list[float]] = {}
                for turn in range(_TURNS):
                    _timed(context, found, "sleep", engine.sleep)
                    _timed(context, found, "swap", lambda engine=engine: engine.swap_weights(decoder))
                    _timed(context, found, "wake", engine.wake)
                    if turn == 0:  # seconds, since it reads every bit
                        _timed(context, found, "verify", lambda engine=engine: engine.verify_weights(decoder))
                for name, goal in (("swap", at_most(0.1)), ("sleep", None), ("wake", None), ("verify", None)):
                    seconds = sorted(found[name])[len(found[name]) // 2]
                    detail = {"gb": moved / 1e9, "all": found[name]}
                    claim = f"{name}, {mode}, {shape.layers} layers"
                    context.record.claim(claim, seconds, unit="s", goal=goal, **detail)
                after = engine.generate(asked)
                differing = sum(a.ids != b.ids or a.logprobs != b.logprobs for a, b in zip(before, after, strict=True))
                claim = f"{mode}: samples of {len(before)} that change after sleep, swap and wake"
                context.record.claim(claim, differing, must=at_most(0))
                engine.sleep()
                del engine
    finally:
        dist.destroy_process_group()


def _timed(context: Context, found: dict[str, list[float]], name: str, call) -> None:
    if not context.toy:
        torch.cuda.synchronize()
    start = perf_counter()
    call()
    if not context.toy:
        torch.cuda.synchronize()
    found.setdefault(name, []).append(perf_counter() - start)
