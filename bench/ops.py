"""Measure every kernel of corl_kernels beside its floor and its rivals.

    python -m bench.ops --suite head|decode|all [--out FILE.jsonl]

Prints a table per contest, appends a line of JSON per measurement to --out and draws the roofline beside it. Without a
GPU the shapes are small, in fp32, and only the ratios mean something.
"""

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from bench import decode, head
from bench.contest import Row
from bench.inputs import MODELS
from bench.report import append, environment, table
from bench.roofline import Point, draw, peaks_of

# The loss must beat the only other library that has one here by these: time, and peak memory.
_TIME_GOAL, _MEMORY_GOAL = 0.85, 1.0


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parse(arguments)
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # the profiler that counts memory prints two lines a use otherwise
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    on_gpu = device.type == "cuda"
    first = 1 if options.quick else None
    models = options.models or (["qwen2.5-7b", "qwen3-32b"] if on_gpu else ["small"])[:first]
    sizes = [4096, 5000, 12300, 16384, 32768] if on_gpu else [256] if options.quick else [1300, 2048]
    tokens = options.tokens or sizes[:first]
    repeats = options.repeats or (3 if options.quick else 20 if on_gpu else 5)
    if not on_gpu:
        print("no GPU: CPU ratios only")
    peaks, surroundings = peaks_of(device), environment(device)
    print(f"{surroundings}\nroof: {peaks.tflops:.4g} TFLOP/s, {peaks.tbps:.3g} TB/s ({peaks.source})\n", flush=True)

    def contests() -> Iterator[list[Row]]:
        same = {"models": models, "repeats": repeats, "compiled": not options.no_compile}
        ops = [op for op in head.OPS if not options.ops or op in options.ops]
        if options.suite in ("head", "all") and ops:
            yield from head.suite(device, peaks, tokens=tokens, ops=ops, **same)
        ops = [op for op in decode.OPS if not options.ops or op in options.ops]
        if options.suite in ("decode", "all") and ops:
            yield from decode.suite(device, peaks, quick=options.quick, ops=ops, **same)

    rows: list[Row] = []
    for found in contests():
        rows += found
        append(found, surroundings, options.out)
        print(table(found) + "\n", flush=True)
    points = [
        Point(f"{row.op}: {row.name}", row.flops / row.traffic, row.tflops)
        for row in rows
        if row.timing is not None and row.flops and row.traffic
    ]
    picture = options.out.with_suffix(".png")
    draw(points, peaks, str(surroundings["device"]), picture)
    print(f"wrote {options.out} and {picture}")
    for line in verdict(rows):
        print(line)


def verdict(rows: Sequence[Row]) -> list[str]:
    """Ours over liger's loss, time and peak memory, for every contest that measured both."""
    lines = []
    cases = {row.case.title: row.case for row in rows}
    for title in cases:
        by_name = {row.name: row for row in rows if row.case.title == title and row.timing is not None}
        if head.OURS not in by_name or head.LIGER not in by_name:
            continue
        ours, theirs = by_name[head.OURS], by_name[head.LIGER]
        assert ours.timing and theirs.timing and ours.peak_bytes and theirs.peak_bytes
        ratios = (ours.timing.p50 / theirs.timing.p50, ours.peak_bytes / theirs.peak_bytes)
        time_ok, memory_ok = ratios[0] <= _TIME_GOAL, ratios[1] < _MEMORY_GOAL
        lines.append(
            f"{title}: ours / liger: time {ratios[0]:.3f} (goal <= {_TIME_GOAL}: {'met' if time_ok else 'MISSED'}), "
            f"peak memory {ratios[1]:.3f} (goal < {_MEMORY_GOAL:g}: {'met' if memory_ok else 'MISSED'})"
        )
    return lines


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.ops", description=__doc__.splitlines()[0])
    parser.add_argument("--suite", choices=("head", "decode", "all"), default="all")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/ops.jsonl"), help="JSON lines, appended")
    parser.add_argument("--ops", choices=(*head.OPS, *decode.OPS), nargs="+", help="these alone, beside their floors")
    parser.add_argument("--no-compile", action="store_true", help="without what torch.compile makes: no minutes of it")
    parser.add_argument("--tokens", type=int, nargs="+", help="numbers of tokens for the head (4096 to 32768)")
    parser.add_argument("--models", choices=tuple(MODELS), nargs="+", help="whose shapes (both Qwens; on a CPU: small)")
    parser.add_argument("--repeats", type=int, help="samples of each contender, at least (20; on a CPU 5)")
    parser.add_argument("--quick", action="store_true", help="one model, the smallest shapes, 3 samples")
    options = parser.parse_args(arguments)
    if options.out.suffix != ".jsonl":
        parser.error(f"--out {options.out} must end in .jsonl; the picture goes beside it as .png")
    for name in ("tokens", "repeats"):
        values = getattr(options, name)
        if values is not None and min(values if isinstance(values, list) else [values]) < 1:
            parser.error(f"--{name} {values} must be 1 or more")
    return options


if __name__ == "__main__":
    main()
