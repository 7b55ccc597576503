"""Whole steps of a model made of random weights on the device: decoding a 7B, updating eight layers of its width."""

from dataclasses import asdict, replace

from bench.inputs import MODELS
from bench.session.context import Context
from bench.session.record import at_least, at_most


def decode(context: Context) -> None:
    """Milliseconds a step by batch, graphs against plain calls, what a step launches and where its time is."""
    from bench import decode_step as bench

    on_gpu = not context.toy
    shape = MODELS["qwen2.5-7b" if on_gpu else "toy"]
    config = bench.model_config(shape, context.dtype)
    batches, prompt, drawn = ((32, 64, 128, 256), 512, 129) if on_gpu else ((8, 16), 32, 9)
    page_size, repeats, steps = (256, 3, 8) if on_gpu else (16, 1, 1)
    record = context.record
    for part in context.parts(["launches a layer", "batches"]):
        with context.trying(part):
            if part == "launches a layer":
                sizes = {"rows": batches[0], "prompt": prompt, "page_size": page_size, "steps": steps}
                few = bench.launches_a_layer(config, context.device, **sizes)
                record.claim("launches of a decode step, a layer", few, goal=at_most(12))
                continue
            model = bench.random_decoder(config, context.device)
            engine = bench.engine_for(model, max(batches), prompt, drawn, page_size)
            found = None
            for rows in reversed(batches):
                sizes = {"rows": rows, "prompt": prompt, "drawn": drawn}
                time, drawn_by_graphs = bench.time_steps(engine, context.peaks(), repeats=repeats, **sizes)
                record.write("row", name="decode step", tokens_per_s=time.tokens_per_s, **asdict(time))
                # the design's goal is for a full batch; a small one is bound by its launches
                goal = at_least(0.75) if rows >= 128 else None
                claim = f"decode step, batch {rows}, {time.context:.0f} positions: share of its floor"
                detail = {"ms": time.ms, "floor_ms": time.floor_ms, "tokens_per_s": time.tokens_per_s}
                record.claim(claim, time.floor_share, goal=goal, floor_share=time.floor_share, **detail)
                found = found or drawn_by_graphs
            step = bench.launches(engine, rows=max(batches), prompt=prompt, steps=steps)
            record.write("row", name="launches of a step", total=step.total, by_kind_ms=step.by_kind())
            longest = sorted(step.ms, key=step.ms.__getitem__, reverse=True)[:25]
            by_name = {name[:80]: [step.counts.get(name, 0), step.ms[name]] for name in longest}
            record.write("row", name="longest launches of a step: times, ms", **by_name)
            record.claim("launches of a decode step, in all", step.total)
            for kind, ms in step.by_kind().items():
                record.claim(f"decode step, batch {max(batches)}: {kind}", ms, unit="ms")
            engine.sleep()
            with bench.eager_steps():
                plain = bench.engine_for(model, max(batches), prompt, drawn, page_size)
                again = plain.generate(bench.requests(config.vocab_size, max(batches), prompt, drawn))
            pairs = list(zip(found or [], again, strict=True))
            differing = sum(a.ids != b.ids or a.logprobs != b.logprobs for a, b in pairs)
            record.claim(
                f"samples of {len(pairs)} that graphs and plain calls draw otherwise", differing, must=at_most(0)
            )


def train(context: Context) -> None:
    """MFU and peak memory of an update with and without recompute, and the gap between trainer and engine."""
    import torch.distributed as dist

    from bench import train_step as bench
    from corl.parallel import init_world

    on_gpu = not context.toy
    shape = MODELS["qwen2.5-7b" if on_gpu else "toy"]
    layers, tokens, repeats = (8, 16384, 4) if on_gpu else (2, 700, 1)
    world, record = init_world(60), context.record
    try:
        trainer = bench.build_trainer(replace(shape, layers=layers), layers, world)
        batch = bench.batch_of(tokens, shape.vocab, world.device)
        published = bench.published_tflops(world.device) or context.peaks().tflops
        for recompute in (False, True):
            name = f"update, {layers} layers, T={tokens}, {'with' if recompute else 'without'} recompute"
            with context.trying(name):
                found = bench.time_updates(trainer, batch, recompute=recompute, repeats=repeats)
                record.write("row", name=name, **asdict(found))
                share = found.share_of(context.peaks().tflops)
                detail = {"ms": found.ms, "tflops_published": published, "tokens_per_s": found.tokens / found.ms * 1e3}
                goal = at_least(0.45) if recompute else None
                record.claim(f"{name}: MFU", found.share_of(published), goal=goal, floor_share=share, **detail)
                record.claim(f"{name}: memory at the peak", found.peak_bytes / 1e9, unit="GB")
        with context.trying("trainer against engine"):
            sizes = {"rows": 64, "prompt": 256, "drawn": 129} if on_gpu else {"rows": 4, "prompt": 12, "drawn": 9}
            gap = bench.gap(trainer, page_size=256 if on_gpu else 16, **sizes)
            record.write("row", name="trainer against engine", **asdict(gap))
            record.claim("trainer against engine: ratios outside 0.9 .. 1.1", gap.outside, must=at_most(1e-3))
            record.claim("trainer against engine: mean gap", gap.mean, unit="nats", largest=gap.largest)
    finally:
        dist.destroy_process_group()
