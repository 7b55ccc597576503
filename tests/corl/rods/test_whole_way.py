"""The README's way from a dump to a cold start, its commands run as they stand there, on a small dump."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from corl.data.items import Item, read_items, read_traces, write_items
from corl.data.prompts import prompt_text
from corl.rods.extraction.synthetic_dump import write_dump

ROOT = Path(__file__).resolve().parents[3]
BIN = Path(sys.executable).parent


def commands() -> list[list[str]]:
    """The command lines under the README's heading, comments and continuations taken away."""
    text = (ROOT / "README.md").read_text()
    section = text.split("## From Wikipedia to a cold start", 1)[1].split("\n## ", 1)[0]
    block = re.findall(r"```\n(.*?)```", section, re.DOTALL)[0].replace("\\\n", " ")
    return [words for line in block.splitlines() if (words := shlex.split(line, comments=True))]


def public_items(count: int) -> list[Item]:
    parts = ("meniscus", "collar bone", "little finger", "thumb", "heel", "wrist", "shin", "elbow")
    return [
        Item(
            id=f"own:{number}",
            source="own",
            lang="en",
            context=None,
            question=f"After fall number {number} from a ladder an inch higher each time, which part hurts first?",
            options=dict(zip("ABCD", [parts[(number + k) % len(parts)] for k in range(4)], strict=True)),
            answer="ABCD"[number % 4],
            difficulty=("easy", "moderate", "difficult")[number % 3],
            meta={},
        )
        for number in range(count)
    ]


def test_the_commands_of_the_readme_one_after_the_other(tmp_path: Path, make_checkpoint) -> None:
    assert write_dump(tmp_path / "dump.xml.bz2", diseases=240, seed=1) > 900
    (tmp_path / "data").mkdir()
    write_items(tmp_path / "data" / "public.jsonl", public_items(150))
    # A copy of a question of the test set: it must not come through.
    write_items(tmp_path / "data" / "held_out.jsonl", public_items(1))
    (tmp_path / "corl").symlink_to(ROOT / "corl")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    # Threads of its own would fight over the two cores.
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}", "OMP_NUM_THREADS": "1"}
    last = ""
    for command in commands():
        if command[0] == "torchrun":
            texts = [prompt_text(t.item) + t.completion for t in read_traces(tmp_path / "rods" / "traces.jsonl")]
            make_checkpoint(tmp_path / "Qwen2.5-7B", texts, tokens=1000, max_position_embeddings=1024)
            command[command.index("8")] = "2"
            command += ["run.dir=run", "cold_start.max_steps=3", "cold_start.traces_per_step=8", "model.dtype=float32"]
            # Of a size that shows above what one batch's loss differs from another's.
            command += ["cold_start.optim.lr=1.0e-2", "cold_start.optim.warmup_steps=0"]
            command += ["eval.max_tokens=8", "rollout={max_seqs: 32, page_size: 64, kv_tokens: 65536}"]
        done = subprocess.run(
            [BIN / command[0], *command[1:]],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-500:]}\n{done.stderr[:2000]}"
        last = done.stdout
        if command[:3] == ["corl", "rods", "audit"]:
            assert done.stdout.splitlines()[-1].startswith("audit: ok n=400 ")
    mixed = read_items(tmp_path / "rods" / "mixed.jsonl")
    assert {item.source for item in mixed} == {"own", "rods:graph"} and all(item.difficulty for item in mixed)
    assert not {item.question for item in mixed} & {item.question for item in public_items(1)}
    traces = read_traces(tmp_path / "rods" / "traces.jsonl")
    assert [t.item.id for t in traces] == [item.id for item in mixed]
    steps = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [step["stage"] for step in steps] == ["cold_start"] * 3, last
    assert steps[-1]["loss"] < 0.95 * steps[0]["loss"]
