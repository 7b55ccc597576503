"""The demo on the device: a run of a few steps under torchrun, killed in the middle, then resumed."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from bench.session.context import Context
from bench.session.processes import end_descendants
from bench.session.record import at_least, at_most

ROOT = Path(__file__).resolve().parent.parent.parent
_NEEDED = ("yaml", "tqdm", "tokenizers", "tensorboard", "safetensors")
_STEPS = 2  # of rl1 after the resume
_SETTINGS = (
    "stages=[cold_start,rl1]", "cold_start.dev_every=null", "cold_start.stop_at=null", "rl1.plateau=null",
    "eval.every=null", "eval.samples=1", "checkpoint.every=1",
)  # fmt: skip


def run(context: Context) -> None:
    for package in _NEEDED:
        if importlib.util.find_spec(package) is None:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)
    record, folder = context.record, context.out / "cache" / "demo"
    shutil.rmtree(folder, ignore_errors=True)
    # a cold start of a hundred steps answers a third of the questions: RL then has rewards to learn from
    cold, prompts = (2, 4) if context.toy else (100, 48)
    settings = [*_SETTINGS, f"cold_start.max_steps={cold}", f"rl1.prompts_per_step={prompts}"]
    # without held-out items nothing is evaluated, which a dry run has no seconds for
    settings += (
        ["cold_start.traces_per_step=8", "data.held_out=[]", "data.dev=[]"] if context.toy else ["eval.limit=64"]
    )
    start = time.monotonic()
    killed_at = _run_until_a_checkpoint(folder, settings)
    seconds = time.monotonic() - start
    record.claim("demo: steps before it was killed", killed_at, must=at_least(cold + 1), seconds=seconds)
    start = time.monotonic()
    code = _train(folder, [*settings, f"rl1.max_steps={killed_at - cold + _STEPS}"]).wait()
    lines = _metrics(folder)
    steps = [line["step"] for line in lines]
    record.claim("demo: exit code of the resumed run", code, must=at_most(0), seconds=time.monotonic() - start)
    wrong = sum(a != b for a, b in zip(steps, range(1, killed_at + _STEPS + 1), strict=False))
    wrong += abs(len(steps) - killed_at - _STEPS)
    record.claim("demo: steps that are missing or doubled after the resume", wrong, must=at_most(0))
    bad = sum(not line.get("applied", True) for line in lines)
    record.claim("demo: updates that were not finite", bad, must=at_most(0))
    gaps = [line["agreement"]["gap_mean"] for line in lines if line.get("agreement")]
    if gaps:
        record.claim("demo: mean gap between trainer and engine", max(gaps), unit="nats", must=at_most(0.05))
    rl = [line for line in lines if line["stage"] == "rl1"]
    if rl:
        record.claim("demo: reward of its last step", rl[-1]["reward"])
        record.write("row", name="demo", seconds=[line["seconds"] for line in rl[-_STEPS:]])


def _train(folder: Path, settings: list[str]) -> subprocess.Popen:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1"]
    command += ["corl/train.py", "configs/demo.yaml", f"run.dir={folder}", *settings]
    return subprocess.Popen(command, cwd=ROOT)


def _run_until_a_checkpoint(folder: Path, settings: list[str]) -> int:
    """The last step that the run has a checkpoint and a line for when it is killed: one of rl1."""
    process = _train(folder, [*settings, "rl1.max_steps=1000"])
    while process.poll() is None:
        done = {int(path.name.split("_")[1]) for path in (folder / "checkpoints").glob("step_*_rl1")}
        if [line for line in _metrics(folder) if line["stage"] == "rl1" and line["step"] in done]:
            break
        time.sleep(0.1)
    else:
        raise RuntimeError(f"the run ended with exit code {process.returncode} before its first step of RL")
    process.kill()
    process.wait()
    end_descendants(os.getpid())  # torchrun's workers have sessions of their own, and outlive it
    return max(line["step"] for line in _metrics(folder))


def _metrics(folder: Path) -> list[dict]:
    file = folder / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text().split("\n")[:-1]] if file.exists() else []
