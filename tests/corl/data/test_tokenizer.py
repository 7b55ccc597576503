import json
import subprocess
import sys

import pytest
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Backend
from transformers import PreTrainedTokenizerFast

from corl.data.items import Item
from corl.data.prompts import prompt_messages
from corl.data.tokenizer import Tokenizer, encode_prompts

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CHATML_THINK = CHATML.replace("assistant\n{% endif", "assistant\n<think>\n{% endif")
CHATML_NO_THINK = CHATML.replace("assistant\n{% endif", "assistant\n<think>\n\n</think>\n\n{% endif")
PLAIN_TURNS = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
END, START, STOP = 0, 1, 2  # ids of <|endoftext|>, <|im_start|>, <|im_end|>
MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Where is the sternum?\n"}]


def make_directory(path, *, template=CHATML, eos="<|im_end|>", special=(), bos=False, config=None, generation=None):
    backend = Backend(models.BPE())
    # Words of up to three characters, so that another class's pre-tokenizer gives other ids.
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.FixedLength(3), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(["the question is about the bone and the answer"] * 4, trainer)
    backend.add_special_tokens([AddedToken(tag, special=True) for tag in special])
    if bos:
        backend.post_processor = processors.TemplateProcessing(
            single="<|im_start|> $A", special_tokens=[("<|im_start|>", START)]
        )
    names = {"eos_token": eos, "pad_token": "<|endoftext|>", "bos_token": "<|im_start|>" if bos else None}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **{k: v for k, v in names.items() if v})
    tokenizer.chat_template = template
    tokenizer.save_pretrained(path)
    for name, content in (("config.json", config), ("generation_config.json", generation)):
        if content is not None:
            (path / name).write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("template", [CHATML, CHATML_THINK, PLAIN_TURNS])
@pytest.mark.parametrize("where", ["chat_template.jinja", "tokenizer_config.json"])
def test_prompts_are_those_of_the_directory_s_template(tmp_path, template, where):
    directory = make_directory(tmp_path, template=template)
    if where == "tokenizer_config.json":
        (directory / "chat_template.jinja").unlink()
        config = json.loads((directory / where).read_text())
        (directory / where).write_text(json.dumps({**config, "chat_template": template}))
    reference = PreTrainedTokenizerFast.from_pretrained(directory)
    tokenizer = Tokenizer.from_directory(directory)
    assert tokenizer.has_chat_template
    expected = reference.apply_chat_template(MESSAGES, add_generation_prompt=True)["input_ids"]
    assert tokenizer.encode_prompt(MESSAGES) == expected
    text = reference.apply_chat_template(MESSAGES, add_generation_prompt=True, tokenize=False)
    assert tokenizer.render(MESSAGES) == text
    assert tokenizer.encode_prompt(MESSAGES, prefill="<think>") == tokenizer.encode(text + "<think>")


def test_without_a_template_a_prompt_is_its_text_and_a_newline(tmp_path):
    tokenizer = Tokenizer.from_directory(make_directory(tmp_path, template=None))
    assert not tokenizer.has_chat_template and tokenizer.prefill == ""
    assert tokenizer.render(MESSAGES[1:]) == "Where is the sternum?\n\n"
    assert tokenizer.encode_prompt(MESSAGES[1:]) == tokenizer.encode("Where is the sternum?\n\n")
    assert tokenizer.end_of_turn_ids == (STOP,)


def test_a_tokenizer_that_begins_with_bos_does_so_in_a_bare_prompt(tmp_path):
    bare = Tokenizer.from_directory(make_directory(tmp_path / "bare", template=None, bos=True))
    assert bare.encode("the bone")[0] != START
    assert bare.encode_prompt(MESSAGES[1:]) == [START, *bare.encode("Where is the sternum?\n\n")]
    chat = Tokenizer.from_directory(make_directory(tmp_path / "chat", bos=True))
    assert chat.encode_prompt(MESSAGES).count(START) == 3  # the template's own, one a turn


def test_the_saved_pre_tokenizer_is_used_whatever_the_configs_say(tmp_path):
    directory = make_directory(tmp_path, config={"model_type": "qwen2", "eos_token_id": STOP})
    config = json.loads((directory / "tokenizer_config.json").read_text())
    (directory / "tokenizer_config.json").write_text(json.dumps({**config, "tokenizer_class": "Qwen2Tokenizer"}))
    text = "the question about  the sternum 1234"
    saved = Backend.from_file(str(directory / "tokenizer.json")).encode(text, add_special_tokens=False).ids
    assert Tokenizer.from_directory(directory).encode(text) == saved


@pytest.mark.parametrize("text", ["", "the bone", " a  b\n", "甲状腺 ü €", "it 's , a ."])
def test_encode_and_decode_are_inverse(tmp_path, text):
    tokenizer = Tokenizer.from_directory(make_directory(tmp_path))
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_decoding_drops_special_tokens_but_keeps_the_protocol_s_tags(tmp_path):
    tags = ("<think>", "</think>", "<answer>", "</answer>")
    tokenizer = Tokenizer.from_directory(make_directory(tmp_path, special=tags))
    ids = tokenizer.encode("<think>the</think>\n<answer>B</answer><|im_end|>")
    assert ids[-1] == STOP and len(ids) < 12
    assert tokenizer.decode(ids) == "<think>the</think>\n<answer>B</answer>"
    assert tokenizer.decode(ids, skip_special=False).endswith("</answer><|im_end|>")


