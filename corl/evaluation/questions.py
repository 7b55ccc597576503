"""What a model is asked: every item's prompt in its tokens, checked against the room that the model has."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from corl.data.items import Item
from corl.data.prompts import open_think, prompt_messages
from corl.data.shuffle import shuffle_options
from corl.data.tokenizer import Tokenizer
from corl.evaluation.item_sets import ItemSet
from corl.evaluation.rounds import Question
from corl.model.checkpoint_io import checked_headers
from corl.model.config import ModelConfig


@dataclass(frozen=True, slots=True)
class Presentation:
    """How items are put to a model: a system turn, options in another order (keyed by the seed), an opened thought."""

    system: str | None
    shuffle: bool
    open_think: bool
    seed: int

    def show(self, item: Item) -> Item:
        return shuffle_options(item, seed=self.seed, epoch=0) if self.shuffle else item

    def added(self, tokenizer: Tokenizer) -> str:
        """What is put behind the rendered prompt."""
        return open_think(tokenizer.prefill) if self.open_think else ""


def checked_model(folder: Path) -> tuple[ModelConfig, Tokenizer]:
    """The architecture and the tokenizer of a Hugging Face directory, which fit each other; no weight is loaded."""
    if not (folder / "config.json").is_file():
        is_run = (folder / "config.yaml").is_file()
        way_out = f"`corl export {folder} --out DIR` makes one of this run" if is_run else "check the path"
        raise ValueError(f"{folder}: no Hugging Face directory (config.json is missing); {way_out}")
    config, _ = checked_headers(folder)
    tokenizer = Tokenizer.from_directory(folder)
    if tokenizer.vocab_size > config.vocab_size:
        raise ValueError(
            f"{folder}: the tokenizer has {tokenizer.vocab_size} tokens, vocab_size in config.json is "
            f"{config.vocab_size}; use the tokenizer that belongs to the model"
        )
    return config, tokenizer


def make_questions(
    sets: Sequence[ItemSet], tokenizer: Tokenizer, presentation: Presentation, *, max_tokens: int, max_positions: int
) -> list[Question]:
    """A question for every item, in order; a long prompt leaves less than max_tokens for its answer.

    Raises ValueError naming the item whose prompt leaves no room at all.
    """
    questions = []
    added = presentation.added(tokenizer)
    for item_set in sets:
        for item in item_set.items:
            shown = presentation.show(item)
            messages = prompt_messages(shown, system=presentation.system)
            ids = tokenizer.encode_prompt(messages, prefill=added)
            room = max_positions - len(ids)
            if room < 1:
                raise ValueError(
                    f"item {item.id!r}: its prompt has {len(ids)} tokens, the model {max_positions} positions; leave "
                    "the item out or evaluate a model with more"
                )
            questions.append(Question(shown, item_set.key, ids, min(max_tokens, room)))
    return questions
