"""Embedded items have one right option, balanced letters and splits that share no path of two facts."""

from collections import Counter
from itertools import product

import pytest

from corl.rods.chain_graph import ROLES, chain_graph
from corl.rods.embedded_items import QUESTION_PHRASES, Splits, embedded_items, split_of

GRAPH = chain_graph()


@pytest.fixture(scope="module")
def splits() -> Splits:
    return embedded_items(7)


@pytest.fixture(scope="module")
def synthetic() -> Splits:
    return embedded_items(7, train=60, dev=40, held_out=40, real_share=0.0)


@pytest.fixture(params=["splits", "synthetic"])
def made(request) -> Splits:
    return request.getfixturevalue(request.param)


def facts_of(item) -> dict[str, str]:
    """head -> tail of the context, read from its text."""
    facts = dict(line.removeprefix("- ").split(" -> ") for line in item.context.splitlines())
    assert len(facts) == 12, item.id
    return facts


def test_default_counts_ids_and_difficulties(splits):
    assert [len(items) for items in splits] == [1800, 300, 600]
    for items, per_difficulty in zip(splits, (600, 100, 200), strict=True):
        assert Counter(item.difficulty for item in items) == dict.fromkeys(
            ("easy", "moderate", "difficult"), per_difficulty
        )
    ids = [item.id for items in splits for item in items]
    assert len(set(ids)) == len(ids)
    assert ids[0] == "embedded:train-000000-e"
    assert ids[-1] == "embedded:held_out-000199-d"


def test_the_context_leads_to_the_gold_option_and_to_no_other(made):
    for item in (item for items in made for item in items):
        facts = facts_of(item)
        hops = ("easy", "moderate", "difficult").index(item.difficulty) + 1
        path = [item.question.removeprefix(f"{QUESTION_PHRASES[hops - 1]} ").removesuffix("?")]
        for _ in range(hops):
            path.append(facts[path[-1]])
        assert item.options[item.answer] == path[-1]
        assert item.meta["path"] == path
        assert item.meta["hops"] == hops
        assert set(item.options.values()) == {name for name in {*facts, *facts.values()} if typed(name, hops)}
        assert len(set(item.options.values())) == 4


def typed(name: str, level: int) -> bool:
    return GRAPH.roles[name] == ROLES[level]


def test_a_context_is_four_chains_without_a_common_entity(made):
    for item in (item for items in made for item in items):
        facts = facts_of(item)
        names = {*facts, *facts.values()}
        assert Counter(GRAPH.roles[name] for name in names) == dict.fromkeys(ROLES, 4)
        assert len(set(facts.values())) == 12


def test_letters_are_balanced_per_difficulty(made):
    for items in made:
        for difficulty in ("easy", "moderate", "difficult"):
            counts = Counter(item.answer for item in items if item.difficulty == difficulty)
            assert max(counts.values()) - min(counts[letter] for letter in "ABCD") <= 1


def test_splits_share_no_path_of_two_or_more_facts(made):
    paths = []
    for name, items in zip(Splits._fields, made, strict=True):
        found = set()
        for item in items:
            facts = facts_of(item)
            for head in facts:
                path = [head]
                while path[-1] in facts:
                    path.append(facts[path[-1]])
                found |= {tuple(path[:end]) for end in range(3, len(path) + 1)}
            assert all(split_of(head, tail) == name for head, tail in facts.items() if typed(head, 1))
        paths.append(found)
    assert all(paths)
    assert not (paths[0] & paths[1] or paths[0] & paths[2] or paths[1] & paths[2])


def test_the_split_of_a_pair_is_fixed_and_near_its_share():
    pairs = list(product(GRAPH.of_role("disease"), GRAPH.of_role("drug")))
    counts = Counter(split_of(*pair) for pair in pairs)
    assert counts["train"] / len(pairs) == pytest.approx(0.7, abs=0.04)
    assert counts["dev"] / len(pairs) == pytest.approx(0.1, abs=0.02)
    assert split_of("gout", "allopurinol") == "held_out"  # a change here moves items between published splits


def test_synthetic_says_whether_every_fact_is_in_the_graph(made):
    for item in (item for items in made for item in items):
        known = all(tail in GRAPH.tails(head) for head, tail in facts_of(item).items())
        assert item.meta["synthetic"] is not known
        assert item.meta["graph"] == {"name": "embedded", "hash": GRAPH.hash}


def test_real_items_come_first_and_have_no_second_option_that_is_true(splits):
    assert not any(item.meta["synthetic"] for item in [*splits.train, *splits.held_out])
    for item in (item for items in splits for item in items if not item.meta["synthetic"]):
        true = GRAPH.reach(item.meta["path"][0], item.meta["hops"]) & set(item.options.values())
        assert true == {item.options[item.answer]}


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_real_share_is_met(share):
    items = embedded_items(3, train=40, dev=0, held_out=8, real_share=share).train
    assert sum(not item.meta["synthetic"] for item in items) == 3 * 40 * share


def test_no_two_items_ask_the_same_of_the_same_facts(made):
    items = [item for split in made for item in split]
    assert len({(item.question, frozenset(item.context.splitlines())) for item in items}) == len(items)


def test_items_are_a_function_of_the_seed(synthetic):
    small = {"train": 20, "dev": 5, "held_out": 5}
    assert embedded_items(1, **small) == embedded_items(1, **small)
    first, second = embedded_items(1, **small).train, embedded_items(2, **small).train
    assert all(a.context != b.context for a, b in zip(first, second, strict=True))
    # More items leave the earlier ones as they are, but for the letters, whose balance is over the whole.
    more = embedded_items(1, train=30, dev=5, held_out=5).train
    assert [item.meta["path"] for item in more[:20]] == [item.meta["path"] for item in first[:20]]


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0.15, 0.35), (1.0, 0.8, 1.0)], ids=["synthetic", "real"])
def test_only_real_facts_can_be_learnt_by_heart(share, low, high):
    """One-hop items answered with the training facts alone, whatever the context says."""
    made = embedded_items(1, train=200, dev=0, held_out=200, real_share=share)
    known = Counter(fact for item in made.train for fact in facts_of(item).items())
    right = 0.0
    for item in made.held_out[:200]:
        counts = {letter: known[item.meta["path"][0], name] for letter, name in item.options.items()}
        best = [letter for letter, count in counts.items() if count == max(counts.values())]
        right += (item.answer in best) / len(best)
    assert low <= right / 200 <= high


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_outside_0_to_1_is_refused(share):
    with pytest.raises(ValueError, match="real_share"):
        embedded_items(1, real_share=share)


def test_too_many_items_are_refused(monkeypatch):
    monkeypatch.setattr("corl.rods.embedded_items.MAX_DRAWS", 0)
    with pytest.raises(ValueError, match="train=1: there are only 0 new easy items"):
        embedded_items(1, train=1, dev=0, held_out=0)
