import random
from dataclasses import replace

import pytest
import torch

from corl.model.score import score
from corl.rollout.engine import Engine
from corl.rollout.request import Request
from corl.rollout.runner import head_logits

PROMPTS = [[random.Random(i).randrange(61) for _ in range(length)] for i, length in enumerate((1, 7, 8, 19, 30, 4))]
ROOMY = {"kv_tokens": 4096, "page_size": 8}
TIGHT = {"kv_tokens": 48, "page_size": 4}  # the longest sample takes 45 of them


def make_requests(n=2, **options):
    return [Request(prompt, n=n, max_tokens=16, id=f"q{i}", **options) for i, prompt in enumerate(PROMPTS)]


def by_key(completions):
    return {(c.id, c.sample): c for c in completions}


def assert_same(got, expected):
    """The same tokens, and logprobs up to the order of fp32 sums."""
    assert got.keys() == expected.keys()
    for key, completion in got.items():
        assert completion.ids == expected[key].ids, key
        assert completion.logprobs == pytest.approx(expected[key].logprobs, abs=1e-5)
        assert completion.finish_reason == expected[key].finish_reason


class LettersTokenizer:
    """Token i is the i-th character from "!" on."""

    def decode(self, ids):
        return "".join(chr(33 + i) for i in ids)


