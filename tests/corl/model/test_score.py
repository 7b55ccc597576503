import pytest
import torch

from corl.model import score as score_module
from corl.model.checkpoint_io import load_model
from corl.model.score import score


def sequences(*lengths):
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(0, 97, (length,), generator=generator).tolist() for length in lengths]


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_scores_are_those_of_transformers(saved, kind, temperature):
    theirs, path = saved(kind)
    given = sequences(5, 128, 2, 40)
    scores = score(load_model(path), given, temperature=temperature)
    for ids, got in zip(given, scores, strict=True):
        with torch.no_grad():
            logits = theirs(torch.tensor([ids])).logits[0, :-1] / temperature
        want = logits.log_softmax(-1).gather(1, torch.tensor(ids)[1:, None])[:, 0]
        assert got.dtype == torch.float32 and not got.requires_grad and got.device.type == "cpu"
        torch.testing.assert_close(got, want, rtol=0, atol=1e-4)


def test_packing_changes_nothing(saved, kind):
    model = load_model(saved(kind)[1])
    given = sequences(*range(2, 60), 128, 100, 2, 3)
    together = score(model, given)
    for limit in (1, 200):
        for got, want in zip(score(model, given, max_tokens_per_pass=limit), together, strict=True):
            torch.testing.assert_close(got, want, rtol=0, atol=2e-7)


def test_passes_respect_the_budget(saved, monkeypatch):
    model = load_model(saved("llama3")[1])
    packs = []
    packed_attention = score_module.packed_attention

    def recorded(cu_seqlens, *args, **options):
        packs.append(int(cu_seqlens[-1]))
        return packed_attention(cu_seqlens, *args, **options)

    monkeypatch.setattr(score_module, "packed_attention", recorded)
    given = sequences(60, 1, 30, 30, 100, 1, 20)
    scores = score(model, given, max_tokens_per_pass=90)
    assert [len(logprobs) for logprobs in scores] == [59, 0, 29, 29, 99, 0, 19]
    assert packs == [128, 128, 64]  # 100, 60 + 30 and 30 + 20, each filled up to a multiple of 64
    assert score(model, []) == []


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ([], "sequence 1 is not a non-empty"),
        ([0.5, 1.0], "sequence 1 is not a non-empty"),
        ([3, 97], r"sequence 1 has id 97, outside 0..96"),
        ([-1, 3], "sequence 1 has id -1"),
        ([0] * 129, "sequence 1 has 129 ids, the model 128 positions"),
    ],
)
def test_bad_sequences_are_named(saved, bad, named):
    with pytest.raises(ValueError, match=named):
        score(load_model(saved("llama3")[1]), [[1, 2], bad])


@pytest.mark.parametrize(("key", "value"), [("temperature", 0.0), ("temperature", -1.0), ("max_tokens_per_pass", 0)])
def test_bad_options_are_named(saved, key, value):
    with pytest.raises(ValueError, match=key):
        score(load_model(saved("llama3")[1]), [[1, 2]], **{key: value})
