"""What the tests of several folders make: items, graded attempts, a world of one rank, a small sharded decoder."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from corl.data.items import Item
from corl.evaluation.attempts import Attempt, Prompt
from corl.grading import Grade
from corl.model.config import ModelConfig
from corl.model.decoder import Decoder
from corl.model.rope import RopeConfig
from corl.parallel import copy_full, init_world, shard_decoder


@pytest.fixture(scope="session")
def make_item():
    def make(k: int, difficulty: str | None = None, answer: str = "A") -> Item:
        options = {"A": "yes", "B": "no", "C": "perhaps"}
        return Item(f"item-{k}", "test", "en", None, f"Question {k}?", options, answer, difficulty, {})

    return make


@pytest.fixture(scope="session")
def make_prompt(make_item):
    def make(k: int, difficulty: str | None = None, answer: str = "A", length: int = 3) -> Prompt:
        return Prompt(make_item(k, difficulty, answer), [(5 * k + j) % 61 for j in range(length)])

    return make


@pytest.fixture(scope="session")
def make_attempt():
    """make_attempt(item id, sample, correct, ..): a graded completion without an engine; a wrong one says B."""

    def make(item_id, sample=0, correct=False, *, formed=True, length=3, finish="stop", extracted="") -> Attempt:
        letter = ("A" if correct else "B") if extracted == "" else extracted
        ids = [(7 * sample + j) % 61 for j in range(length)]
        grade = Grade(formed, letter, correct)
        return Attempt(item_id, sample, ids, [-0.5] * length, finish, f"says {letter}", grade)

    return make


@pytest.fixture(scope="module")
def world():
    """The process group of one rank that a run without torchrun makes for itself; on the CPU, also beside a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        yield init_world(60)
        dist.destroy_process_group()


@pytest.fixture(scope="session")
def run_ranks(tmp_path_factory):
    """run_ranks(script, ranks, *arguments): the script in so many processes that init_world() makes a world of, on the
    CPU. Fails with what the first process to fail has written; the others are ended then."""

    def run(script: str, ranks: int, *arguments: str, timeout_s: float = 240) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        shared = os.environ | {
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port), "WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks),
            "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "CUDA_VISIBLE_DEVICES": "",
        }  # fmt: skip
        folder = tmp_path_factory.mktemp("ranks")
        workers = []
        for rank in range(ranks):
            environment = shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            with (folder / str(rank)).open("w") as log:
                workers.append(subprocess.Popen([sys.executable, script, *arguments], env=environment, stderr=log))
        end = time.monotonic() + timeout_s
        codes: list[int | None] = [None]
        while None in codes and not any(codes) and time.monotonic() < end:
            time.sleep(0.05)
            codes = [worker.poll() for worker in workers]
        for worker in workers:
            worker.kill()
            worker.wait()
        for rank in sorted(range(ranks), key=lambda r: not codes[r]):  # those that failed before those that waited
            assert codes[rank] == 0, f"rank {rank} ended with {codes[rank]}: {(folder / str(rank)).read_text()[-4000:]}"

    return run


@pytest.fixture(scope="session")
def make_decoder():
    """make_decoder(seed, tied): a whole decoder with weights large enough for every gradient to matter."""

    def make(seed: int = 0, tied: bool = True) -> Decoder:
        config = ModelConfig(
            model_type="qwen2", vocab_size=61, hidden_size=32, intermediate_size=48, num_layers=2, num_heads=4,
            num_kv_heads=2, head_dim=8, max_positions=128, rms_norm_eps=1e-6, rope=RopeConfig(1000.0),
            qkv_bias=True, qk_norm=False, tie_word_embeddings=tied, dtype=torch.float32,
        )  # fmt: skip
        decoder = Decoder(config)
        decoder.init_weights(torch.Generator().manual_seed(seed), std=0.2)
        return decoder

    return make


@pytest.fixture
def make_sharded(world, make_decoder):
    """make_sharded(seed, tied, dtype): (decoder, its parameters) of make_decoder(seed, tied), to compute in dtype."""

    def make(seed: int = 0, tied: bool = True, dtype: torch.dtype = torch.float32):
        whole = make_decoder(seed, tied)
        with torch.device("meta"):
            decoder = Decoder(whole.config)
        parameters = shard_decoder(decoder, world, compute_dtype=dtype, reshard_after_forward=True)
        for name, full in whole.named_parameters():
            copy_full(parameters[name], full)
        return decoder, parameters

    return make


@pytest.fixture(scope="session")
def make_checkpoint():
    """make_checkpoint(folder, texts, tokens, ..): a tiny Qwen2 as transformers saves it, its BPE trained on `texts`."""

    def make(folder: Path, texts: Iterable[str], tokens: int = 400, **changes) -> Path:
        import transformers
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

        special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
        bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False)
        bpe = Tokenizer(models.BPE())
        bpe.pre_tokenizer, bpe.decoder = bytes_, decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=tokens, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        )
        bpe.train_from_iterator(texts, trainer)
        fast = transformers.PreTrainedTokenizerFast(
            tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>"
        )
        fast.chat_template = (
            "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
            "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
        )
        fast.save_pretrained(folder)
        shape = {
            "vocab_size": len(fast), "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
            "tie_word_embeddings": True, "initializer_range": 0.1, "eos_token_id": 2,
        }  # fmt: skip
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(transformers.Qwen2Config(**shape | changes))
        model.generation_config = transformers.GenerationConfig(eos_token_id=[2, 0], do_sample=True, top_p=0.8)
        model.save_pretrained(folder)
        return folder

    return make