@pytest.mark.parametrize(
    ("generation", "config", "eos", "expected"),
    [
        (None, None, "<|im_end|>", (STOP,)),
        ({"eos_token_id": [7, END]}, {"eos_token_id": 5}, "<|im_end|>", (END, STOP, 5, 7)),
        ({"eos_token_id": None}, {}, "<|im_end|>", (STOP,)),
        (None, {"eos_token_id": END}, None, (END, STOP)),
        (None, None, "<|endoftext|>", (END, STOP)),
    ],
)
def test_stop_ids_are_the_union_and_the_end_of_turn(tmp_path, generation, config, eos, expected):
    tokenizer = Tokenizer.from_directory(make_directory(tmp_path, eos=eos, config=config, generation=generation))
    assert tokenizer.stop_ids == tuple(sorted(expected))
    assert tokenizer.eos_id == (END if eos != "<|im_end|>" else STOP)
    assert tokenizer.pad_id == END


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (CHATML, (STOP,)),
        (CHATML_THINK, (STOP,)),
        (CHATML.replace("<|im_end|>", "<|endoftext|>"), (END,)),
        (CHATML.replace("<|im_end|>", "{{ '<|im_end|>' if m['role'] == 'assistant' else '<|endoftext|>' }}"), (STOP,)),
        (PLAIN_TURNS, (STOP,)),  # its turns end in a newline, which ends nothing: eos
    ],
)
def test_end_of_turn_is_what_the_template_puts_after_an_answer(tmp_path, template, expected):
    assert Tokenizer.from_directory(make_directory(tmp_path, template=template)).end_of_turn_ids == expected


def test_text_before_the_end_token_belongs_to_the_end_of_turn(tmp_path):
    tokenizer = Tokenizer.from_directory(
        make_directory(tmp_path, template=CHATML.replace("<|im_end|>", "\n<|im_end|>"))
    )
    assert tokenizer.end_of_turn_ids == (*tokenizer.encode("\n"), STOP)


@pytest.mark.parametrize(
    ("template", "prefill"), [(CHATML, ""), (CHATML_THINK, "<think>\n"), (CHATML_NO_THINK, ""), (PLAIN_TURNS, "")]
)
def test_prefill_is_the_thinking_the_generation_prompt_opens(tmp_path, template, prefill):
    assert Tokenizer.from_directory(make_directory(tmp_path, template=template)).prefill == prefill


@pytest.mark.parametrize("template", [CHATML, CHATML_THINK, PLAIN_TURNS])
def test_a_think_can_be_opened_whatever_the_template(tmp_path, template):
    tokenizer = Tokenizer.from_directory(make_directory(tmp_path, template=template), opens_think=True)
    assert tokenizer.prefill == "<think>\n"
    rendered = tokenizer.render(MESSAGES)
    assert rendered.endswith("<think>\n") and rendered.count("<think>") == 1


def test_think_in_the_user_s_turn_is_no_prefill(tmp_path):
    instruct = CHATML.replace("{% for", "Write <think>.\n{% for", 1)
    assert Tokenizer.from_directory(make_directory(tmp_path, template=instruct)).prefill == ""


def test_errors_name_the_directory(tmp_path):
    with pytest.raises(ValueError, match=f"{tmp_path} holds no tokenizer.json"):
        Tokenizer.from_directory(tmp_path)
    without_eos = make_directory(tmp_path / "no_eos", eos=None)
    with pytest.raises(ValueError, match=f"{without_eos}.*no end-of-sequence token"):
        Tokenizer.from_directory(without_eos)
    directory = make_directory(tmp_path / "bad", config={"eos_token_id": "2"})
    with pytest.raises(ValueError, match=r"config\.json: eos_token_id is '2'"):
        Tokenizer.from_directory(directory)
    (directory / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is not a JSON object"):
        Tokenizer.from_directory(directory)


def test_overlong_prompts(tmp_path):
    tokenizer = Tokenizer.from_directory(make_directory(tmp_path))
    short, long, other = (
        Item(f"toy:{n}", "toy", "en", None, "bone " * size, {"A": "x", "B": "y"}, "A", None, {})
        for n, size in enumerate((1, 60, 2))
    )
    prompts = [tokenizer.encode_prompt(prompt_messages(item, system="s")) for item in (short, long, other)]
    items, limit = [short, long, other], len(prompts[2])
    assert len(prompts[0]) < limit < len(prompts[1])
    kept = encode_prompts(items, tokenizer, system="s", limit=limit, overlong="drop")
    assert kept == ([short, other], [prompts[0], prompts[2]], ["toy:1"])
    assert encode_prompts(items, tokenizer, system="s", limit=len(prompts[1]), overlong="error")[1] == prompts
    with pytest.raises(ValueError, match=f"1 of 3 prompts .* {limit} tokens, .* 'toy:1'; .* {len(prompts[1])}"):
        encode_prompts(items, tokenizer, system="s", limit=limit, overlong="error")
    with pytest.raises(ValueError, match="3 of 3 prompts"):
        encode_prompts(items, tokenizer, system=None, limit=1, overlong="drop")
    with pytest.raises(ValueError, match="overlong='cut'"):
        encode_prompts(items, tokenizer, system=None, limit=1, overlong="cut")


def test_importing_the_module_does_not_import_transformers():
    code = "import sys, corl.data.tokenizer, corl.data.importing; sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
