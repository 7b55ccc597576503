"""Reasoning to imitate in the cold start, written without a language model.

An item made from a graph carries its proof or its path, and that is the reasoning. An item without either (a published
question) gets a template that follows from the label alone: it teaches the format and is marked `label_conditioned`.
"""

from collections.abc import Iterable, Iterator

from corl.data.items import Item, Trace
from corl.rods.reasoning import proof_trace


def distilled(items: Iterable[Item]) -> Iterator[Trace]:
    """A trace for each item: its proof in words where it has meta["shape"], else its path, else the template.

    Raises ValueError naming the item whose meta does not hold what it promises.
    """
    for item in items:
        if item.meta.get("shape"):
            yield proof_trace(item)
        else:
            yield trace(item) if item.meta.get("path") else templated_trace(item)


def trace(item: Item) -> Trace:
    """The asked path, node by node, then the options read in order until the one that the path ends at.

    Reading them in order makes the letter a matter of copying: the smallest models cannot look back from an option's
    text to the letter before it.
    Raises ValueError for an item without meta["path"], or whose path does not end at the gold option.
    """
    path = item.meta.get("path")
    if not path:
        raise ValueError(f"item {item.id!r} has no meta['path']; use templated_trace")
    if path[-1] != item.options.get(item.answer):
        raise ValueError(f"item {item.id!r}: the path ends at {path[-1]!r}, the answer is {item.answer!r}; correct one")
    read = [f"{letter}. {text}" for letter, text in item.options.items() if letter <= item.answer]
    completion = _completion("\n".join([" -> ".join(path), *read]), item.answer)
    return Trace(item, completion, "embedded-graph", {"answer": True}, label_conditioned=False)


def templated_trace(item: Item) -> Trace:
    """The options restated and the labelled one concluded, in Chinese for lang "zh", else in English."""
    options = [f"{letter}. {text}" for letter, text in item.options.items()]
    chosen = [f"{letter}. {item.options[letter]}" for letter in item.answer.split(",")]
    if item.lang == "zh":
        thought = f"可选的答案有：{'；'.join(options)}。结合题干逐项比较，最符合的是：{'；'.join(chosen)}。"
    else:
        thought = (
            f"The options are: {'; '.join(options)}. "
            f"Weighing each against what the question states, the best fit is: {'; '.join(chosen)}."
        )
    return Trace(item, _completion(thought, item.answer), "template", {"answer": True}, label_conditioned=True)


def _completion(thought: str, answer: str) -> str:
    return f"<think>{thought}</think>\n<answer>{answer}</answer>"
