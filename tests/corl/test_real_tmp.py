"""Published questions by the documented commands: import, distill, train on two ranks, export, load elsewhere.

Runs where the real data lies beside the checkout; its text never enters the project.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import corl
from corl.data.items import read_items, read_traces, write_items
from corl.data.prompts import prompt_text
from corl.model.attention import packed_attention

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"
BIN = Path(sys.executable).parent
ENVIRONMENT = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (DATA / "pubmedqa").is_dir(), reason="the real question sets are not beside the checkout"),
]


def run(*command: str | Path) -> str:
    done = subprocess.run(
        [BIN / command[0], *command[1:]], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def logits_here(folder: Path, ids: list[int]) -> torch.Tensor:
    model = corl.load_model(folder)
    bounds = torch.tensor([0, len(ids)], dtype=torch.int32)
    with torch.no_grad():
        hidden = model.run(torch.tensor(ids), torch.arange(len(ids)), packed_attention(bounds, len(ids)))
        return hidden @ model.head_weight.T


def test_published_questions_from_import_to_export(tmp_path: Path, make_checkpoint) -> None:
    import transformers

    files = {name: tmp_path / f"{name}.jsonl" for name in ("pubmedqa", "medqa", "test", "pubmedqa_traces", "traces")}
    run("corl", "data", "import", "pubmedqa", DATA / "pubmedqa", "--out", files["pubmedqa"])
    run("corl", "data", "import", "pubmedqa", DATA / "pubmedqa", "--split", "test", "--out", files["test"])
    run("corl", "data", "import", "medqa", DATA / "medqa_dev" / "all_dev_good.jsonl", "--out", files["medqa"])
    pubmedqa, medqa, test = (read_items(files[name]) for name in ("pubmedqa", "medqa", "test"))
    assert [len(pubmedqa), len(medqa), len(test)] == [500, 1272, 500]

    write_items(tmp_path / "all.jsonl", pubmedqa + medqa)
    run("corl", "rods", "distill", tmp_path / "all.jsonl", "--out", files["traces"])
    traces = read_traces(files["traces"])
    assert [t.item.id for t in traces] == [item.id for item in pubmedqa + medqa]
    assert all(t.label_conditioned for t in traces)

    few = [*pubmedqa[:20], *medqa[:20]]
    write_items(tmp_path / "few.jsonl", few)
    write_items(tmp_path / "held_out.jsonl", test[:6])
    texts = [prompt_text(t.item) + t.completion for t in traces]
    base = make_checkpoint(tmp_path / "base", texts, tokens=2000, max_position_embeddings=4096)

    run_dir, exported = tmp_path / "run", tmp_path / "exported"
    settings = [
        f"run.dir={run_dir}", f"model.path={base}", "model.dtype=float32", f"data.train=[{tmp_path}/few.jsonl]",
        f"data.held_out=[{tmp_path}/held_out.jsonl]", f"data.traces=[{files['traces']}]",
        "rollout={max_seqs: 64, page_size: 64, kv_tokens: 65536}", "eval.max_tokens=8",
        "cold_start.optim={lr: 2.0e-3}", "cold_start.max_steps=6",
        "rl1.optim.lr=1.0e-3", "rl1.reward.control=random", "rl1.tier_samples=2", "rl1.max_steps=5",
        "rl1.prompts_per_step=4", "rl1.group_size=2", "rl1.max_tokens=16",
    ]  # fmt: skip
    train = ("torchrun", "--standalone", "--nproc-per-node", "2", "corl/train.py")
    run(*train, "configs/pubmedqa_example.yaml", *settings)
    run("corl", "export", run_dir, "--out", exported)

    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    cold, rl = ([line for line in lines if line["stage"] == stage] for stage in ("cold_start", "rl1"))
    assert [line["step"] for line in lines] == list(range(1, 12)) and len(cold) == 6 and len(rl) == 5
    assert all(line["applied"] for line in lines)
    assert cold[-1]["loss"] < cold[0]["loss"] - 0.5
    # Without a tier of their own the items are tiered by what the cold start passes: nothing, so all are difficult.
    assert rl[0]["tiered"] == len(few) and not any("tiered" in line for line in rl[1:])
    assert rl[0]["drawn"] == {"hard": 4, "simple": 0} and rl[0]["ratio_degraded"]["wanted"] == {"hard": 2, "simple": 2}
    assert all(line["response_tokens"] > 0 for line in rl)
    assert max(line["grad_norm"] for line in rl) > 0
    samples = [json.loads(line) for line in (run_dir / "rollouts" / "step_11.jsonl").read_text().splitlines()]
    assert len(samples) == 8 and {s["item"] for s in samples} <= {item.id for item in few}
    assert [row["name"] for row in json.loads((run_dir / "ablation.json").read_text())["stages"]] == [
        "base", "cold_start", "rl1"
    ]  # fmt: skip

    tokenizer = transformers.AutoTokenizer.from_pretrained(exported)
    ids = tokenizer.encode(texts[0], add_special_tokens=False)
    there = transformers.AutoModelForCausalLM.from_pretrained(exported, dtype="auto").eval()
    with torch.no_grad():
        expected = there(torch.tensor([ids])).logits[0]
    assert expected.dtype == torch.float32 and len(ids) > 100
    torch.testing.assert_close(logits_here(exported, ids), expected, atol=1e-4, rtol=1e-4)
    print("DIFF", (logits_here(exported, ids) - expected).abs().max(), expected.abs().max(), len(ids))
    assert (logits_here(base, ids) - expected).abs().max() > 0.1
