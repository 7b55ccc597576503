"""A word-level tokenizer for the embedded items: every entity, fixed phrase and letter is one token.

A prompt then has 54 tokens and a completion with its end 10 to 18, so that a model of three small layers learns the
task on one core in minutes. White space and the marks "->", ".", ":", "?" only separate; they are not tokens.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from string import ascii_uppercase
from typing import TYPE_CHECKING

from corl.data.prompts import INSTRUCTION_EN
from corl.rods.chain_graph import chain_graph
from corl.rods.embedded_items import QUESTION_PHRASES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, TURN_START, TURN_END, UNKNOWN = "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<unk>"
WORDS = ("system", "user", "assistant", "<think>", "</think>", "<answer>", "</answer>", "Question", "Options", "-")
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def save_tiny_tokenizer(folder: str | Path, names: Iterable[str] | None = None) -> "PreTrainedTokenizerFast":
    """Build the tokenizer for `names` (default: the embedded graph's nodes) and save it as a Hugging Face directory.

    Decoding puts one space between tokens. A word that is not in the vocabulary becomes "<unk>".
    Raises ValueError for a name that holds another one, or one that the vocabulary has already.
    """
    from tokenizers import Regex, Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Split
    from transformers import PreTrainedTokenizerFast

    names = list(chain_graph().roles if names is None else names)
    fixed = [PAD, TURN_START, TURN_END, UNKNOWN, *WORDS, INSTRUCTION_EN, *QUESTION_PHRASES, *ascii_uppercase]
    _check_names(names, fixed)
    vocabulary = {token: id_ for id_, token in enumerate([*fixed, *names])}
    # What matches is a token, the rest is dropped. Longest first: the instruction holds the tags; a letter stands
    # alone. The last branch catches unknown words, which must not swallow a tag, a mark or the "-" of "->".
    known = sorted(set(vocabulary) - set(ascii_uppercase) - {"-"}, key=len, reverse=True)
    pattern = "|".join([*map(re.escape, known), r"-(?!>)", r"[^\s.:?<>-]+"])

    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = Split(Regex(pattern), behavior="removed", invert=True)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=TURN_END,
        pad_token=PAD,
        unk_token=UNKNOWN,
        additional_special_tokens=[TURN_START],
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHATML
    fast.save_pretrained(folder)
    return fast


def _check_names(names: list[str], fixed: list[str]) -> None:
    taken = [*names, *fixed]
    if len(set(taken)) < len(taken):
        raise ValueError("a name stands twice, or is a letter or fixed word of the vocabulary; names must differ")
    for name in names:
        if not name or name != name.strip() or re.search(r"[.:?<>\n]", name):
            raise ValueError(f"name {name!r} is blank or holds outer spaces or one of . : ? < >; rename it")
        if around := next((other for other in taken if name in other and name != other), None):
            raise ValueError(f"name {name!r} is part of {around!r}; rename one, else the text is ambiguous")
