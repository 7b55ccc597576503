from itertools import islice

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from corl.config import ColdStart, Optim
from corl.data.items import Trace
from corl.data.prompts import prompt_messages
from corl.data.tokenizer import Tokenizer
from corl.rods.embedded_items import embedded_items
from corl.rods.traces import trace
from corl.training.batch import TrainSequence, micro_batch
from corl.training.sft import encode_trace, likelihood_head, trace_batches
from corl.training.tiny_base import write_tiny_files


@pytest.fixture(scope="session")
def make_traces(make_item):
    def make(**tiers: int) -> list[Trace]:
        names = [tier for tier, count in tiers.items() for _ in range(count)]
        items = [make_item(k, None if tier == "none" else tier) for k, tier in enumerate(names)]
        return [Trace(item, "<think>x</think>\n<answer>A</answer>", "test", {}, False) for item in items]

    return make


def stage(count, mix=None):
    return ColdStart(optim=Optim(lr=1e-3), traces_per_step=count, mix=mix)


def batches(traces, settings, steps, *, seed=1, done=0):
    return list(islice(trace_batches(traces, settings, seed, done), steps))


@pytest.mark.parametrize(("total", "count"), [(12, 4), (10, 4), (7, 3), (5, 5), (3, 7)])
def test_without_a_mix_an_epoch_covers_everything_before_anything_repeats(make_traces, total, count):
    order = [i for batch in batches(make_traces(none=total - 1, easy=1), stage(count), 4 * total) for i in batch]
    epochs = [order[k : k + total] for k in range(0, len(order) - total + 1, total)]
    assert len(epochs) >= 4
    assert all(sorted(epoch) == list(range(total)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1 or total < 4
    assert all(len(batch) == count for batch in batches(make_traces(none=total), stage(count), 5))


def test_every_tier_of_a_mix_is_covered_before_it_repeats(make_traces):
    traces = make_traces(easy=9, moderate=7, difficult=5, none=3)
    mix = {"easy": 0.45, "moderate": 0.45, "difficult": 0.1}
    order = [i for batch in batches(traces, stage(8, mix), 120) for i in batch]
    assert max(order) < 21
    for first, count in ((0, 9), (9, 7), (16, 5)):
        of_tier = [i for i in order if first <= i < first + count]
        epochs = [of_tier[k : k + count] for k in range(0, len(of_tier) - count + 1, count)]
        assert len(epochs) >= 15
        assert all(sorted(epoch) == list(range(first, first + count)) for epoch in epochs)


@pytest.mark.parametrize("count", [1, 6, 8, 64])
def test_the_shares_of_a_mix_hold(make_traces, count):
    traces = make_traces(easy=30, moderate=30, difficult=30)
    mix = {"easy": 4.0, "moderate": 5.0, "difficult": 1.0}
    steps = 150
    drawn = [0, 0, 0]
    for batch in batches(traces, stage(count, mix), steps):
        assert len(batch) == count
        per_tier = [sum(i // 30 == tier for i in batch) for tier in range(3)]
        for tier, share in enumerate((0.4, 0.5, 0.1)):
            assert abs(per_tier[tier] - count * share) < 1 + 1e-6
            drawn[tier] += per_tier[tier]
    for tier, share in enumerate((0.4, 0.5, 0.1)):
        assert drawn[tier] / (steps * count) == pytest.approx(share, abs=0.13 / count)


def test_a_tier_without_traces_leaves_its_share_to_the_others(make_traces):
    batch = batches(make_traces(easy=6, moderate=6), stage(6, {"easy": 1.0, "moderate": 1.0, "difficult": 1.0}), 1)[0]
    assert [sum(i < 6 for i in batch), sum(i >= 6 for i in batch)] == [3, 3]


@settings(max_examples=30, deadline=None)
@given(done=st.integers(0, 40), count=st.integers(1, 9), seed=st.integers(0, 2**40), mixed=st.booleans())
def test_a_run_resumed_at_any_step_goes_on_alike(make_traces, done, count, seed, mixed):
    traces = make_traces(easy=5, moderate=4, difficult=2)
    settings = stage(count, {"easy": 1.0, "moderate": 2.0} if mixed else None)
    whole = batches(traces, settings, done + 3, seed=seed)
    assert batches(traces, settings, 3, seed=seed, done=done) == whole[done:]


def test_another_seed_is_another_order(make_traces):
    traces = make_traces(none=30)
    assert batches(traces, stage(10), 1, seed=1) != batches(traces, stage(10), 1, seed=2)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    write_tiny_files(folder)
    return Tokenizer.from_directory(folder)


@pytest.fixture(scope="module")
def lesson():
    return trace(embedded_items(0, train=40, dev=1, held_out=1).train[0])


def test_a_trace_is_its_prompt_its_completion_and_the_end_of_turn(tokenizer, lesson):
    ids, prompt_len = encode_trace(lesson, tokenizer, None)
    assert ids[:prompt_len] == tokenizer.encode_prompt(prompt_messages(lesson.item, system=None))
    completion = [*tokenizer.encode(lesson.completion), *tokenizer.end_of_turn_ids]
    assert ids[prompt_len:] == completion
    assert ids[-1] in tokenizer.stop_ids


@pytest.mark.parametrize("prefill", ["<think>", "<think>\n"])
def test_a_prefilled_think_is_not_said_twice(tokenizer, lesson, monkeypatch, prefill):
    plain, prompt_len = encode_trace(lesson, tokenizer, None)
    monkeypatch.setattr(tokenizer, "prefill", prefill)
    assert lesson.completion.startswith("<think>")
    ids, _ = encode_trace(lesson, tokenizer, None)
    assert ids[prompt_len:] == plain[prompt_len + len(tokenizer.encode("<think>")) :]


def test_the_loss_is_the_cross_entropy_of_the_completion_alone(make_decoder):
    weight = make_decoder().head_weight.detach()
    sequences = [TrainSequence("a", [1, 2, 3, 4, 5], 3, 0.2, 1.0), TrainSequence("b", [6, 7, 8, 9], 1, 0.2, 1.0)]
    batch = micro_batch(sequences, torch.device("cpu"))
    hidden = torch.randn(len(batch.input_ids), weight.shape[1], generator=torch.Generator().manual_seed(0))
    loss = likelihood_head(batch)(hidden[batch.rows], weight, None)[0]
    learnt = {2: 4, 3: 5, 4: 7, 5: 8, 6: 9}  # row -> next token
    expected = sum(-0.2 * (hidden[row] @ weight.T).log_softmax(-1)[token] for row, token in learnt.items())
    torch.testing.assert_close(loss, expected)
