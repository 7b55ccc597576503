"""Items of the paper's columns with invented content, and their graded answers."""

import json
from pathlib import Path

import pytest

from corl.data.benchmarks import NINE
from corl.data.items import Item
from corl.data.tokenizer import Tokenizer
from corl.evaluation.answers import graded_answer


@pytest.fixture(scope="session")
def make_column_items():
    """make_column_items(key, n): n items of one of the nine columns, golds A, B, .. in turn."""

    def make(key: str, n: int, first: int = 0) -> list[Item]:
        (benchmark,) = (b for b in NINE if b.key == key)
        letters = [chr(65 + k) for k in range(benchmark.options[0])]
        meta = {"split": benchmark.splits[0]} | ({"category": benchmark.category} if benchmark.category else {})
        options = {letter: f"finding {letter}" for letter in letters}
        return [
            Item(f"{key}:{k}", benchmark.source, benchmark.lang, None, f"Which finding, {k}?", options,
                 letters[k % len(letters)], None, meta)
            for k in range(first, first + n)
        ]  # fmt: skip

    return make


@pytest.fixture(scope="session")
def make_answer():
    """make_answer(item, letters): an answer with one completion a letter ("-": no answer, in 7 tokens and cut off)."""

    def make(item: Item, letters: str, set_key: str | None = None, round_: int = 0):
        texts = ["<think>w" if x == "-" else f"<think>w</think>\n<answer>{x}</answer>" for x in letters]
        return graded_answer(
            item,
            set_key or item.id.partition(":")[0],
            texts,
            tokens=[7 if x == "-" else 3 for x in letters],
            finish_reasons=["length" if x == "-" else "stop" for x in letters],
            prefills=[""] * len(texts),
            round_=round_,
        )

    return make


@pytest.fixture(scope="session")
def answering_model(tmp_path_factory, make_checkpoint) -> Path:
    """A tiny random model that now and then says an answer: a fifth of its tokens are one, as many end its turn."""
    folder = tmp_path_factory.mktemp("answering") / "answering"
    make_checkpoint(folder, ["Which finding, 1? Options: A. finding"], vocab_size=420, max_position_embeddings=512)
    size = Tokenizer.from_directory(folder).vocab_size
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    added = [f"{'.' * (k // 3)}</think>\n<answer>{'ABC'[k % 3]}</answer>" for k in range(60)]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    tokenizer["added_tokens"] += [{"id": size + k, "content": text} | flags for k, text in enumerate(added)]
    path.write_text(json.dumps(tokenizer))
    assert size + len(added) <= 420 and Tokenizer.from_directory(folder).decode([size + 1]) == added[1]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [0, 2, *range(100, 160)]}))
    return folder
