from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corl.data.items import Item
from corl.data.prompts import open_think, prompt_messages, prompt_text
from corl.grading import grade

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


@pytest.mark.parametrize("lang", ["zh", "zh-CN", "ZH-Hans", "en", "es", "zhx"])
def test_regions_of_chinese_are_chinese_and_every_other_language_is_asked_in_english(lang):
    assert ("问题" in prompt_text(replace(ITEM, lang=lang))) == (lang[:3].lower() in ("zh", "zh-"))


TEXT = st.text(min_size=1).filter(str.strip)


@given(
    st.sampled_from(["medmcqa", "cmexam", "jmed", "medqa", "pubmedqa", "own"]),
    st.sampled_from(["en", "zh"]),
    st.none() | TEXT,
    TEXT,
    st.lists(TEXT, min_size=2, max_size=26),
    st.data(),
)
def test_no_gold_changes_the_prompt_of_any_item(source, lang, context, question, texts, data):
    options = {chr(65 + k): text for k, text in enumerate(texts)}
    golds = [",".join(sorted(data.draw(st.sets(st.sampled_from(list(options)), min_size=1)))) for _ in range(2)]
    kinds = [{"choice_type": "multi"}, {"choice_type": "single"}]
    one, two = (
        Item(f"x:{gold}", source, lang, context, question, options, gold, None, kind)
        for gold, kind in zip(golds, kinds, strict=True)
    )
    assert prompt_text(one) == prompt_text(two) and prompt_messages(one, system="s") == prompt_messages(two, system="s")


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


@pytest.mark.parametrize("by_template", ["", "<think>\n"])
def test_a_completion_inside_an_opened_think_is_well_formed_with_what_was_opened(by_template):
    prefill = by_template + open_think(by_template)
    assert prefill == "<think>\n"
    completion = "it is a bone</think>\n<answer>A</answer>"
    assert grade(completion, ITEM.options, "A", prefill=prefill).format_ok
    assert not grade(completion, ITEM.options, "A").format_ok
