"""corl/train.py, except that every rank writes what it trained on:  record_driver.py OUT CONFIG [..]

OUT/rank_R.jsonl holds a line per update: loss, gradient norm, and the packed tokens and sequences of every micro-batch;
OUT/bytes_R.json the bytes of the rank's parameters and moments beside those of the whole.
"""

import json
import os
import runpy
import sys
from pathlib import Path

from corl.training.batch import MicroBatch
from corl.training.optimizer import optimizer_tensors
from corl.training.trainer import Trainer, Update

TRAIN = Path(__file__).resolve().parents[3] / "corl" / "train.py"


def record(trainer: Trainer, batches: list[MicroBatch], update: Update, out: Path) -> None:
    line = {
        "loss": update.loss,
        "grad_norm": update.grad_norm,
        "tokens": [len(batch.input_ids) for batch in batches],
        "sequences": {s.name: s.ids for batch in batches for s in batch.sequences},
    }
    with (out / f"rank_{trainer.world.rank}.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    moments = optimizer_tensors(trainer.parameters, trainer.optimizer)
    sharded = {
        "parameters": list(trainer.parameters.values()),
        "moments": [tensor for name, tensor in moments.items() if not name.endswith(".step")],
    }
    sizes = {
        kind: [sum(t.to_local().untyped_storage().nbytes() for t in tensors), sum(t.nbytes for t in tensors)]
        for kind, tensors in sharded.items()
    }
    (out / f"bytes_{trainer.world.rank}.json").write_text(json.dumps(sizes))


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    update = Trainer.update

    def recorded(self: Trainer, batches: list[MicroBatch], *args, **kwargs) -> Update:
        result = update(self, batches, *args, **kwargs)
        record(self, batches, result, folder)
        return result

    Trainer.update = recorded
    os.makedirs(folder, exist_ok=True)
    sys.argv = [str(TRAIN), *sys.argv[2:]]
    runpy.run_path(str(TRAIN), run_name="__main__")
