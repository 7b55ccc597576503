from dataclasses import replace

import pytest

from corl.data.items import Item
from corl.data.prompts import prompt_messages, prompt_text

ITEM = Item("toy:1", "toy", "en", None, "Which is a bone?", {"A": "Femur", "B": "Aorta"}, "A", None, {})


def test_the_protocol_word_for_word():
    expected = (
        "Question: Which is a bone?\nOptions:\nA. Femur\nB. Aorta\n\nReason step by step inside <think></think>, then "
        "give only the letter of the correct option inside <answer></answer>."
    )
    assert prompt_text(ITEM) == expected
    assert prompt_text(replace(ITEM, context="RESULTS: none.")) == "RESULTS: none.\n\n" + expected


def test_chinese_items_are_asked_in_chinese():
    text = prompt_text(replace(ITEM, lang="zh", context="背景"))
    assert text.startswith("背景\n\n问题：Which is a bone?\n选项：\nA. Femur\nB. Aorta\n\n请")
    assert "Question" not in text and "Reason" not in text
    assert "<think></think>" in text and "<answer></answer>" in text


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("source", ["toy", "cmexam", "jmed"])
def test_the_prompt_depends_on_the_source_and_never_on_the_gold(lang, source):
    item = replace(ITEM, lang=lang, source=source)
    changed = replace(item, answer="A,B", id="toy:2", difficulty="easy", meta={"proof": "secret"})
    assert prompt_text(item) == prompt_text(changed)
    several = "select all that apply" if lang == "en" else "全部正确选项"
    assert (several in prompt_text(item)) == (source != "toy")


def test_messages():
    user = {"role": "user", "content": prompt_text(ITEM)}
    assert prompt_messages(ITEM) == [user]
    assert prompt_messages(ITEM, system="Be brief.") == [{"role": "system", "content": "Be brief."}, user]
    assert prompt_messages(ITEM, system="")[0] == {"role": "system", "content": ""}
