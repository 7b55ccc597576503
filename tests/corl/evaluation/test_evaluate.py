import math

import pytest

from corl.evaluation.evaluate import evaluate, summarise


@pytest.fixture
def attempted(make_prompt, make_attempt):
    """Four items, answers A A B "A,C", two samples and a greedy completion each."""
    answers = [("easy", "A"), ("moderate", "A"), ("easy", "B"), (None, "A,C")]
    prompts = [make_prompt(k, tier, answer) for k, (tier, answer) in enumerate(answers)]
    table = [  # per sample: correct, extracted letter, well-formed, truncated, tokens
        [(True, "A", True, False, 4), (True, "A", True, False, 6)],
        [(True, "A", False, False, 5), (False, None, False, True, 20)],
        [(False, "A", True, False, 3), (False, "C", True, False, 3)],
        [(False, None, False, False, 2), (True, "A,C", True, False, 5)],
    ]

    def attempt(prompt, s, correct, letter, formed, cut, length):
        finish = "length" if cut else "stop"
        return make_attempt(prompt.item.id, s, correct, extracted=letter, formed=formed, finish=finish, length=length)

    sampled = [[attempt(p, s, *cells) for s, cells in enumerate(row)] for p, row in zip(prompts, table, strict=True)]
    greedy = [[make_attempt(p.item.id, 0, ok)] for p, ok in zip(prompts, (True, False, True, False), strict=True)]
    return prompts, sampled, greedy


def test_the_numbers_are_those_of_the_table(attempted):
    result = summarise(*attempted)
    rates = [1.0, 0.5, 0.0, 0.5]
    assert result.accuracy == 0.5
    # Standard error over items: sqrt(sum (rate - mean)^2 / (n - 1) / n).
    assert result.stderr == pytest.approx(math.sqrt(sum((r - 0.5) ** 2 for r in rates) / 3 / 4))
    assert result.greedy == 0.5
    assert (result.n, result.samples) == (4, 2)
    assert result.by_letter == {"A": 0.5, "A,C": 0.0, "B": 1.0}
    assert result.sampled_by_letter == {"A": 0.75, "A,C": 0.5, "B": 0.0}
    assert result.by_difficulty == {"easy": 1.0, "moderate": 0.0, "untiered": 0.0}
    assert result.sampled_by_difficulty == {"easy": 0.5, "moderate": 0.5, "untiered": 0.5}
    assert result.letters == {"A": 4, "A,C": 1, "C": 1, "null": 2}
    assert result.null_rate == 2 / 8
    assert result.truncated_rate == 1 / 8
    assert result.format_rate == 5 / 8
    assert result.mean_tokens == 48 / 8


def test_a_row_names_the_stage_and_keeps_every_number(attempted):
    result = summarise(*attempted)
    row = result.row("rl1")
    assert row.pop("name") == "rl1"
    assert row == {field: getattr(result, field) for field in result.__dataclass_fields__}
    assert {"accuracy", "stderr", "greedy", "n"} <= row.keys()


def test_one_item_has_no_spread(attempted):
    prompts, sampled, greedy = attempted
    assert summarise(prompts[:1], sampled[:1], greedy[:1]).stderr == 0.0


def test_an_evaluation_samples_at_temperature_1_and_once_greedily(attempted):
    prompts, sampled, greedy = attempted
    calls = []

    class Solver:
        def attempt(self, given, sampling, *, step):
            calls.append((sampling.purpose, sampling.samples, sampling.temperature, sampling.max_tokens, step))
            assert given is prompts
            return greedy if sampling.temperature == 0 else sampled

    assert evaluate(Solver(), prompts, samples=2, max_tokens=30, step=12) == summarise(prompts, sampled, greedy)
    # Other purposes are other draws: an evaluation never repeats the samples of training.
    assert calls == [("eval", 2, 1.0, 30, 12), ("greedy", 1, 0.0, 30, 12)]
