"""The choice among drawn questions: bounds, order, letters, and the most items that can be had."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corl.config.rods import RodsSample
from corl.rods.sampling.draws import MAX_CLUES, MAX_PATH, Draws
from corl.rods.sampling.selection import (
    LEAN_ROOM,
    LEAN_SLACK,
    RANK_ROOM,
    RANK_SLACK,
    Candidates,
    Effort,
    Selection,
    Supply,
    letters,
    most_items,
    most_of_one_answer,
    same_question,
)

SETTINGS = RodsSample()


def candidates(
    count: int, *, seed: int = 0, questions: int = 10**6, answers: int = 1000, rare: float = 0.7, options: int = 4
) -> Candidates:
    rng = np.random.default_rng(seed)
    return Candidates(
        same=rng.integers(questions, size=count).astype(np.uint64),
        reading=rng.integers(10**9, size=count).astype(np.uint64),
        answer=rng.integers(answers, size=count),
        rare=rng.random(count) < rare,
        ranks=rng.integers(options, size=(count, 5)),
        leans=rng.normal(size=(count, 5)),
    )


def only(pool: Candidates, **columns: np.ndarray) -> Candidates:
    return replace(pool, **columns)


@pytest.mark.parametrize(
    "items, share, most", [(1, 0.02, 1), (99, 0.02, 1), (100, 0.02, 2), (2000, 0.02, 40), (7, 1, 7)]
)
def test_an_answer_stands_in_its_share_of_the_items_or_once(items: int, share: float, most: int) -> None:
    assert most_of_one_answer(items, replace(SETTINGS, answer_share=share)) == most


def test_everything_taken_is_within_the_bounds_in_every_prefix() -> None:
    # Ranks, leans and rarity come as unevenly as a graph may give them.
    pool = candidates(20000, answers=90, rare=0.3)
    seldom = (np.arange(20000) % 3 == 0)[:, None]
    pool = only(pool, ranks=np.where(seldom, np.minimum(pool.ranks, 2), pool.ranks), leans=pool.leans + 0.2)
    selection = Selection.of(600, SETTINGS)
    rows = selection.take(pool)
    assert selection.full
    assert rows == sorted(set(rows))
    assert len(rows) == 600
    assert len(set(pool.same[rows].tolist())) == len(set(pool.reading[rows].tolist())) == 600
    assert max(Counter(pool.answer[rows].tolist()).values()) <= 12
    count = np.arange(1, 601)
    assert (np.cumsum(pool.rare[rows]) >= 0.5 * count).all()
    for feature in range(5):
        for rank in range(4):
            of_rank = np.cumsum(pool.ranks[rows, feature] == rank)
            assert (of_rank <= count / 4 * (1 + RANK_SLACK) + RANK_ROOM).all()
        assert (np.abs(np.cumsum(pool.leans[rows, feature])) <= LEAN_ROOM + LEAN_SLACK * count).all()
    assert selection.rejected.total() + 600 == rows[-1] + 1


def test_a_lean_that_is_too_far_may_come_back() -> None:
    pool = only(candidates(4), leans=np.array([[6.0], [1], [-2.5], [1.2]]), ranks=np.zeros((4, 1), np.int64))
    pool = only(pool, rare=np.ones(4, bool), ranks=np.arange(4)[:, None])
    assert Selection.of(4, SETTINGS).take(pool) == [0, 2, 3]


def test_the_first_that_fits_is_taken_whatever_the_blocks() -> None:
    pool = candidates(3000, answers=60)
    whole, parts = Selection.of(400, SETTINGS), Selection.of(400, SETTINGS)
    rows = whole.take(pool)
    cut = []
    for start in range(0, 3000, 7):
        part = Candidates(*(column[start : start + 7] for column in columns(pool)))
        cut += [start + row for row in parts.take(part)]
    assert cut == rows
    assert parts.rejected == whole.rejected


def columns(pool: Candidates) -> tuple[np.ndarray, ...]:
    return pool.same, pool.reading, pool.answer, pool.rare, pool.ranks, pool.leans


@pytest.mark.parametrize(
    "reason, columns",
    [
        ("same_question", {"same": np.zeros(50, np.uint64)}),
        ("same_text", {"reading": np.zeros(50, np.uint64)}),
        ("answer_share", {"answer": np.zeros(50, np.int64)}),
        ("common_answer", {"rare": np.zeros(50, bool)}),
        ("answer_rank", {"ranks": np.zeros((50, 5), np.int64)}),
        ("answer_lean", {"leans": np.ones((50, 5))}),
    ],
)
def test_each_reason_is_counted(reason: str, columns: dict[str, np.ndarray]) -> None:
    plain = candidates(50)
    distinct = only(plain, answer=np.arange(50), ranks=np.arange(250).reshape(50, 5) % 4, leans=0 * plain.leans)
    distinct = only(distinct, rare=np.ones(50, bool))
    selection = Selection.of(20, SETTINGS)
    taken = selection.take(only(distinct, **columns))
    assert len(taken) < 20
    assert selection.rejected[reason] == 50 - len(taken)


def test_a_question_passed_over_may_come_again_with_other_options() -> None:
    pool = only(candidates(2), same=np.array([5, 5], np.uint64), rare=np.array([False, True]))
    assert Selection.of(1, SETTINGS).take(pool) == [1]


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**64 - 1), st.integers(1, 70), st.integers(2, 10))
def test_letters_differ_by_one_at_most_in_every_prefix(seed: int, count: int, options: int) -> None:
    places = letters(seed, count, options)
    assert len(places) == count
    for end in range(1, count + 1):
        tally = np.bincount(places[:end], minlength=options)
        assert tally.max() - tally.min() <= 1


def test_letters_are_not_in_a_fixed_order() -> None:
    runs = letters(3, 1200, 4).reshape(300, 4)
    assert len({tuple(run) for run in runs.tolist()}) == 24
    assert letters(3, 400, 4).tolist() != letters(4, 400, 4).tolist()


EFFORT = Effort(block=20, least=4, draws_per_item=8, window=3, fresh=0.1)
LOOSE = replace(SETTINGS, answer_share=0.1)


def pool_of(seed: int, questions: int, answers: int, rare: float) -> list[Candidates]:
    made = candidates(600, seed=seed, questions=questions)
    # The rest of a question follows from the question, as in a graph.
    answer = (made.same % answers).astype(np.int64)
    made = only(made, answer=answer, reading=made.same, rare=answer % 10 < rare * 10)
    return [Candidates(*(c[start : start + 20] for c in columns(made))) for start in range(0, 600, 20)]


def can_have(items: int, pool: list[Candidates]) -> bool:
    """What a run for so many items does."""
    selection, supply = Selection.of(items, LOOSE), Supply(EFFORT)
    for block in pool:
        selection.take(block)
        if selection.full:
            return True
        supply.add(block)
        if supply.ended(items):
            return False
    return False


def looked_at(items: int, pool: list[Candidates]) -> list[Candidates]:
    supply = Supply(EFFORT)
    for number, block in enumerate(pool, 1):
        supply.add(block)
        if supply.ended(items):
            return pool[:number]
    raise AssertionError("the pool is too small for the test")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(5, 90), st.integers(3, 60), st.sampled_from([0.3, 0.5, 0.9]))
def test_the_most_items_can_be_had_and_no_more(seed: int, questions: int, answers: int, rare: float) -> None:
    pool = pool_of(seed, questions, answers, rare)
    most = most_items(looked_at(91, pool), 91, LOOSE, EFFORT)
    by_trying = [n for n in range(1, 91) if can_have(n, pool)]
    assert most == (by_trying or [0])[-1]


def test_more_items_may_be_possible_where_fewer_are_not() -> None:
    """With 12 answers each may stand once in 19 items, twice in 20."""
    pool = pool_of(1, 600, 12, 1.0)
    assert [n for n in (12, 13, 19, 20, 24, 25) if can_have(n, pool)] == [12, 20, 24]
    assert [most_items(looked_at(below, pool), below, LOOSE, EFFORT) for below in (13, 20, 25, 30)] == [12, 12, 24, 24]
    assert most_items([], 10, LOOSE, EFFORT) == most_items(pool, 1, LOOSE, EFFORT) == 0


def test_a_smaller_file_is_looked_for_less_long() -> None:
    """One new question a block: 9 items would take 9 blocks, but get 8; 20 would get 12."""
    effort = replace(EFFORT, fresh=0.0)
    base = only(candidates(20), same=np.zeros(20, np.uint64), reading=np.arange(20).astype(np.uint64))
    base = only(base, rare=np.ones(20, bool), ranks=np.arange(20)[:, None], leans=np.zeros((20, 1)))
    pool = [
        only(base, same=base.same + np.uint64(n), reading=base.reading + np.uint64(20 * n), answer=base.answer * 0 + n)
        for n in range(12)
    ]
    assert effort.blocks(20) == 12
    assert most_items(pool, 20, LOOSE, effort) == 8


def test_a_smaller_file_never_looks_further_than_a_larger_one() -> None:
    pool = pool_of(1, 60, 40, 0.5)
    ends = []
    for items in range(1, 91, 5):
        supply = Supply(EFFORT)
        for block in pool:
            supply.add(block)
            if supply.ended(items):
                break
        ends.append(len(supply.history))
    assert ends == sorted(ends)
    assert ends[0] < ends[-1] < 30  # the number of items ends the first, want of new questions the last


def test_blocks_that_bring_nothing_new_end_the_search() -> None:
    supply, block = Supply(Effort(block=50, least=1000, window=3, fresh=0.1)), candidates(50, questions=1)
    ended = []
    for _ in range(6):
        supply.add(block)
        ended.append(supply.ended(10))
    assert ended == [False, False, False, True, True, True]


def draws(count: int, **columns: np.ndarray) -> Draws:
    rng = np.random.default_rng(9)
    shapes = {
        "clue_nodes": (count, MAX_CLUES),
        "clue_steps": (count, MAX_CLUES, MAX_PATH),
        "distractors": (count, 3),
        "via": (count, 3),
        "satisfied": (count, 3),
        "remaining": (count, MAX_CLUES),
    }
    return Draws(**{
        name: columns.get(name, rng.integers(0, 40, size=shapes.get(name, (count,)))) for name in Draws.__slots__
    })  # fmt: skip


def test_the_key_of_a_question_sees_all_that_is_asked_and_no_more() -> None:
    plain = draws(30)
    keys = same_question(plain)
    assert len(set(keys.tolist())) == 30
    turned = replace(plain, clue_nodes=plain.clue_nodes[:, ::-1], clue_steps=plain.clue_steps[:, ::-1])
    assert (same_question(turned) == keys).all()
    for name in ("index", "lang", "distractors", "via", "satisfied", "remaining", "entity"):
        assert (same_question(replace(plain, **{name: getattr(plain, name) + 1})) == keys).all(), name
    for name in (
        "shape",
        "clue_nodes",
        "clue_steps",
        "asked_step",
        "excluded_step",
        "excluded_node",
        "contrast",
        "answer",
    ):
        assert (same_question(replace(plain, **{name: getattr(plain, name) + 1})) != keys).all(), name
    # A clue's path is in order, and belongs to its own node.
    assert (same_question(replace(plain, clue_steps=plain.clue_steps[:, :, ::-1])) != keys).all()
    assert (same_question(replace(plain, clue_steps=plain.clue_steps[:, ::-1])) != keys).all()
