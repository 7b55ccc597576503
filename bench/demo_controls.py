"""What the demo's gains are made of: the same recipe with one thing taken away, on the same held-out items.

    make demo && python -m bench.demo_controls runs/demo

random     stage 1 from the demo's cold start with coin-flip rewards: must not rise
continued  stage 1 simply goes on from the demo's rl1 for as many samples as rl2 and its mining used
uniform    stage 2 from the demo's rl1 without mining: all tiers alike, for as many samples as rl2 and its mining used
context    the whole recipe on prompts without their context: must stay at chance
Each is a run of its own under RUN-controls/; the table and RUN-controls/controls.json tell all of them.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from corl.checkpoint import complete_checkpoints
from corl.evaluation.ablation import ablation_table

ROOT = Path(__file__).resolve().parent.parent
RANKS = int(os.environ.get("RANKS", "2"))


def main(run_dir: Path) -> None:
    config = yaml.safe_load((run_dir / "config.yaml").read_text())
    ends = {path.name.split("_", 2)[2]: path for path in complete_checkpoints(run_dir / "checkpoints")}
    rows = json.loads((run_dir / "ablation.json").read_text())["stages"]
    lineage = {r["stage"]: r for r in json.loads((run_dir / "lineage.json").read_text())["stages"]}
    rl1_steps = lineage["rl1"]["last_step"] - lineage["rl1"]["first_step"] + 1

    rl1, rl2 = config["rl1"], config["rl2"]
    mined = 1 + (rl2["max_steps"] - 1) // rl2["mix"]["mine_every"]
    train_items = lineage["mine"]["result"]["items"]
    samples = rl2["max_steps"] * rl2["prompts_per_step"] * rl2["group_size"]
    samples += mined * train_items * config["mine"]["samples"]
    print(f"rl2 with its mining used {samples} samples")

    controls = {
        "random": (["rl1"], ends["cold_start"], {"rl1.reward.control": "random", "rl1.max_steps": rl1_steps}),
        "continued": (["rl1"], ends["rl1"], {"rl1.max_steps": _steps(samples, rl1)}),
        "uniform": (["rl2"], ends["rl1"], {"rl2.mix": {"by": "uniform"}, "rl2.max_steps": _steps(samples, rl2)}),
        "context": (config["stages"], config["model"]["path"], {"data.drop_context": True}),
    }
    results: dict[str, list[dict[str, Any]]] = {"demo": rows}
    for name, (stages, model, changes) in controls.items():
        out = run_dir.with_name(f"{run_dir.name}-controls") / name
        plateau = {} if name == "context" else {"rl1.plateau": None}
        _train(run_dir / "config.yaml", out, changes | plateau | {"stages": stages, "model.path": str(model)})
        results[name] = json.loads((out / "ablation.json").read_text())["stages"]
    report = run_dir.with_name(f"{run_dir.name}-controls") / "controls.json"
    report.write_text(json.dumps({"rl2_samples": samples, "ablations": results}, indent=1) + "\n")
    for name, found in results.items():
        print(f"\n{name}\n{ablation_table(found)}")


def _steps(samples: int, rl: dict[str, Any]) -> int:
    return round(samples / (rl["prompts_per_step"] * rl["group_size"]))


def _train(config: Path, out: Path, changes: dict[str, Any]) -> None:
    overrides = [f"{key}={json.dumps(value)}" for key, value in (changes | {"run.dir": str(out)}).items()]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={RANKS}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    subprocess.run([*torchrun, "corl/train.py", str(config), *overrides], cwd=ROOT, env=environment, check=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]).resolve())
