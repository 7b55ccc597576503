"""An update of the trainer on one device: a few layers of a real model's width, random weights, no checkpoint.

    python -m bench.train_step [--model qwen2.5-7b] [--layers 8] [--tokens 16384]

FSDP2 with one rank, fp32 master weights, bf16 compute, AdamW, the policy loss on the head: what a rank does between two
collectives. Prints ms, the share of the device's arithmetic (causal attention, nothing for what is computed a second
time) and peak memory, with and without activation checkpointing; then how far trainer and engine are apart.
"""

import argparse
import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import torch
import torch.distributed as dist
from torch import Tensor

from bench.decode_step import model_config, requests
from bench.inputs import MODELS, ModelShape
from bench.roofline import Peaks, peaks_of
from bench.step_work import train_flops
from corl.config import Optim
from corl.model.decoder import Decoder
from corl.parallel import World, init_world, shard_decoder
from corl.rollout.engine import Engine
from corl.training.batch import MicroBatch, TrainSequence, micro_batch
from corl.training.trainer import Head, HeadOutput, Trainer
from corl_kernels import PolicyObjective, linear_policy_loss

# dense bf16 TFLOP/s as published, what others' MFU are shares of
_PUBLISHED = {"H100": 989.4, "H200": 989.4, "GH200": 989.4, "A100": 312.0}
_PROMPT = 300


@dataclass(frozen=True, slots=True)
class UpdateTime:
    """ms of one update of `tokens` tokens, its optimizer step included; `flops` as in step_work; bytes at the peak."""

    recompute: bool
    tokens: int
    targets: int
    ms: float
    flops: float
    peak_bytes: int

    def share_of(self, tflops: float) -> float:
        return self.flops / (self.ms * 1e-3) / (tflops * 1e12)


@dataclass(frozen=True, slots=True)
class Gap:
    """|trainer - engine| in nats over `tokens` drawn tokens, and the share of ratios outside 0.9 .. 1.1."""

    tokens: int
    mean: float
    largest: float
    outside: float


def published_tflops(device: torch.device) -> float | None:
    """Of the device, where it is one we know."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return next((tflops for key, tflops in _PUBLISHED.items() if key in name), None)


def build_trainer(shape: ModelShape, layers: int, world: World) -> Trainer:
    """Random master weights in fp32, sharded over the world's one rank; compute in bf16 on a GPU."""
    with torch.device("meta"):
        decoder = Decoder(model_config(shape, torch.float32, layers=layers))
    on_gpu = world.device.type == "cuda"
    compute = torch.bfloat16 if on_gpu else torch.float32
    parameters = shard_decoder(decoder, world, compute_dtype=compute, reshard_after_forward=False)
    generator = torch.Generator(world.device).manual_seed(0)
    with torch.no_grad():
        for name, parameter in parameters.items():
            local = parameter.to_local()
            if parameter.ndim == 2:
                local.normal_(0.0, 0.02, generator=generator)
            else:
                local.fill_(0.0 if name.endswith(".bias") else 1.0)
    return Trainer(decoder, parameters, world, Optim(lr=1e-6), 1000, keep_gathered=True)


