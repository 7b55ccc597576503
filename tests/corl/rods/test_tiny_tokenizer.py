"""The saved directory, read back by transformers, makes the token sequence the tiny model is sized for."""

import pytest

from corl.data.prompts import INSTRUCTION_EN, prompt_messages
from corl.data.tokenizer import Tokenizer
from corl.grading import grade
from corl.rods.chain_graph import chain_graph
from corl.rods.embedded_items import QUESTION_PHRASES, embedded_items
from corl.rods.tiny_tokenizer import save_tiny_tokenizer
from corl.rods.traces import trace

ITEMS = embedded_items(5, train=8, dev=0, held_out=0).train


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer")
    save_tiny_tokenizer(path)
    return path


@pytest.fixture(scope="module")
def tokenizer(folder):
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast.from_pretrained(folder)


def test_the_directory_is_a_hugging_face_tokenizer(folder):
    assert {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"} <= {
        path.name for path in folder.iterdir()
    }
    ours = Tokenizer.from_directory(folder)
    end = ours.encode("<|im_end|>")
    assert (ours.eos_id, ours.end_of_turn_ids, ours.stop_ids, ours.prefill) == (end[0], tuple(end), tuple(end), "")


@pytest.mark.parametrize("index", [0, 8, 16], ids=["1 hop", "2 hops", "3 hops"])
def test_a_prompt_is_these_54_tokens(tokenizer, index):
    item = ITEMS[index]
    facts = [line.removeprefix("- ").split(" -> ") for line in item.context.splitlines()]
    expected = ["<|im_start|>", "user"]
    expected += [token for head, tail in facts for token in ("-", head, tail)]
    expected += ["Question", QUESTION_PHRASES[index // 8], item.meta["path"][0], "Options"]
    expected += [token for option in item.options.items() for token in option]
    expected += [INSTRUCTION_EN, "<|im_end|>", "<|im_start|>", "assistant"]
    ids = tokenizer.apply_chat_template(prompt_messages(item), add_generation_prompt=True)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == expected
    assert len(ids) == 54


def test_every_prompt_is_54_tokens_without_an_unknown_one(tokenizer):
    for item in ITEMS:
        ids = tokenizer.apply_chat_template(prompt_messages(item), add_generation_prompt=True)["input_ids"]
        assert len(ids) == 54
        assert tokenizer.unk_token_id not in ids


@pytest.mark.parametrize("index", [0, 8, 16], ids=["1 hop", "2 hops", "3 hops"])
def test_a_completion_is_path_options_letter_and_tags(tokenizer, index):
    item = ITEMS[index]
    ids = tokenizer.encode(trace(item).completion + "<|im_end|>", add_special_tokens=False)
    read = [part for letter, text in item.options.items() if letter <= item.answer for part in (letter, text)]
    tokens = ["<think>", *item.meta["path"], *read, "</think>", "<answer>", item.answer, "</answer>"]
    assert tokenizer.convert_ids_to_tokens(ids) == [*tokens, "<|im_end|>"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == " ".join(tokens)


def test_every_decoded_trace_is_graded_correct(folder):
    ours = Tokenizer.from_directory(folder)
    for item in ITEMS:
        text = ours.decode([*ours.encode(trace(item).completion), ours.eos_id])
        verdict = grade(text, item.options, item.answer)
        assert (verdict.format_ok, verdict.correct) == (True, True), text


def test_every_name_is_one_token_and_survives_a_round_trip(tokenizer):
    for name in chain_graph().roles:
        assert tokenizer.tokenize(name) == [name]
        assert tokenizer.decode(tokenizer.encode(name)) == name


def test_tags_are_ordinary_and_turn_marks_special(tokenizer):
    assert set(tokenizer.all_special_tokens) == {"<|im_start|>", "<|im_end|>", "<|endoftext|>", "<unk>"}
    assert tokenizer.convert_tokens_to_ids("<think>") != tokenizer.unk_token_id
    assert len(tokenizer) == 4 + 10 + 1 + 3 + 26 + len(chain_graph().roles)


def test_unknown_words_do_not_swallow_known_tokens(tokenizer):
    assert tokenizer.tokenize("aspirin -> gout:\n A</think>") == ["<unk>", "gout", "A", "</think>"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["gout", "acute gout"], "'gout' is part of 'acute gout'"),
        (["gout", "gout"], "twice"),
        (["A"], "twice"),
        (["vitamin: D"], "holds outer spaces"),
        (["Reason step"], "is part of"),
    ],
    ids=["substring", "repeated", "letter", "mark", "instruction"],
)
def test_ambiguous_names_are_refused(tmp_path, names, message):
    with pytest.raises(ValueError, match=message):
        save_tiny_tokenizer(tmp_path / "none", names)
    assert not (tmp_path / "none").exists()
