import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from corl.training.batch import IGNORE, TrainSequence, micro_batch, pack

CPU = torch.device("cpu")


def sequence(k: int, length: int, prompt_len: int = 1, **fields) -> TrainSequence:
    return TrainSequence(f"s{k}", [100 * k + j for j in range(length)], prompt_len, **({"token_weight": 0.5} | fields))


@settings(max_examples=200, deadline=None)
@given(
    lengths=st.lists(st.integers(2, 40), max_size=40), budget=st.integers(39, 120), ranks=st.sampled_from([1, 2, 3, 8])
)
def test_packing_keeps_every_sequence_once_within_the_budget(lengths, budget, ranks):
    sequences = [sequence(k, length) for k, length in enumerate(lengths)]
    shares = pack(sequences, budget, ranks)
    assert len(shares) == ranks
    assert len({len(bins) for bins in shares}) == 1
    assert len(shares[0]) >= 1
    packed = [s for bins in shares for bin_ in bins for s in bin_]
    assert sorted(s.name for s in packed) == sorted(s.name for s in sequences)
    assert all(sum(len(s.ids) - 1 for s in bin_) <= budget for bins in shares for bin_ in bins)
    assert pack(sequences, budget, ranks) == shares


def test_packing_balances_the_ranks():
    sequences = [sequence(k, length + 1) for k, length in enumerate([8, 8, 4, 4, 4, 4])]
    shares = pack(sequences, 16, 2)
    assert [[sum(len(s.ids) - 1 for s in bin_) for bin_ in bins] for bins in shares] == [[16], [16]]
    # As few bins as the tokens need, where they fit.
    assert [len(bins) for bins in pack(sequences, 8, 2)] == [2, 2]


def test_without_sequences_every_rank_has_one_empty_bin():
    assert pack([], 10, 3) == [[[]], [[]], [[]]]
    assert pack([sequence(0, 5)], 10, 2) == [[[sequence(0, 5)]], [[]]]


def test_a_sequence_longer_than_the_budget_is_named():
    pack([sequence(0, 11)], 10, 1)
    with pytest.raises(ValueError, match="s1: 11 tokens exceed parallel.tokens_per_micro_batch 10"):
        pack([sequence(0, 3), sequence(1, 12)], 10, 1)


def test_a_prompt_without_completion_is_a_bug():
    for prompt_len in (0, 4):
        with pytest.raises(AssertionError, match="s0"):
            sequence(0, 4, prompt_len)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=6))
def test_a_micro_batch_is_what_its_sequences_say_one_token_at_a_time(shapes):
    sequences = []
    for k, (p, c) in enumerate(shapes):
        logprobs = [-k - j / 8 for j in range(c)]
        sequences.append(sequence(k, p + c, p, advantage=k - 1.5, token_weight=1 / (k + 1), rollout_logprobs=logprobs))
    batch = micro_batch(sequences, CPU)
    learnt = []
    for k, (s, (p, c)) in enumerate(zip(sequences, shapes, strict=True)):
        begin, end = batch.cu_seqlens[k : k + 2].tolist()
        assert batch.input_ids[begin:end].tolist() == s.ids[:-1]
        assert batch.position_ids[begin:end].tolist() == list(range(p + c - 1))
        for j in range(c):
            # (row whose next token is learnt, that token, advantage, weight, the engine's log-prob)
            learnt.append((begin + p + j - 1, s.ids[p + j], k - 1.5, 1 / (k + 1), -k - j / 8))
        assert batch.target_cu_seqlens[k + 1] == len(learnt)
    assert batch.cu_seqlens[-1] == len(batch.input_ids) == len(batch.position_ids)
    assert batch.cu_seqlens[0] == batch.target_cu_seqlens[0] == 0
    assert batch.max_seqlen == max(p + c - 1 for p, c in shapes)
    columns = [batch.rows, batch.targets, batch.advantages, batch.token_weights, batch.rollout_logprobs]
    for column, expected in zip(columns, zip(*learnt, strict=True), strict=True):
        torch.testing.assert_close(column, torch.tensor(expected, dtype=column.dtype), rtol=0, atol=0)
    assert [c.dtype for c in columns] == [torch.int64] * 2 + [torch.float32] * 3
    assert batch.cu_seqlens.dtype == batch.target_cu_seqlens.dtype == torch.int32


def test_an_empty_bin_is_one_token_that_counts_for_nothing():
    batch = micro_batch([], CPU)
    assert batch.targets.tolist() == [IGNORE]
    assert batch.token_weights.tolist() == batch.advantages.tolist() == [0.0]
    assert len(batch.input_ids) == len(batch.position_ids) == 1
    assert batch.cu_seqlens.tolist() == batch.target_cu_seqlens.tolist() == [0, 1]
    assert batch.sequences == []


def test_traces_have_no_log_probs_of_an_engine():
    assert micro_batch([sequence(0, 4), sequence(1, 5)], CPU).rollout_logprobs is None
