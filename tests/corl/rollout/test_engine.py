import gc
import random
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

from corl.model.attention import packed_attention
from corl.model.decoder import Decoder
from corl.model.score import score
from corl.parallel import shard_decoder
from corl.rollout import engine as engine_module
from corl.rollout.decode_memory import decode_bytes
from corl.rollout.engine import Engine
from corl.rollout.request import Carried, Completion, Request
from corl.rollout.weights import head_logits
from corl_kernels import linear_policy_loss

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
        ({"steps_per_read": 0}, "steps_per_read=0"),
        ({"max_seqs": 0}, "max_seqs=0"),
        ({"page_size": 0}, "page_size=0"),
        ({"prefill_tokens": 0}, "prefill_tokens=0"),
        ({"kv_tokens": 255}, "kv_tokens=255 holds no page"),
        ({"max_seqs": 4.0}, "max_seqs=4.0 must be an integer"),
        ({"kv_tokens": "1024"}, "kv_tokens='1024' must be an integer"),
        ({"seed": None}, "seed=None must be an integer"),
        ({"weights": "both"}, "weights='both' must be 'shared' or 'arena'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_settings(decoder, options, message):
    with pytest.raises(ValueError, match=message):
        Engine(decoder, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"step": 1.0}, "step=1.0 must"), ({"enough": -1}, "enough=-1 must"), ({"enough": 0.5}, "enough=0.5 must")],
    ids=str,
)
def test_bad_arguments_of_generate(decoder, options, message):
    with pytest.raises(ValueError, match=message):
        Engine(decoder, **ROOMY).generate([Request([1], max_tokens=3)], **options)


def test_only_a_decoder_is_a_model():
    with pytest.raises(ValueError, match="model is a str; give the Decoder that corl.load_model returns"):
        Engine("checkpoints/step_10")


def test_arguments_may_be_of_other_libraries(decoder):
    expected = Engine(decoder, seed=1, **ROOMY).generate(make_requests(stop_ids=[3, 11]), step=2)
    engine = Engine(decoder, seed=np.int64(1), max_seqs=np.uint8(200), kv_tokens=np.int64(4096), page_size=np.uint8(8))
    requests = [replace(r, prompt_ids=torch.tensor(r.prompt_ids)) for r in make_requests(stop_ids=np.array([3, 11]))]
    assert_same(by_key(engine.generate(iter(requests), step=np.int32(2))), by_key(expected))


def test_lists_that_the_caller_changes_meanwhile_change_nothing(decoder):
    expected = Engine(decoder, max_seqs=5, **TIGHT).generate(make_requests())
    requests = [replace(request, prompt_ids=list(request.prompt_ids)) for request in make_requests()]

    def change(_):
        for request in requests:
            request.prompt_ids.append(7)

    assert Engine(decoder, max_seqs=5, **TIGHT).generate(requests, on_finished=change) == expected


def test_an_interrupted_call_leaves_the_engine_in_order(decoder):
    engine = Engine(decoder, max_seqs=5, steps_per_read=3, **TIGHT)
    expected = engine.generate(make_requests())

    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.generate(make_requests(stop_ids=(3, 11)), on_finished=interrupt)
    assert engine.generate(make_requests()) == expected


def test_generate_within_generate_is_refused(decoder):
    """It would overwrite the cache that the outer call goes on with."""
    engine = Engine(decoder, max_seqs=5, **ROOMY)
    with pytest.raises(RuntimeError, match="use two engines"):
        engine.generate(make_requests(), on_finished=lambda _: engine.generate([Request([9] * 20, max_tokens=20)]))


def test_ids_and_stop_strings_that_are_no_utf8(decoder):
    tokenizer = LettersTokenizer()
    engine = Engine(decoder, tokenizer=tokenizer, **ROOMY)
    completions = engine.generate([Request(PROMPTS[1], max_tokens=4, id="\ud800", stop_strings=("\udc80",))])
    assert [(c.id, len(c.ids)) for c in completions] == [("\ud800", 4)]


def test_a_dropped_engine_frees_its_cache_at_once(decoder):
    """Not when the collector comes by: the next engine wants the memory."""
    engine = Engine(decoder, **ROOMY)
    engine.generate(make_requests())
    runner = weakref.ref(engine._runner)
    gc.disable()
    try:
        del engine
        assert runner() is None
    finally:
        gc.enable()


def test_training_goes_on_after_generation(make_decoder):
    """Nothing that generate leaves behind is an inference tensor, and nothing in the model has changed."""
    model, untouched = make_decoder().train(), make_decoder().train()
    Engine(model, **ROOMY).generate(make_requests())
    ids, cu_seqlens = torch.tensor(PROMPTS[4]), torch.tensor([0, 30]).int()
    for decoder in (model, untouched):
        decoder(ids, torch.arange(30), packed_attention(cu_seqlens, 30)).square().sum().backward()
    for parameter, expected in zip(model.parameters(), untouched.parameters(), strict=True):
        assert torch.equal(parameter.grad, expected.grad)