@pytest.mark.parametrize("model_type", ["qwen2", "qwen3", "llama"])
@pytest.mark.parametrize("cache", [ROOMY, TIGHT], ids=["roomy", "tight"])
def test_greedy_is_transformers_generate(model_type, cache, tmp_path):
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    from corl.model.checkpoint_io import load_model

    torch.manual_seed(0)
    config = AutoConfig.for_model(
        model_type, vocab_size=61, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=128, initializer_range=0.2, dtype="float32",
        bos_token_id=None, eos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    reference = AutoModelForCausalLM.from_config(config).eval()
    reference.save_pretrained(tmp_path)
    engine = Engine(load_model(tmp_path), max_seqs=4, **cache)
    completions = engine.generate(make_requests(n=1, temperature=0.0))
    assert (engine.last_stats.preemptions > 0) == (cache is TIGHT)
    settings = GenerationConfig(do_sample=False, max_new_tokens=16, eos_token_id=None, pad_token_id=0)
    for prompt, completion in zip(PROMPTS, completions, strict=True):
        expected = reference.generate(torch.tensor([prompt]), generation_config=settings)[0, len(prompt) :]
        assert completion.ids == expected.tolist()


def test_a_sample_depends_on_its_key_alone(decoder):
    expected = by_key(Engine(decoder, **ROOMY).generate(make_requests(), step=3))
    shuffled = make_requests()
    random.Random(0).shuffle(shuffled)
    assert_same(by_key(Engine(decoder, max_seqs=5, **ROOMY).generate(shuffled, step=3)), expected)
    alone = by_key(Engine(decoder, max_seqs=1, **ROOMY).generate(shuffled[:2], step=3))
    assert_same(alone, {key: expected[key] for key in alone})
    tight = Engine(decoder, max_seqs=7, **TIGHT)
    assert_same(by_key(tight.generate(shuffled, step=3)), expected)
    assert tight.last_stats.preemptions > 0
    small_packs = Engine(decoder, prefill_tokens=8, **ROOMY)
    assert_same(by_key(small_packs.generate(make_requests(), step=3)), expected)


def test_every_part_of_the_key_changes_the_draws(decoder):
    request = Request([1, 2, 3], n=2, max_tokens=24, id="a")
    texts = [
        tuple(completion.ids)
        for seed, step, name in ((0, 0, "a"), (1, 0, "a"), (0, 1, "a"), (0, 0, "b"))
        for completion in Engine(decoder, seed=seed, **ROOMY).generate([replace(request, id=name)], step=step)
    ]
    assert len(set(texts)) == 8


def test_equal_calls_give_equal_completions(decoder):
    engine = Engine(decoder, max_seqs=5, **TIGHT)
    assert engine.generate(make_requests()) == engine.generate(make_requests())


def test_completions_come_in_request_order_then_sample_order(decoder):
    completions = Engine(decoder, max_seqs=4, **ROOMY).generate(make_requests(n=2, temperature=1.3))
    assert [(c.id, c.sample) for c in completions] == [(f"q{i}", j) for i in range(len(PROMPTS)) for j in range(2)]


@pytest.mark.parametrize("temperature", [0.0, 0.7])
@pytest.mark.parametrize("cache", [ROOMY, TIGHT], ids=["roomy", "tight"])
def test_logprobs_are_those_of_score(decoder, cache, temperature):
    completions = Engine(decoder, max_seqs=5, **cache).generate(make_requests(temperature=temperature))
    prompts = [PROMPTS[int(completion.id[1:])] for completion in completions]
    sequences = [[*prompt, *completion.ids] for prompt, completion in zip(prompts, completions, strict=True)]
    scored = score(decoder, sequences, temperature=temperature or 1.0)
    for prompt, completion, expected in zip(prompts, completions, scored, strict=True):
        got = torch.tensor(completion.logprobs)
        torch.testing.assert_close(got, expected[len(prompt) - 1 :], atol=1e-5, rtol=0)


def test_one_token_a_step_and_one_prefill_a_prompt(decoder, monkeypatch):
    forwarded = []
    engine = Engine(decoder, max_seqs=4, **ROOMY)

    def count(decoder, ids, *rest):
        forwarded.append(len(ids))
        return run(decoder, ids, *rest)

    run = type(decoder).run
    monkeypatch.setattr(type(decoder), "run", count)
    completions = engine.generate(make_requests(n=5))
    stats = engine.last_stats
    drawn = sum(len(completion.ids) for completion in completions)
    assert stats.prefill_tokens == sum(len(prompt) for prompt in PROMPTS)
    assert stats.decode_tokens == drawn - len(completions)  # the last token of a sample is never forwarded
    assert sum(forwarded) == stats.prefill_tokens + stats.decode_tokens
    assert stats.preemptions == 0
    assert stats.idle == 4 * stats.decode_steps - stats.decode_tokens


@pytest.mark.parametrize("cache", [ROOMY, TIGHT], ids=["roomy", "tight"])
def test_more_samples_than_rows(decoder, cache):
    expected = by_key(Engine(decoder, **ROOMY).generate([Request(PROMPTS[3], n=20, max_tokens=10, id="a")]))
    engine = Engine(decoder, max_seqs=3, **cache)
    assert_same(by_key(engine.generate([Request(PROMPTS[3], n=20, max_tokens=10, id="a")])), expected)
    assert len({tuple(completion.ids) for completion in expected.values()}) > 10


def test_every_sample_that_ends_is_told_once(decoder):
    """Also those that end with their first token, which the prefill draws."""
    ended: list[int] = []
    requests = [Request(PROMPTS[2], n=3, max_tokens=1), Request(PROMPTS[3], n=4, max_tokens=6)]
    completions = Engine(decoder, max_seqs=2, **TIGHT).generate(requests, on_finished=ended.append)
    assert sum(ended) == len(completions) == 7
    assert len(ended) > 2


def test_groups_share_the_pages_of_their_prompt(decoder):
    """8 samples of a 30-token prompt in 20 pages of 4: alone each would take 9."""
    engine = Engine(decoder, kv_tokens=80, page_size=4)
    engine.generate([Request(PROMPTS[4], n=5, max_tokens=6)])
    assert engine.last_stats.preemptions == 0


@pytest.mark.parametrize("cut", [0, 5])
def test_a_stop_id_ends_a_sample_and_belongs_to_it(decoder, cut):
    engine = Engine(decoder, **ROOMY)
    request = Request(PROMPTS[1], max_tokens=24, id="a")
    whole = engine.generate([request])[0]
    stop = whole.ids[cut]
    first = whole.ids.index(stop) + 1
    stopped = engine.generate([replace(request, stop_ids=(stop, 60))])[0]
    assert (stopped.ids, stopped.finish_reason) == (whole.ids[:first], "stop")
    assert len(stopped.logprobs) == first
    assert (len(whole.ids), whole.finish_reason) == (24, "length")


def test_a_stop_string_ends_a_sample_at_the_token_that_completes_it(decoder):
    tokenizer = LettersTokenizer()
    engine = Engine(decoder, tokenizer=tokenizer, **ROOMY)
    request = Request(PROMPTS[1], n=2, max_tokens=24, id="a")
    whole = engine.generate([request])
    string = tokenizer.decode(whole[0].ids)[10:13]
    stopped = engine.generate([replace(request, stop_strings=("\n", string))])
    end = tokenizer.decode(whole[0].ids).index(string) + 3
    assert (stopped[0].ids, stopped[0].finish_reason) == (whole[0].ids[:end], "stop")
    assert string not in tokenizer.decode(whole[1].ids)
    assert (stopped[1].ids, stopped[1].finish_reason) == (whole[1].ids, "length")


def test_truncated_sampling_keeps_to_the_most_likely(decoder):
    engine = Engine(decoder, **ROOMY)
    greedy = engine.generate([Request(PROMPTS[1], max_tokens=12, temperature=0.0, id="a")])
    for options in ({"top_k": 1}, {"top_p": 1e-6}):
        requests = [Request(PROMPTS[1], max_tokens=12, id="a", **options), Request(PROMPTS[2], max_tokens=12, id="b")]
        cut, free = engine.generate(requests)
        assert cut.ids == greedy[0].ids
        assert free.ids == engine.generate([requests[1]])[0].ids


def test_a_bad_request_stops_the_call_before_anything_is_generated(decoder):
    engine = Engine(decoder, kv_tokens=40, page_size=16)
    assert engine.kv_tokens == 32
    with pytest.raises(ValueError, match="exceeds the 32 tokens of the KV cache"):
        engine.generate([Request([1], max_tokens=3), Request([1] * 30, max_tokens=3)])
    assert engine.last_stats.prefill_tokens == 0
    with pytest.raises(ValueError, match="stop_strings"):
        engine.generate([Request([1], max_tokens=3, stop_strings=("a",))])
    assert engine.generate([]) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"exact": True}, "exact mode is not available yet"),
        ({"max_seqs": 0}, "max_seqs=0"),
        ({"page_size": 0}, "page_size=0"),
        ({"prefill_tokens": 0}, "prefill_tokens=0"),
        ({"kv_tokens": 255}, "kv_tokens=255 holds no page"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_settings(decoder, options, message):
    with pytest.raises(ValueError, match=message):
        Engine(decoder, **options)


def test_default_cache(make_decoder):
    assert Engine(make_decoder(max_positions=512), max_seqs=4).kv_tokens == 4 * 512
    assert Engine(make_decoder(max_positions=8192), max_seqs=4).kv_tokens == 4 * 4096
    assert Engine(make_decoder(max_positions=100), max_seqs=1).kv_tokens == 256  # one page at least
    bytes_per_token = 2 * 2 * 2 * 8 * 4
    assert Engine(make_decoder(max_positions=8192), max_seqs=2048).kv_tokens == 2**30 // bytes_per_token


def test_sleep_frees_the_cache_and_generate_wakes(decoder):
    engine = Engine(decoder, **ROOMY)
    before = engine.generate(make_requests())
    engine.sleep()
    assert engine._runner is None
    assert engine.generate(make_requests()) == before
    engine.sleep()
    engine.wake()
    runner = engine._runner
    engine.wake()
    assert engine._runner is runner


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_head_logits_are_exact_products_summed_in_fp32(dtype):
    hidden, weight = torch.randn(3, 16).to(dtype), torch.randn(20_000, 16).to(dtype)
    logits = head_logits(hidden, weight)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits.double(), hidden.double() @ weight.double().T, atol=1e-4, rtol=1e-5)


def test_bf16_generates(make_decoder):
    model = make_decoder(dtype=torch.bfloat16)
    completions = Engine(model, max_seqs=4, **TIGHT).generate(make_requests(n=2))
    assert all(len(completion.ids) == 16 for completion in completions)
    assert all(logprob <= 0 for completion in completions for logprob in completion.logprobs)
