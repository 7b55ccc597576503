import json
from dataclasses import replace

import pytest

from corl.training.carry import CarriedGroup, carried_group, prompts_to_draw, with_versions


@pytest.fixture
def group(make_attempt):
    attempts = [
        replace(make_attempt("item-2", 0, True, length=4), versions=((3, 1), (5, 3))),
        replace(make_attempt("item-2", 1, length=6, finish="carried", extracted=None), versions=((5, 6),)),
        make_attempt("item-2", 2, length=0, finish="carried"),
    ]
    return CarriedGroup("item-2", 11, attempts)


def test_it_comes_back_from_json(group):
    group.attempts[0].logprobs[:3] = [-1 / 3, -1e-30, -0.0]
    again = carried_group(json.loads(json.dumps(group.plain())))
    assert again == group
    assert str(again.attempts[0].logprobs) == str(group.attempts[0].logprobs)
    assert isinstance(again.attempts[0].versions[0], tuple)


def test_the_engine_gets_tokens_log_probs_and_the_step(group):
    carried = group.for_engine("train:item-2")
    assert carried.step == 11
    for completion, attempt in zip(carried.completions, group.attempts, strict=True):
        assert (completion.id, completion.sample) == ("train:item-2", attempt.sample)
        assert (completion.ids, completion.logprobs) == (attempt.ids, attempt.logprobs)
        assert completion.finish_reason == attempt.finish_reason


def test_complete_once_every_sample_is(group):
    assert not group.complete and group.tokens == 10
    assert replace(group, attempts=group.attempts[:1]).complete


def test_versions_are_extended_by_what_is_new(group, make_attempt):
    now = [make_attempt("item-2", s, length=n) for s, n in enumerate((4, 9, 2))]
    assert [a.versions for a in with_versions(now, group, 6)] == [((3, 1), (5, 3)), ((5, 6), (6, 3)), ((6, 2),)]
    # No update in between: one run, not two.
    assert [a.versions for a in with_versions(now, group, 5)] == [((3, 1), (5, 3)), ((5, 9),), ((5, 2),)]
    assert [a.versions for a in with_versions(now, None, 8)] == [((8, 4),), ((8, 9),), ((8, 2),)]
    with pytest.raises(AssertionError, match="2 carried tokens are lost"):
        with_versions([make_attempt("item-2", 0, length=2)], replace(group, attempts=group.attempts[:1]), 6)


@pytest.mark.parametrize(("prompts", "oversample", "carried", "new"), [
    (8, 1.0, 0, 8), (8, 1.5, 0, 12), (8, 1.5, 5, 7), (10, 1.1, 0, 11), (3, 1.5, 0, 5), (4, 1.0, 6, 0), (7, 1.3, 2, 8),
])  # fmt: skip
def test_how_many_are_drawn(prompts, oversample, carried, new):
    assert prompts_to_draw(prompts, oversample, carried) == new
