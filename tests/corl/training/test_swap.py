"""After an update and a swap the engine samples from what an export of the run would hold."""

import json

import pytest
import torch

from corl.config import Optim
from corl.model.checkpoint_io import export_model, load_model
from corl.parallel import iter_full
from corl.rollout.engine import Engine
from corl.rollout.request import Request
from corl.training.batch import TrainSequence, micro_batch
from corl.training.sft import likelihood_head
from corl.training.trainer import Trainer

REQUESTS = [Request([5 * k % 61, k, 3], n=2, max_tokens=20, temperature=0.0, id=str(k)) for k in range(6)]
CACHE = {"kv_tokens": 1024, "page_size": 8}


def batches(step):
    sequences = [
        TrainSequence(f"s{k}", [(11 * k + 7 * j + step) % 61 for j in range(9)], 2, 0.05, 1.0) for k in range(4)
    ]
    return [micro_batch(sequences[:2], torch.device("cpu")), micro_batch(sequences[2:], torch.device("cpu"))]


def fresh_engine(parameters, config, folder):
    """From a Hugging Face directory, as a user of the run's result would build it."""
    folder.mkdir()
    source = folder / "source"
    source.mkdir()
    (source / "config.json").write_text(json.dumps(CONFIG | {"tie_word_embeddings": config.tie_word_embeddings}))
    export_model(iter_full(parameters, torch.float32), source, folder / "out")
    return Engine(load_model(folder / "out"), **CACHE)


CONFIG = {
    "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "vocab_size": 61, "hidden_size": 32,
    "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 128, "rms_norm_eps": 1e-6, "rope_theta": 1000.0, "hidden_act": "silu",
    "torch_dtype": "float32",
}  # fmt: skip


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("kind", ["shared", "arena"])
def test_greedy_output_is_that_of_the_exported_weights(world, make_sharded, tied, kind, tmp_path):
    decoder, parameters = make_sharded(seed=1, tied=tied)
    trainer = Trainer(decoder, parameters, world, Optim(lr=2e-2), 9, keep_gathered=kind == "shared")
    engine = Engine(decoder, weights=kind, **CACHE)
    with pytest.raises(ValueError, match="swap_weights"):
        engine.generate(REQUESTS)
    engine.swap_weights(decoder)
    outputs = [engine.generate(REQUESTS)]
    for step in range(2):
        assert trainer.update(batches(step), likelihood_head, step).applied
        report = engine.swap_weights(decoder)
        assert report.bytes == sum(4 * p.numel() for p in parameters.values())
        outputs.append(engine.generate(REQUESTS))
        fresh = fresh_engine(parameters, decoder.config, tmp_path / str(step))
        assert [c.ids for c in outputs[-1]] == [c.ids for c in fresh.generate(REQUESTS)]
    assert len({str([c.ids for c in output]) for output in outputs}) == 3
