"""The demo's base: a tiny Qwen2-style model made on the spot and warmed up on copying, as a Hugging Face directory.

Warm-up sequences are random entities said twice; learning to say them the second time forms the attention that looks a
token up and reads on from there (induction), which no demo item is needed for. Nothing of the task's format is in it.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from corl.config import Config, Optim
from corl.data.tokenizer import Tokenizer
from corl.model.checkpoint_io import export_model
from corl.model.config import ModelConfig
from corl.model.decoder import Decoder
from corl.observe.progress import Progress, readable
from corl.parallel import Parameters, World, copy_full, iter_full, shard_decoder
from corl.rods.tiny_tokenizer import save_tiny_tokenizer
from corl.training.batch import TrainSequence, micro_batch, pack
from corl.training.sft import likelihood_head
from corl.training.trainer import Trainer

TINY: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_size": 64,
    "intermediate_size": 192,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0},
    "tie_word_embeddings": True,
    "use_sliding_window": False,
    "hidden_act": "silu",
    "dtype": "float32",
}
MIDDLE, REACH = 20, 14  # lengths of what is said twice: from 20 alone to 6..34, one wider whenever it is learnt
ROWS, LEARNT, MAX_STEPS = 64, 0.1, 900
OPTIM = Optim(lr=1e-3)


def write_tiny_files(folder: Path) -> None:
    """config.json, generation_config.json and the tokenizer of the tiny model."""
    save_tiny_tokenizer(folder)
    tokenizer = Tokenizer.from_directory(folder)
    size = -(-tokenizer.vocab_size // 16) * 16  # shards evenly over up to 16 ranks
    eos = {"eos_token_id": list(tokenizer.stop_ids)}
    (folder / "config.json").write_text(json.dumps(TINY | {"vocab_size": size}, indent=1) + "\n")
    (folder / "generation_config.json").write_text(json.dumps(eos) + "\n")


def make_base(folder: Path, world: World, config: Config) -> Path:
    """Initialise, warm up and export the tiny model to `folder`, unless it is there already; a collective."""
    files = folder.with_name(f".{folder.name}.files")
    if not folder.exists():
        if world.is_main:
            shutil.rmtree(files, ignore_errors=True)
            files.mkdir(parents=True)
            write_tiny_files(files)
        world.barrier()
        parameters = _warm_up(files, world, config)
        if world.is_main:
            export_model(iter_full(parameters, torch.float32), files, folder)
            shutil.rmtree(files)
        else:
            for _ in iter_full(parameters, torch.float32):
                pass
    world.barrier()
    return folder


def _warm_up(files: Path, world: World, config: Config) -> Parameters:
    model_config = ModelConfig.from_directory(files)
    whole = Decoder(model_config)
    whole.init_weights(torch.Generator().manual_seed(config.run.seed))
    with torch.device("meta"):
        decoder = Decoder(model_config)
    parameters = shard_decoder(decoder, world, compute_dtype=torch.float32, reshard_after_forward=False)
    for name, full in whole.named_parameters():
        copy_full(parameters[name], full)
    trainer = Trainer(decoder, parameters, world, OPTIM, MAX_STEPS)
    width, step = 0, 0
    progress = Progress("warm-up", None, 0, shown=world.is_main)
    while width < REACH and step < MAX_STEPS:
        rng = np.random.Generator(np.random.Philox(key=[config.run.seed, step]))
        length = int(rng.integers(MIDDLE - width, MIDDLE + width + 1))
        rows = rng.integers(0, model_config.vocab_size, (ROWS, length)).tolist()
        weight = 1.0 / (ROWS * length)
        sequences = [TrainSequence(f"row {i}", row + row, length, weight, 1.0) for i, row in enumerate(rows)]
        bins = pack(sequences, config.parallel.tokens_per_micro_batch, world.size)[world.rank]
        update = trainer.update([micro_batch(b, world.device) for b in bins], likelihood_head, step)
        width += update.loss < LEARNT
        step += 1
        if step % 50 == 0:
            lengths = f"{MIDDLE - width}..{MIDDLE + width}"
            progress.note(readable({"step": step, "loss": update.loss, "lengths": lengths}))
    progress.close()
    return parameters
