"""The tokenizer of a Hugging Face directory, and prompts as token ids.

The directory's chat template is used as it is. Three things are read off it by rendering a probe, so that no family
needs a special case: the text the generation prompt already opens (<think>), the tokens that end an assistant's turn,
and the ids generation stops at.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from corl.data.items import Item
from corl.data.prompts import open_think, prompt_messages

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PROTOCOL_TAGS = ("<think>", "</think>", "<answer>", "</answer>")
_PROBE = "PROBE"


class OverlongError(ValueError):
    """Prompts are longer than the limit."""


class Tokenizer:
    """Text to ids and back, and the conventions of a model's chat template.

    has_chat_template  whether the directory has one; without, a prompt is each message's text and a newline
    eos_id, pad_id     the tokenizer's; pad falls back to eos
    end_of_turn_ids    what a completion to imitate ends with: the template's end of an assistant's turn, else (eos_id,)
    stop_ids           sorted ids generation stops at: eos of generation_config.json, config.json and the tokenizer,
                       and the last of end_of_turn_ids: what cold start teaches a model to end with must end its turn
                       (Qwen2.5's base checkpoint names <|endoftext|> alone, its template ends in <|im_end|>)
    prefill            the part of the generation prompt from an open "<think>" on, else ""; a completion must not
                       repeat it, and grading puts it in front
    """

    def __init__(
        self, tokenizer: "PreTrainedTokenizerFast", *, configured_eos: Sequence[int] = (), opens_think: bool = False
    ) -> None:
        """opens_think: every prompt ends in an open <think>, also where the chat template has none."""
        self._tokenizer = tokenizer
        self.has_chat_template = tokenizer.chat_template is not None
        known = [*([] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]), *configured_eos]
        if not known:
            raise ValueError(
                f"{tokenizer.name_or_path}: no end-of-sequence token; name eos_token in tokenizer_config.json or "
                "eos_token_id in generation_config.json"
            )
        self.eos_id: int = known[0]
        self.pad_id: int = self.eos_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        special = {id_ for id_, token in tokenizer.added_tokens_decoder.items() if token.special}
        # Some checkpoints mark <think> and <answer> special; decoding must keep them, grading reads them.
        added = tokenizer.get_added_vocab()
        tags = {added[tag] for tag in PROTOCOL_TAGS if tag in added}
        self._skipped = (special | set(tokenizer.all_special_ids)) - tags
        self.end_of_turn_ids = self._end_of_turn(set(known))
        self.stop_ids = tuple(sorted({*known, self.end_of_turn_ids[-1]}))
        self.prefill = self._open_think()
        self._appended = open_think(self.prefill) if opens_think else ""
        self.prefill += self._appended

    @property
    def vocab_size(self) -> int:
        """Ids the tokenizer can produce; a model's embedding may be larger."""
        return len(self._tokenizer)

    @classmethod
    def from_directory(cls, path: str | Path, *, opens_think: bool = False) -> "Tokenizer":
        """The tokenizer of a directory with tokenizer.json; nothing is downloaded.

        Raises ValueError naming the directory when it has no tokenizer.json, a damaged one, no eos, or a config that is
        not JSON.
        """
        directory = Path(path)
        if not (directory / "tokenizer.json").is_file():
            raise ValueError(
                f"{directory} holds no tokenizer.json; give a local Hugging Face directory saved with a fast tokenizer"
            )
        from transformers import PreTrainedTokenizerFast  # 1.2 s, so only here

        # AutoTokenizer picks a class by config.json's model_type, whose pre-tokenizer may differ from the saved one.
        try:
            tokenizer = PreTrainedTokenizerFast.from_pretrained(directory, local_files_only=True)
        except Exception as error:  # the tokenizers library raises nothing narrower for a damaged file
            raise ValueError(f"{directory}: its tokenizer files cannot be read ({error}); restore them") from error
        configured = [id_ for name in ("generation_config.json", "config.json") for id_ in _eos_ids(directory / name)]
        return cls(tokenizer, configured_eos=configured, opens_think=opens_think)

    def encode(self, text: str) -> list[int]:
        """Ids of `text`; no special token is added, those written in the text are recognised."""
        return self._tokenizer.encode(text, add_special_tokens=False)

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        """Text of `ids`; `skip_special` leaves out special tokens, except the tags of the completion protocol."""
        kept = [id_ for id_ in ids if id_ not in self._skipped] if skip_special else list(ids)
        return str(self._tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def render(self, messages: list[dict[str, str]]) -> str:
        """The prompt's text, up to where the assistant's turn begins."""
        return self._render(messages, generation=True) + self._appended

    def encode_prompt(self, messages: list[dict[str, str]], *, prefill: str = "") -> list[int]:
        """Ids of the rendered prompt with `prefill` appended; without a template the tokenizer's own bos leads."""
        ids = self.encode(self.render(messages) + prefill)
        bos = self._tokenizer.bos_token_id
        wants_bos = not self.has_chat_template and bos is not None and bos in self._tokenizer.encode("")
        return [bos, *ids] if wants_bos else ids

    def _render(self, messages: list[dict[str, str]], *, generation: bool) -> str:
        if not self.has_chat_template:
            return "".join(message["content"] + "\n" for message in messages)
        from jinja2 import TemplateError  # transformers loads it only here too

        try:
            return str(self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generation))
        except TemplateError as error:
            roles = " and ".join(message["role"] for message in messages)
            raise ValueError(
                f"{self._tokenizer.name_or_path}: its chat template refuses {roles} ({error}); correct the template "
                "or, where it takes no system turn, leave data.system out"
            ) from error

    def _end_of_turn(self, eos_ids: set[int]) -> tuple[int, ...]:
        if not self.has_chat_template:
            return (self.eos_id,)
        turns = [{"role": "user", "content": "question"}, {"role": "assistant", "content": _PROBE}]
        ids = self.encode(self._render(turns, generation=False).rpartition(_PROBE)[2])
        ends = [position for position, id_ in enumerate(ids) if id_ in self._skipped | eos_ids]
        return tuple(ids[: ends[0] + 1]) if ends else (self.eos_id,)

    def _open_think(self) -> str:
        if not self.has_chat_template:
            return ""
        question = [{"role": "user", "content": "question"}]
        bare, full = self._render(question, generation=False), self._render(question, generation=True)
        opened = full[len(os.path.commonprefix([bare, full])) :]
        start = opened.rfind("<think>")
        return opened[start:] if start >= 0 and "</think>" not in opened[start:] else ""


def encode_prompts(
    items: Sequence[Item],
    tokenizer: Tokenizer,
    *,
    system: str | None,
    limit: int,
    overlong: Literal["error", "drop"],
) -> tuple[list[Item], list[list[int]], list[str]]:
    """Prompts of at most `limit` tokens: (kept items, their prompt ids, ids of the items dropped), in the given order.

    Raises OverlongError when `overlong` is "error" and a prompt is too long, or when nothing is kept.
    """
    if overlong not in ("error", "drop"):
        raise ValueError(f'overlong={overlong!r}; make it "error" or "drop"')
    kept: list[Item] = []
    prompts: list[list[int]] = []
    dropped: list[str] = []
    longest = 0
    for item in items:
        ids = tokenizer.encode_prompt(prompt_messages(item, system=system))
        longest = max(longest, len(ids))
        if len(ids) <= limit:
            kept.append(item)
            prompts.append(ids)
        else:
            dropped.append(item.id)
    if dropped and (overlong == "error" or not kept):
        advice = f"raise the limit to {longest}" + (', or drop them with overlong="drop"' if kept else "")
        raise OverlongError(
            f"{len(dropped)} of {len(items)} prompts are longer than {limit} tokens, the first is item {dropped[0]!r}; "
            f"{advice}"
        )
    return kept, prompts, dropped


def _eos_ids(config: Path) -> list[int]:
    if not config.is_file():
        return []
    try:
        found = json.loads(config.read_text(encoding="utf-8")).get("eos_token_id")
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{config} is not a JSON object ({error}); restore the file") from error
    ids = found if isinstance(found, list) else [] if found is None else [found]
    if not all(type(id_) is int for id_ in ids):
        raise ValueError(f"{config}: eos_token_id is {found!r}; make it an id or a list of ids")
    return ids
