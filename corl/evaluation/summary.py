"""What the answers of one item set come to."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from corl.data.benchmarks import NINE
from corl.evaluation.answers import Answer
from corl.evaluation.estimates import Estimate, estimate, mean_of, pass_at
from corl.evaluation.item_sets import ItemSet


@dataclass(frozen=True, slots=True)
class SetSummary:
    """Accuracy is the mean over items of the mean over samples; null answers (unparsed) stay in its denominator.

    status          "complete", "partial: 500 of 5,621", or why it is not the set it should be
    pass_at         pass@k by k, the powers of two below the number of samples and that number; {} for one sample
    null, truncated, format_ok, wrong    shares of the completions; null and wrong exclude each other. truncated is None
                    where finish reasons are not known, mean_tokens where lengths are not
    answers, golds  how often each letter was answered ("null" where none was), and is right
    """

    key: str
    title: str
    n: int
    whole: int
    status: str
    samples: int
    accuracy: Estimate
    pass_at: dict[int, Estimate]
    wrong: float
    null: float
    truncated: float | None
    format_ok: float
    mean_tokens: float | None
    answers: dict[str, int]
    golds: dict[str, int]

    @property
    def complete(self) -> bool:
        return self.status == "complete"


def summarise_set(item_set: ItemSet, answers: Sequence[Answer]) -> SetSummary:
    """`answers` are those of the set's items, at least one, all with as many samples."""
    samples = len(answers[0].completions)
    right = [sum(answer.correct) for answer in answers]
    extracted = [letter for answer in answers for letter in answer.extracted]
    correct = sum(right) / len(extracted)
    null = sum(letter is None for letter in extracted) / len(extracted)
    tokens = [count for answer in answers for count in answer.tokens if count is not None]
    finishes = [reason for answer in answers for reason in answer.finish_reasons if reason is not None]
    return SetSummary(
        key=item_set.key,
        title=item_set.title,
        n=len(answers),
        whole=item_set.whole,
        status=item_set.status(len(answers)),
        samples=samples,
        accuracy=estimate([count / samples for count in right]),
        pass_at={
            k: estimate([pass_at(k, correct=count, samples=samples) for count in right]) for k in _reported(samples)
        },
        wrong=1.0 - correct - null,
        null=null,
        truncated=finishes.count("length") / len(finishes) if len(finishes) == len(extracted) else None,
        format_ok=sum(sum(answer.format_ok) for answer in answers) / len(extracted),
        mean_tokens=sum(tokens) / len(tokens) if len(tokens) == len(extracted) else None,
        answers=dict(sorted(Counter(letter or "null" for letter in extracted).items())),
        golds=dict(sorted(Counter(answer.gold for answer in answers).items())),
    )


def macro_mean(summaries: Sequence[SetSummary]) -> Estimate | None:
    """The unweighted mean of the nine unrounded accuracies; None unless all nine sets are there and complete."""
    complete = {summary.key: summary.accuracy for summary in summaries if summary.complete}
    if not all(benchmark.key in complete for benchmark in NINE):
        return None
    return mean_of([complete[benchmark.key] for benchmark in NINE])


def _reported(samples: int) -> list[int]:
    if samples == 1:
        return []
    return [k for k in (2**i for i in range(samples.bit_length())) if k < samples] + [samples]
