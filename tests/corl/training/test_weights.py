import json
from types import SimpleNamespace

import pytest
import torch

from corl.model.checkpoint_io import export_model
from corl.training.weights import WeightSource, load_weights

CONFIG = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "vocab_size": 61, "hidden_size": 32,
    "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 128, "rms_norm_eps": 1e-6, "dtype": "float32",
    "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0},
}  # fmt: skip


@pytest.fixture
def saved(make_decoder, tmp_path):
    """saved(tied): (a whole decoder, the Hugging Face directory that holds it)."""

    def make(tied: bool):
        (tmp_path / "files").mkdir()
        (tmp_path / "files" / "config.json").write_text(json.dumps(CONFIG | {"tie_word_embeddings": tied}))
        whole = make_decoder(seed=8, tied=tied)
        export_model(whole.named_parameters(), tmp_path / "files", tmp_path / "hf")
        return whole, WeightSource("hugging_face", tmp_path / "hf")

    return make


@pytest.mark.parametrize("tied", [True, False])
def test_shards_are_filled_from_a_hugging_face_directory(world, make_sharded, saved, tied):
    whole, source = saved(tied)
    _, parameters = make_sharded(seed=9, tied=tied)
    load_weights(source, parameters)
    for name, weight in whole.named_parameters():
        assert torch.equal(parameters[name].full_tensor(), weight), name


@pytest.mark.parametrize("size", [2, 3, 5])
def test_every_rank_reads_its_rows_also_across_fused_parts(saved, size):
    whole, source = saved(True)
    for rank in range(size):
        expected, shards = {}, {}
        for name, weight in whole.named_parameters():
            pieces = weight.detach().chunk(size)
            expected[name] = pieces[rank] if rank < len(pieces) else weight.detach()[:0]
            local = torch.full_like(expected[name], torch.nan)
            mesh = SimpleNamespace(get_local_rank=lambda rank=rank: rank, size=lambda: size)
            shards[name] = SimpleNamespace(shape=weight.shape, device_mesh=mesh, to_local=lambda local=local: local)
        load_weights(source, shards)
        assert all(torch.equal(shards[name].to_local(), rows) for name, rows in expected.items())
