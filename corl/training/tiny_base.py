"""The demo's base: a tiny Qwen2-style model made on the spot and warmed up on copying, as a Hugging Face directory.

It starts from a structured initialisation, not from noise alone: one head of the first layer looks one token back, one
of the second looks up what stood after an equal token (induction). Warm-up then trains all of it on random tokens said
twice. Nothing of the task or its format is in either. Without the structure, the copying took most of a demo's time and
failed for some seeds.
"""

import json
import shutil
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from corl.config import Config, Optim
from corl.data.tokenizer import Tokenizer
from corl.model.checkpoint_io import export_model
from corl.model.config import ModelConfig
from corl.model.decoder import Decoder, DecoderLayer
from corl.model.rope import inverse_frequencies
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
    "intermediate_size": 160,
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
ROWS, SHORTEST, LONGEST = 32, 6, 34  # rows of a warm-up batch; length of what is said twice
LEARNT, MAX_STEPS = 0.4, 300  # the smoothed loss that ends the warm-up
OPTIM = Optim(lr=2.0e-3, betas=(0.9, 0.99))


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
    init_structured(whole, torch.Generator().manual_seed(config.run.seed))
    with torch.device("meta"):
        decoder = Decoder(model_config)
    parameters = shard_decoder(decoder, world, compute_dtype=torch.float32, reshard_after_forward=False)
    for name, full in whole.named_parameters():
        copy_full(parameters[name], full)
    trainer = Trainer(decoder, parameters, world, OPTIM, MAX_STEPS)
    progress = Progress("warm-up", None, 0, shown=world.is_main)
    smoothed, step = 5.0, 0
    while smoothed > LEARNT and step < MAX_STEPS:
        rng = np.random.Generator(np.random.Philox(key=[config.run.seed, step]))
        length = int(rng.integers(SHORTEST, LONGEST + 1))
        rows = rng.integers(0, model_config.vocab_size, (ROWS, length)).tolist()
        weight = 1.0 / (ROWS * (length - 1))
        # The first token of the second saying cannot be known, so it belongs to the prompt.
        sequences = [TrainSequence(f"row {i}", row + row, length + 1, weight, 1.0) for i, row in enumerate(rows)]
        bins = pack(sequences, config.parallel.tokens_per_micro_batch, world.size)[world.rank]
        update = trainer.update([micro_batch(b, world.device) for b in bins], likelihood_head, step)
        smoothed = 0.8 * smoothed + 0.2 * update.loss
        step += 1
        if step % 20 == 0:
            progress.note(readable({"step": step, "loss": smoothed}))
    progress.close()
    return parameters


@torch.no_grad()
def init_structured(decoder: Decoder, generator: torch.Generator) -> None:
    """Normal weights, with a previous-token head in layer 0 and an induction head in layer 1, each head 0.

    In the spirit of Trockman and Kolter 2023, arXiv:2305.09828 (attention initialised towards what trained ones show)
    and Olsson et al. 2022, arXiv:2209.11895 (induction heads). Scales were chosen on prototype runs of this demo.
    """
    config = decoder.config
    d, e = config.hidden_size, config.head_dim
    for name, parameter in decoder.named_parameters():
        if parameter.dim() == 2:
            parameter.normal_(0.0, 0.1 if name.startswith("embed") else 0.04, generator=generator)
        else:
            parameter.fill_(0.0 if name.endswith(".bias") else 1.0)
    before, lookup = (cast(DecoderLayer, layer).self_attn for layer in decoder.layers[:2])
    keys, values = config.num_heads * e, (config.num_heads + config.num_kv_heads) * e

    def orthogonal(rows: int, columns: int) -> Tensor:
        return torch.nn.init.orthogonal_(torch.empty(rows, columns), generator=generator)

    # Biases alone make the score of a distance: q is k turned back by one position, in the fastest rotary pairs.
    turn = inverse_frequencies(config.rope, e)[:6]
    sharpness = 5.0
    before.qkv_proj.bias[:6] = sharpness * turn.cos()
    before.qkv_proj.bias[e // 2 : e // 2 + 6] = -sharpness * turn.sin()
    before.qkv_proj.bias[keys : keys + 6] = sharpness
    # It writes the token before into directions that the lookup's keys read, and that its queries read of the token.
    read, write, carry = orthogonal(e, d), orthogonal(d, e), orthogonal(e, d)
    before.qkv_proj.weight[values : values + e] = read
    before.o_proj.weight[:, :e] = 0.1 * write
    slow = (torch.arange(e) % (e // 2)) >= 8  # pairs that hardly turn, so that distance does not matter
    lookup.qkv_proj.weight[:e][slow] = 1.5 * read[slow]
    lookup.qkv_proj.weight[keys : keys + e][slow] = 1.5 * write.T[slow]
    lookup.qkv_proj.weight[values : values + e] = carry
    lookup.o_proj.weight[:, :e] = 0.15 * carry.T
