"""A sample is the same on 1, 2 and 4 ranks and on slices of the model; four processes run this file as a script."""

import json
import random
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from corl.model.config import ModelConfig
from corl.model.decoder import Decoder
from corl.model.rope import RopeConfig
from corl.parallel import init_world
from corl.rollout.assign import assign_requests
from corl.rollout.engine import Engine
from corl.rollout.request import Request
from corl.rollout.tensor_parallel import tensor_parallel_group

LENGTHS = (1, 7, 8, 19, 30, 4, 12, 25)
VOCAB = 300  # three blocks of a draw: over four ranks 128, 128, 44 and no columns
PROMPTS = [[random.Random(i).randrange(VOCAB) for _ in range(length)] for i, length in enumerate(LENGTHS)]
REQUESTS = [
    Request(prompt, n=3, max_tokens=16, stop_ids=tuple(range(7, VOCAB, 20)), top_k=30 * (i % 2), id=f"q{i}")
    for i, prompt in enumerate(PROMPTS)
]
# (engines, ranks of an engine, tokens of the cache): the second cache is small enough to preempt
LAYOUTS = [(1, 1, 2048), (2, 1, 2048), (4, 1, 2048), (4, 1, 48), (2, 2, 2048), (2, 2, 48), (1, 4, 2048)]


def make_model() -> Decoder:
    config = ModelConfig(
        model_type="qwen2", vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_layers=2, num_heads=4,
        num_kv_heads=2, head_dim=8, max_positions=128, rms_norm_eps=1e-6, rope=RopeConfig(1000.0),
        qkv_bias=True, qk_norm=False, tie_word_embeddings=True, dtype=torch.float32,
    )  # fmt: skip
    model = Decoder(config)
    model.init_weights(torch.Generator().manual_seed(0), std=0.2)
    return model


def main(out: Path) -> None:
    world = init_world(60)
    for number, (engines, ranks, kv_tokens) in enumerate(LAYOUTS):
        parallel = tensor_parallel_group(world, ranks)
        mine = world.rank // ranks
        if mine >= engines:
            continue
        engine = Engine(
            make_model(), max_seqs=5, kv_tokens=kv_tokens, page_size=4, tensor_parallel=parallel,
            weights="shared" if parallel is None else "arena", steps_per_read=1 + number % 3,
        )  # fmt: skip
        share = assign_requests(REQUESTS, engines)[mine]
        done = engine.generate([REQUESTS[i] for i in share], step=3)
        line = {"preemptions": engine.last_stats.preemptions, "done": [asdict(completion) for completion in done]}
        (out / f"{number}_{world.rank}.json").write_text(json.dumps(line))
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
def test_a_sample_is_the_same_on_any_number_of_ranks(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "4", __file__]
    done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    alone = Engine(make_model(), kv_tokens=4096, page_size=8).generate(REQUESTS, step=3)
    expected = {(c.id, c.sample): c for c in alone}
    assert {c.finish_reason for c in alone} == {"stop", "length"}
    for number, (engines, ranks, kv_tokens) in enumerate(LAYOUTS):
        for member in range(ranks):
            lines = [json.loads((tmp_path / f"{number}_{e * ranks + member}.json").read_text()) for e in range(engines)]
            found = [completion for line in lines for completion in line["done"]]
            assert len(found) == len(expected)
            for completion in found:
                wanted = expected[completion["id"], completion["sample"]]
                assert completion["ids"] == wanted.ids
                assert completion["finish_reason"] == wanted.finish_reason
                assert completion["logprobs"] == pytest.approx(wanted.logprobs, abs=1e-5)
            assert (kv_tokens == 48) == any(line["preemptions"] for line in lines)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