def test_default_cache(make_decoder):
    assert Engine(make_decoder(max_positions=512), max_seqs=4).kv_tokens == 4 * 512
    assert Engine(make_decoder(max_positions=8192), max_seqs=4).kv_tokens == 4 * 4096
    assert Engine(make_decoder(max_positions=100), max_seqs=1).kv_tokens == 256  # one page at least
    bytes_per_token = 2 * 2 * 2 * 8 * 4
    assert Engine(make_decoder(max_positions=8192), max_seqs=2048).kv_tokens == 2**30 // bytes_per_token


@pytest.mark.parametrize("weights", ["shared", "arena"])
def test_default_cache_of_a_gpu(world, make_decoder, monkeypatch, weights):
    """Of sharded weights that nobody has gathered yet: in the dtype and beside the bytes that they will have then."""
    monkeypatch.setattr(engine_module, "_free_bytes", lambda device: 10**9)
    with torch.device("meta"):
        model = Decoder(make_decoder().config)
    parameters = shard_decoder(model, world, compute_dtype=torch.bfloat16, reshard_after_forward=True)
    gathered = sum(2 * p.numel() for p in parameters.values()) if weights == "shared" else 0
    engine = Engine(model, weights=weights, reserved_bytes=10**8, page_size=1)
    steps = decode_bytes(model.config, vocab_size=61, max_seqs=256, exact=False)
    assert engine.kv_tokens == int(0.8 * (9 * 10**8 - gathered - steps)) // (2 * 2 * 2 * 8 * 2)


def test_sleep_gives_the_cache_back_and_generate_wakes(decoder):
    engine = Engine(decoder, **ROOMY)
    before = engine.generate(make_requests())
    cache = engine._runner.cache
    engine.sleep()
    assert not cache.mapped
    assert engine.generate(make_requests()) == before
    assert cache.mapped
    engine.sleep()
    engine.wake()
    assert cache.mapped
    assert engine._runner.cache is cache


def test_weights_of_another_dtype_get_a_cache_of_theirs(make_decoder):
    model = make_decoder()
    engine = Engine(model, **ROOMY)
    engine.generate(make_requests())
    before = engine._runner.cache
    model.to(torch.bfloat16)
    completions = engine.generate(make_requests())
    assert completions == Engine(model, **ROOMY).generate(make_requests())
    assert not before.mapped


@pytest.mark.parametrize("cache", [ROOMY, TIGHT], ids=["roomy", "tight"])
@pytest.mark.parametrize("steps", [3, 8, 40])
def test_several_steps_a_read_change_nothing(decoder, cache, steps):
    """Samples end within a read, of their length and of stop ids; what was drawn after that is dropped."""
    expected = Engine(decoder, max_seqs=5, **ROOMY).generate(make_requests(stop_ids=(3, 11)))
    assert len({len(completion.ids) for completion in expected}) > 4
    engine = Engine(decoder, max_seqs=5, steps_per_read=steps, **cache)
    assert_same(by_key(engine.generate(make_requests(stop_ids=(3, 11)))), by_key(expected))
    stats = engine.last_stats
    assert stats.decode_tokens + stats.beyond + stats.idle == 5 * stats.decode_steps
    assert stats.beyond > 0


def test_stats_count_every_token(decoder):
    engine = Engine(decoder, max_seqs=4, **TIGHT)
    completions = engine.generate(make_requests(n=2))
    stats, drawn = engine.last_stats, sum(len(completion.ids) for completion in completions)
    assert stats.preemptions > 0
    assert stats.prefill_tokens - stats.recomputed == sum(len(prompt) for prompt in PROMPTS)
    assert stats.recomputed > 0
    assert stats.decode_tokens < drawn - len(completions)  # a recomputed prefix draws the next token as well
    assert (stats.num_pages, stats.beyond) == (12, 0)
    assert 9 <= stats.peak_pages <= 12
    assert 0 < stats.first_token_s < stats.seconds


def go_on(engine, requests, rounds, step=3):
    """Stop after `rounds` requests each time and carry the rest; the completions, and how many went on."""
    held, begun, done = {request.id: request for request in requests}, {}, {}
    carried = 0
    while held:
        call = engine.generate(list(held.values()), step=step, carried=begun, enough=rounds)
        groups: dict[str, list] = {}
        for completion in call:
            groups.setdefault(completion.id, []).append(completion)
        for name, members in groups.items():
            unfinished = [c for c in members if c.finish_reason == "carried"]
            carried += len(unfinished)
            if unfinished:
                begun[name] = Carried(begun[name].step if name in begun else step, members)
            else:
                done |= {(c.id, c.sample): c for c in members}
                del held[name]
                begun.pop(name, None)
        step += 1
    return done, carried


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("cache", [ROOMY, TIGHT], ids=["roomy", "tight"])
def test_what_is_carried_ends_as_it_would_have(decoder, cache, steps):
    expected = by_key(Engine(decoder, max_seqs=5, **ROOMY).generate(make_requests(n=3, stop_ids=(3, 11)), step=3))
    engine = Engine(decoder, max_seqs=5, steps_per_read=steps, **cache)
    done, carried = go_on(engine, make_requests(n=3, stop_ids=(3, 11)), rounds=2)
    assert carried > 3
    assert_same(done, expected)


