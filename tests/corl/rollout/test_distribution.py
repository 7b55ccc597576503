"""Samples are distributed as the model says, also where top_k and top_p cut; their log-probs stay the whole model's."""

import pytest
import torch

from corl.model.score import score
from corl.rollout.engine import Engine
from corl.rollout.request import Request

VOCAB, SAMPLES = 61, 6000
PROMPT = [3, 14, 15, 9, 26]
CACHE = {"max_seqs": 1000, "kv_tokens": 20_000, "page_size": 8}


def next_token_probs(model, prefix, temperature):
    """softmax(logits / temperature) of the token after `prefix`, from the trainer's scores."""
    scored = score(model, [[*prefix, token] for token in range(VOCAB)], temperature=temperature)
    return torch.stack([row[-1] for row in scored]).double().exp()


def assert_chi_square(counts, probs):
    """Pearson's statistic within 4 standard deviations of its mean; tokens that are rare together count as one."""
    expected = probs * counts.sum()
    assert counts[expected == 0].sum() == 0
    common = expected >= 8
    observed = torch.cat((counts[common], counts[~common].sum()[None])).double()
    wanted = torch.cat((expected[common], expected[~common].sum()[None]))
    observed, wanted = observed[wanted > 0], wanted[wanted > 0]
    degrees = len(wanted) - 1
    assert degrees > 3
    statistic = ((observed - wanted) ** 2 / wanted).sum().item()
    assert abs(statistic - degrees) < 4 * (2 * degrees) ** 0.5, (statistic, degrees)


def counts_of(tokens):
    return torch.bincount(torch.tensor(tokens), minlength=VOCAB)


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.6])
def test_first_and_second_tokens_follow_the_model(decoder, temperature):
    request = Request(PROMPT, n=SAMPLES, max_tokens=2, temperature=temperature)
    completions = Engine(decoder, **CACHE).generate([request])
    first = counts_of([c.ids[0] for c in completions])
    assert_chi_square(first, next_token_probs(decoder, PROMPT, temperature))
    favourite = int(first.argmax())
    second = [c.ids[1] for c in completions if c.ids[0] == favourite]
    assert_chi_square(counts_of(second), next_token_probs(decoder, [*PROMPT, favourite], temperature))


@pytest.mark.parametrize(("top_k", "top_p"), [(12, 1.0), (0, 0.8), (20, 0.9)])
def test_cut_samples_follow_the_cut_model_and_record_the_whole_one(decoder, top_k, top_p):
    whole = next_token_probs(decoder, PROMPT, 1.0)
    ordered, order = whole.sort(descending=True)
    kept = ordered.clone()
    kept[top_k or VOCAB :] = 0
    kept /= kept.sum()
    kept[kept.cumsum(0) - kept >= top_p] = 0
    cut = torch.zeros_like(whole).scatter(0, order, kept / kept.sum())
    request = Request(PROMPT, n=SAMPLES, max_tokens=1, top_k=top_k, top_p=top_p)
    completions = Engine(decoder, **CACHE).generate([request])
    assert_chi_square(counts_of([c.ids[0] for c in completions]), cut)
    recorded = torch.tensor([c.logprobs[0] for c in completions])
    torch.testing.assert_close(recorded, whole.log().float()[[c.ids[0] for c in completions]], atol=1e-5, rtol=0)
