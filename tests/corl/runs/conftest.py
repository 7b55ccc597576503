"""Whole runs of a tiny model: its files, a configuration of every stage, and the way to start it under torchrun."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from corl.config import Config, load_config
from corl.data.items import Item, Trace, write_items, write_traces
from corl.data.tokenizer import Tokenizer
from corl.model.attention import packed_attention
from corl.model.checkpoint_io import export_model
from corl.model.config import ModelConfig
from corl.model.decoder import Decoder
from corl.pipeline import open_session
from corl.prepare import prepare
from corl.rods.embedded_items import embedded_items
from corl.training.batch import TrainSequence, micro_batch
from corl.training.session import Session
from corl.training.sft import encode_trace, likelihood_head
from corl.training.tiny_base import write_tiny_files

ROOT = Path(__file__).resolve().parents[3]
TRAIN = ROOT / "corl" / "train.py"
LIMIT_S = 240
WARM_UP_STEPS, WARM_UP_ROWS = 40, 16

# A micro-batch holds two to four sequences, so that every step has several, of unequal token counts, on each of two
# ranks. 7 steps a stage and a checkpoint every 3: there is room for a kill two steps after a checkpoint.
CONFIG = """\
stages: [cold_start, rl1, mine, rl2]
run: {{dir: to be named, seed: 7}}
model: {{path: {files}/base, dtype: float32}}
data: {{train: [{files}/train.jsonl], dev: [{files}/dev.jsonl], traces: [{files}/traces.jsonl], prompt_tokens: 96}}
parallel: {{tokens_per_micro_batch: 130, timeout_s: 60}}
rollout: {{max_seqs: 16, page_size: 16}}
cold_start:
  optim: {{lr: 1.0e-3, warmup_steps: 2}}
  traces_per_step: 12
  max_steps: 7
  dev_every: 5
rl1:
  optim: {{lr: 1.0e-3, schedule: linear}}
  mix: {{by: difficulty}}
  prompts_per_step: 6
  group_size: 4
  max_tokens: 12
  max_steps: 7
  objective: {{kind: grpo}}
  updates_per_rollout: 2
  reward: {{format_bonus: 0.1}}
mine: {{samples: 2, max_tokens: 12}}
rl2:
  optim: {{lr: 1.0e-3}}
  mix: {{by: mined, mine_every: 5}}
  prompts_per_step: 6
  group_size: 4
  max_tokens: 12
  max_steps: 7
  objective: {{kl_coef: 0.05}}
  zero_variance: replace
eval: {{max_tokens: 12}}
checkpoint: {{every: 3, keep: 1}}
"""


@pytest.fixture(scope="session")
def tiny_files(tmp_path_factory) -> Path:
    """A folder of config.yaml, items, traces and base/: a Hugging Face directory with the demo's architecture.

    The base has random weights that learnt the form of an answer, not the answers: so some rewards are 1, most are 0.
    """
    files = tmp_path_factory.mktemp("tiny")
    splits = embedded_items(3, train=16, dev=2, held_out=1)
    items = [_shortened(item, lines=1 + k % 7) for k, item in enumerate(splits.train)]
    traces = [Trace(item, f"<think>{item.answer}</think>\n<answer>{item.answer}</answer>", "test", {}, False)
              for item in items]  # fmt: skip
    write_items(files / "train.jsonl", items)
    write_items(files / "dev.jsonl", splits.dev)
    write_traces(files / "traces.jsonl", traces)
    (files / "config.yaml").write_text(CONFIG.format(files=files))

    source = files / "source"
    source.mkdir()
    write_tiny_files(source)
    decoder = Decoder(ModelConfig.from_directory(source))
    decoder.init_weights(torch.Generator().manual_seed(0))
    _learn_form(decoder, traces, Tokenizer.from_directory(source))
    export_model(decoder, source, files / "base")
    return files


def _shortened(item: Item, lines: int) -> Item:
    """With fewer facts, the prompts differ in length."""
    assert item.context is not None
    return replace(item, context="\n".join(item.context.splitlines()[:lines]))


def _learn_form(decoder: Decoder, traces: list[Trace], tokenizer: Tokenizer) -> None:
    encoded = [encode_trace(trace, tokenizer, None) for trace in traces]
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=4e-3)
    for step in range(WARM_UP_STEPS):
        chosen = [encoded[(WARM_UP_ROWS * step + k) % len(encoded)] for k in range(WARM_UP_ROWS)]
        weight = 1.0 / sum(len(ids) - prompt_len for ids, prompt_len in chosen)
        sequences = [TrainSequence("warm-up", *pair, token_weight=weight, advantage=1.0) for pair in chosen]
        batch = micro_batch(sequences, torch.device("cpu"))
        hidden = decoder(batch.input_ids, batch.position_ids, packed_attention(batch.cu_seqlens, batch.max_seqlen))
        likelihood_head(batch)(hidden[batch.rows], decoder.head_weight, None)[0].backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.fixture(scope="session")
def tiny_config(tiny_files):
    """tiny_config(run_dir, "key=value", ..): the tiny run's configuration."""

    def load(run_dir: Path, *overrides: str) -> Config:
        return load_config(tiny_files / "config.yaml", [f"run.dir={run_dir}", *overrides])

    return load


@pytest.fixture
def open_tiny(world, tiny_config):
    """open_tiny(run_dir, "key=value", ..): a session at the start of a run, or where run_dir's newest checkpoint is."""

    def open_(run_dir: Path, *overrides: str) -> Session:
        return open_session(prepare(tiny_config(run_dir, *overrides)), world)

    return open_


@pytest.fixture(scope="session")
def start(tiny_files):
    """start(ranks, script and its arguments, run_dir, "key=value", ..): a run in processes of its own, to its end.

    Two ranks and more under torchrun; one without. Whatever is left of it when its time is over is killed.
    """

    def run(ranks: int, script: list[str], run_dir: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks > 1 else []
        command = [sys.executable, *launcher, *script, str(tiny_files / "config.yaml"), f"run.dir={run_dir}"]
        process = subprocess.Popen(
            [*command, *overrides],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        return subprocess.CompletedProcess(process.args, process.returncode, output)

    return run


@pytest.fixture(scope="session")
def train_py() -> list[str]:
    return [str(TRAIN)]