def batch_of(tokens: int, vocab: int, device: torch.device) -> MicroBatch:
    """Sequences of 400 to 1,600 tokens that fill a pack exactly, advantages of both signs."""
    draw, sequences, left = random.Random(0), list[TrainSequence](), tokens
    while left:
        length = min(left, draw.randint(400, 1600))
        length = left if left - length < 200 else length
        ids = [draw.randrange(vocab) for _ in range(length + 1)]
        prompt = min(_PROMPT, length // 2)
        sequences.append(TrainSequence(str(left), ids, prompt, 1.0 / tokens, advantage=draw.uniform(-1, 1)))
        left -= length
    return micro_batch(sequences, device)


def policy_head(batch: MicroBatch) -> Head:
    def head(hidden: Tensor, weight: Tensor, grad_weight_out: Tensor | None) -> HeadOutput:
        numbers = (batch.targets, batch.advantages, batch.token_weights)
        settings = {"grad_weight_out": grad_weight_out, "grad_loss_is_one": True}
        return linear_policy_loss(hidden, weight, *numbers, objective=PolicyObjective("grpo"), **settings)

    return head


def time_updates(trainer: Trainer, batch: MicroBatch, *, recompute: bool, repeats: int) -> UpdateTime:
    """The median of `repeats` updates after two that are not counted."""
    trainer.decoder.set_activation_checkpointing(recompute)
    on_gpu = trainer.world.device.type == "cuda"
    samples = []
    for turn in range(-2, repeats):
        if turn == 0 and on_gpu:
            torch.cuda.reset_peak_memory_stats()
        start = perf_counter()
        update = trainer.update([batch], policy_head, 0)  # it reads the loss, so the device is done
        if on_gpu:
            torch.cuda.synchronize()
        assert update.applied, f"loss {update.loss}, gradient norm {update.grad_norm}"
        if turn >= 0:
            samples.append((perf_counter() - start) * 1e3)
    lengths = batch.cu_seqlens.diff().tolist()
    flops = train_flops(trainer.decoder.config, lengths, len(batch.targets))
    peak = torch.cuda.max_memory_allocated() if on_gpu else 0
    return UpdateTime(recompute, sum(lengths), len(batch.targets), median(samples), flops, peak)


def gap(trainer: Trainer, *, rows: int, prompt: int, drawn: int, page_size: int) -> Gap:
    """What the engine recorded while it drew against what the trainer scores, under the same weights."""
    trainer.decoder.set_activation_checkpointing(False)
    trainer.use_shards()
    tokens = rows * -(-(prompt + drawn) // page_size) * page_size
    engine = Engine(trainer.decoder, max_seqs=rows, kv_tokens=tokens, page_size=page_size)
    engine.swap_weights(trainer.decoder)
    asked = requests(trainer.decoder.config.vocab_size, rows, prompt, drawn)
    prompts = [request.prompt_ids for request in asked for _ in range(request.n)]
    sequences = [
        TrainSequence(f"{c.id}.{c.sample}", [*ids, *c.ids], len(ids), 0.0, rollout_logprobs=c.logprobs)
        for ids, c in zip(prompts, engine.generate(asked), strict=True)
    ]
    batch = micro_batch(sequences, trainer.world.device)
    assert batch.rollout_logprobs is not None
    gaps = trainer.score(batch, 1.0).double() - batch.rollout_logprobs.double()
    engine.sleep()
    ratios = gaps.exp()
    outside = ((ratios < 0.9) | (ratios > 1.1)).double().mean()
    return Gap(len(gaps), float(gaps.abs().mean()), float(gaps.abs().max()), float(outside))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.train_step", description=__doc__.splitlines()[0])
    on_gpu = torch.cuda.is_available()
    parser.add_argument("--model", choices=tuple(MODELS), default="qwen2.5-7b" if on_gpu else "toy")
    parser.add_argument("--layers", type=int, default=8 if on_gpu else 2)
    parser.add_argument("--tokens", type=int, default=16384 if on_gpu else 1000)
    parser.add_argument("--repeats", type=int, default=5 if on_gpu else 2)
    options = parser.parse_args(arguments)
    if min(options.layers, options.tokens, options.repeats) < 1:
        parser.error("--layers, --tokens and --repeats must be 1 or more")
    world = init_world(60)
    try:
        peaks: Peaks = peaks_of(world.device)
        published = published_tflops(world.device)
        trainer = build_trainer(MODELS[options.model], options.layers, world)
        batch = batch_of(options.tokens, trainer.decoder.config.vocab_size, world.device)
        for recompute in (False, True):
            found = time_updates(trainer, batch, recompute=recompute, repeats=options.repeats)
            of_published = f", MFU {found.share_of(published):.3f}" if published else ""
            print(
                f"{'with' if recompute else 'without'} recompute: {found.ms:.1f} ms, "
                f"{found.share_of(peaks.tflops):.3f} of the measured peak{of_published}, "
                f"{found.peak_bytes / 1e9:.1f} GB at the peak",
                flush=True,
            )
        print(gap(trainer, rows=16, prompt=64, drawn=65, page_size=256 if on_gpu else 16))
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
