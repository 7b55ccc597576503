"""What a teacher is told. The question itself is worded as the student will read it; the paper gives no wording."""

from collections.abc import Mapping
from typing import Any

from corl.data.items import Item
from corl.data.prompts import prompt_text
from corl.rods.teachers.protocol import Message

STRATEGIES = ("backtracking", "path exploration", "verification", "self-correction")

_LONGEST_ATTEMPT = 8000  # characters: one that ran on until it was cut off shows its fault in as many

_SYSTEM = {
    "en": (
        "You are an experienced clinician who writes reasoning for students to learn from. Think inside "
        "<think></think>, then give only the letter (or letters) inside <answer></answer>; write nothing else. Be "
        "concise: at most {words} words. Go from the findings to the mechanism or diagnosis to what is asked, name "
        "every intermediate diagnosis, say what separates the nearest alternative, show each calculation with its "
        "units, and say what you "
        "assume or cannot be sure of. Write as one person thinking, in the language of the question."
    ),
    "zh": (
        "你是一位经验丰富的临床医生，正在写供学生学习的推理过程。请在<think></think>中推理，然后在<answer></answer>中"
        "只写选项字母，除此之外什么都不要写。力求简洁，不超过{words}个字。从临床表现出发，推到机制或诊断，再到所问的内容；"
        "写出每个中间诊断的名称，说明最接近的备选项为何不符，写出每一步计算及其单位，并说明所作的假设或不能确定之处。"
        "以一个人思考的口吻用中文书写。"
    ),
}
_STRATEGY = {
    "en": {
        "backtracking": (
            "go back to the last step that is certain, drop what was built on it and take another branch from there"
        ),
        "path exploration": "follow a line of reasoning that was not considered, from another finding, to its end",
        "verification": "hold each step against the findings of the question and repair the first that does not fit",
        "self-correction": "find the mistake, name it as you would on noticing it yourself, and correct what follows",
    },
    "zh": {
        "backtracking": "回到最后一个可以确定的步骤，放弃在其后得出的内容，从那里改走另一条路",
        "path exploration": "从另一个临床表现出发，沿着尚未考虑过的思路一直推到底",
        "verification": "把每一步与题目中的表现逐一核对，修正第一个不相符的步骤",
        "self-correction": "找出错误，像自己发现时那样指出它，并改正其后的内容",
    },
}
_RETRY = {
    "en": (
        "{problem} Think again: {strategy}. Write the whole reasoning anew as one continuous train of thought that "
        "contains the doubt and the turn, in the same format, without mentioning an attempt, a message or a review."
    ),
    "zh": (
        "{problem}请重新思考：{strategy}。请按同样的格式重新写出完整、连贯的推理过程，其中包含疑问和转折，"
        "不要提及任何尝试、消息或审阅。"
    ),
}
_PROBLEMS = {
    "en": {
        "answer": "The conclusion is not right.",
        "format": "The format is not kept: <think>..</think> and then <answer>LETTER</answer>, nothing else.",
        "arithmetic": "A calculation is wrong: {wrong}.",
        "units": "A unit conversion is wrong: {wrong}.",
        "leak": "The reasoning must rest on the question alone, and speak of nothing else.",
        "language": "The reasoning is not in the language of the question.",
        "length": "The reasoning has {words} words; keep to between {fewest} and {most}.",
        "repetition": "The reasoning repeats itself.",
        "encoding": "The text holds damaged characters.",
        "bridges": "An intermediate diagnosis is left unnamed.",
    },
    "zh": {
        "answer": "结论不正确。",
        "format": "格式不符：应为<think>..</think>，然后<answer>字母</answer>，除此之外不写任何内容。",
        "arithmetic": "计算有误：{wrong}。",
        "units": "单位换算有误：{wrong}。",
        "leak": "推理只能以题目为依据，不要提及其他内容。",
        "language": "推理没有使用题目的语言。",
        "length": "推理有{words}个字，请控制在{fewest}到{most}之间。",
        "repetition": "推理有重复。",
        "encoding": "文本中有损坏的字符。",
        "bridges": "没有写出中间诊断的名称。",
    },
}
_TOLD = {
    "en": (
        "For you alone: the correct option is {answer}. Write the reasoning that leads from the findings to it, as by "
        "someone who does not know it beforehand; never say or imply that the answer was given."
    ),
    "zh": (
        "仅供你参考：正确选项是{answer}。请写出从临床表现推出该选项的推理过程，如同事先并不知道答案的人；"
        "不要说出或暗示答案是给出的。"
    ),
}


def ask_messages(item: Item, *, most_words: int) -> list[Message]:
    """The question without its label."""
    system = _SYSTEM[_lang(item)].format(words=most_words)
    return [{"role": "system", "content": system}, {"role": "user", "content": prompt_text(item)}]


def retry_messages(
    item: Item, attempt: str, checks: Mapping[str, Any], strategy: str, *, fewest_words: int, most_words: int
) -> list[Message]:
    """The question, an attempt, what the checks found in it, and how to go on; the right letter is not named."""
    lang = _lang(item)
    problems = [
        _PROBLEMS[lang][name].format(
            wrong="; ".join(checks.get(name, {}).get("wrong", ())[:3]) if name in ("arithmetic", "units") else "",
            words=checks["words"],
            fewest=fewest_words,
            most=most_words,
        )
        for name in checks["failed"]
    ]
    turn = _RETRY[lang].format(problem=(" " if lang == "en" else "").join(problems), strategy=_STRATEGY[lang][strategy])
    return [
        *ask_messages(item, most_words=most_words),
        {"role": "assistant", "content": _shown(attempt)},
        {"role": "user", "content": turn},
    ]


def told_messages(item: Item, *, most_words: int) -> list[Message]:
    """The question with its label: for what nothing else solved."""
    system, user = ask_messages(item, most_words=most_words)
    chosen = [f"{letter}. {item.options[letter]}" for letter in item.answer.split(",")]
    lang = _lang(item)
    told = _TOLD[lang].format(answer=("; " if lang == "en" else "；").join(chosen))
    return [system, {"role": "user", "content": f"{user['content']}\n\n{told}"}]


def _shown(attempt: str) -> str:
    """An attempt as it can be sent again: no half surrogate pairs, not empty, not without end."""
    text = attempt.encode("utf-8", "replace").decode().strip() or "(no answer)"
    return text if len(text) <= _LONGEST_ATTEMPT else text[:_LONGEST_ATTEMPT] + " .."


def _lang(item: Item) -> str:
    return "zh" if item.lang.lower().split("-")[0] == "zh" else "en"