def test_enough_stops_at_the_first_read_with_so_many_complete(decoder):
    requests = [Request(PROMPTS[1], n=2, max_tokens=tokens, id=str(tokens)) for tokens in (20, 4, 9)]
    engine = Engine(decoder, **ROOMY)
    completions = engine.generate(requests, enough=2)
    assert [c.finish_reason for c in completions] == ["carried"] * 2 + ["length"] * 4
    assert [len(c.ids) for c in completions] == [9, 9, 4, 4, 9, 9]
    assert engine.last_stats.decode_steps == 8
    assert [len(c.ids) for c in engine.generate(requests, enough=0)] == [0] * 6
    assert engine.generate(requests, enough=7) == engine.generate(requests)


def test_a_complete_group_that_is_carried_costs_nothing(decoder):
    engine, request = Engine(decoder, **ROOMY), Request(PROMPTS[1], n=2, max_tokens=5, id="a")
    whole = engine.generate([request])
    assert engine.generate([request], step=9, carried={"a": Carried(0, whole)}) == whole
    assert engine.last_stats.prefill_tokens == 0


@pytest.mark.parametrize(
    ("carried", "message"),
    [
        ({"b": Carried(0, [])}, "'b' is the id of no request"),
        ({"a": Carried(0, [])}, "n=2; give its samples 0 to 1"),
        ({"a": Carried(0, [Completion("a", k, [1], [], "carried") for k in range(2)])}, "1 ids and 0 logprobs"),
        ({"a": Carried(0, [Completion("a", k, [1] * 4, [0.0] * 4, "carried") for k in range(2)])}, "max_tokens is 4"),
        ({"a": Carried(0, [Completion("a", k, [61], [0.0], "carried") for k in range(2)])}, r"holds 61; .* \[0, 61\)"),
        ({"a": Carried(0, [Completion("a", k, [1], [0.0], "done") for k in range(2)])}, "finish_reason='done'"),
        ({"a": Carried(0, [Completion("a", k, [], [], "stop") for k in range(2)])}, "ended without a token"),
        ({"a": Carried(None, [Completion("a", k, [1], [0.0], "carried") for k in range(2)])}, "step of 'a'=None must"),
    ],
    ids=["unknown", "samples", "logprobs", "length", "vocabulary", "reason", "empty", "step"],
)
def test_wrong_carried_samples(decoder, carried, message):
    with pytest.raises(ValueError, match=message):
        Engine(decoder, **ROOMY).generate([Request([1], n=2, max_tokens=4, id="a")], carried=carried)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_exact_mode_records_the_trainers_bits_while_decoding(make_decoder, dtype, threads, temperature):
    """Under preemption, in ragged batches, several steps a read; the trainer packs whole sequences in another order."""
    model = make_decoder(dtype=dtype)
    engine = Engine(model, max_seqs=5, exact=True, steps_per_read=3, **TIGHT)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        completions = engine.generate(make_requests(n=3, temperature=temperature))
        assert engine.last_stats.preemptions > 0
        sequences = [[*PROMPTS[int(c.id[1:])], *c.ids] for c in completions]
        random.Random(1).shuffle(order := list(range(len(sequences))))
        ids = torch.tensor([token for k in order for token in sequences[k]])
        positions = torch.cat([torch.arange(len(sequences[k])) for k in order])
        cu_seqlens = torch.tensor([0, *(len(sequences[k]) for k in order)]).cumsum(0).int()
        attend = packed_attention(cu_seqlens, max(map(len, sequences)), exact=True)

        def head(hidden, weight):
            ones = torch.ones(len(ids))
            targets = ids.roll(-1)
            settings = {"temperature": temperature or 1.0, "chunk_rows": model.head_rows}
            return linear_policy_loss(hidden, weight, targets, ones, ones, **settings).logprobs

        trained = model(ids, positions, attend, head)
    finally:
        torch.set_num_threads(before)
        model.set_exact(False)
    for place, k in enumerate(order):
        end = int(cu_seqlens[place + 1]) - 1
        recorded = torch.tensor(completions[k].logprobs)
        assert torch.equal(trained[end - len(recorded) : end], recorded)


def test_exact_mode_draws_what_fast_mode_draws(make_decoder):
    fast, exact = make_decoder(), make_decoder()
    expected = Engine(fast, max_seqs=5, **ROOMY).generate(make_requests(top_k=20))
    assert_same(
        by_key(Engine(exact, max_seqs=5, exact=True, **ROOMY).generate(make_requests(top_k=20))), by_key(expected)
    )


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
