"""The prompt of an item: context, question, options, and how to answer.

The wording depends on the item's language and source, never on its gold: in a source where some items have several
right options every item is asked to select all that apply. The paper gives no wording; this one is ours. It holds
whether the model opens <think> itself or finds it opened, by its chat template or by `open_think`.
"""

from corl.data.items import Item

# MedMCQA is not among them: its choice_type "multi" is about the wording, every row has one gold.
MULTI_ANSWER_SOURCES = frozenset({"cmexam", "jmed"})

INSTRUCTION_EN = (
    "Reason step by step inside <think></think>, then give only the letter of the correct option inside "
    "<answer></answer>."
)
INSTRUCTION_MULTI_EN = (
    "One or more options are correct: select all that apply. Reason step by step inside <think></think>, then give "
    "only the letters of the correct options, separated by commas, inside <answer></answer>."
)
INSTRUCTION_ZH = "请在<think></think>中逐步推理，然后在<answer></answer>中只给出正确选项的字母。"
INSTRUCTION_MULTI_ZH = (
    "正确选项可能有一个或多个，请选出全部正确选项。请在<think></think>中逐步推理，"
    "然后在<answer></answer>中只给出正确选项的字母，多个字母之间用逗号分隔。"
)


def prompt_text(item: Item) -> str:
    """The user's turn for an item, without any chat template."""
    chinese = item.lang.lower().split("-")[0] == "zh"
    multi = item.source in MULTI_ANSWER_SOURCES
    if chinese:
        question, options = f"问题：{item.question}", "选项："
        instruction = INSTRUCTION_MULTI_ZH if multi else INSTRUCTION_ZH
    else:
        question, options = f"Question: {item.question}", "Options:"
        instruction = INSTRUCTION_MULTI_EN if multi else INSTRUCTION_EN
    lettered = [f"{letter}. {text}" for letter, text in item.options.items()]
    asked = "\n".join([question, options, *lettered])
    return "\n\n".join([*([item.context] if item.context else []), asked, instruction])


def prompt_messages(item: Item, *, system: str | None = None) -> list[dict[str, str]]:
    """Chat messages for an item; an empty `system` is still a message (it silences a template's default one)."""
    user = {"role": "user", "content": prompt_text(item)}
    return [user] if system is None else [{"role": "system", "content": system}, user]


def open_think(prefill: str) -> str:
    """What to put behind a rendered prompt so that the completion begins inside <think>, or "" where it does already.

    prefill  what the chat template opens by itself (`Tokenizer.prefill`); grading needs `prefill + open_think(prefill)`
    """
    return "" if prefill else "<think>\n"
