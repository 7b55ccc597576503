import pytest

from corl.data.benchmarks import NINE, benchmark_of
from corl.data.items import Item

# The paper's table 3, and right answers that give these percentages; order of the columns.
FLEMING_7B = (77.28, 59.60, 57.05, 64.16, 75.10, 19.14, 78.60, 74.76, 64.67)
RIGHT_7B = (4344, 596, 170, 2684, 956, 469, 393, 536, 529)
FLEMING_32B = (90.41, 68.70, 76.51, 74.52, 89.32, 30.33, 80.40, 90.93, 77.63)
RIGHT_32B = (5082, 687, 228, 3117, 1137, 743, 402, 652, 635)


@pytest.mark.parametrize(("scores", "right", "mean"), [(FLEMING_7B, RIGHT_7B, 63.37), (FLEMING_32B, RIGHT_32B, 75.42)])
def test_the_papers_scores_are_fractions_of_the_sizes(scores, right, mean):
    exact = [100 * count / benchmark.rows for count, benchmark in zip(right, NINE, strict=True)]
    assert [round(value, 2) for value in exact] == list(scores)
    assert round(sum(exact) / 9, 2) == mean


def test_keys_are_unique():
    assert len({benchmark.key for benchmark in NINE}) == len({benchmark.title for benchmark in NINE}) == 9


def item(source, lang="en", **meta):
    return Item("x", source, lang, None, "?", {"A": "x", "B": "y"}, "A", None, meta)


@pytest.mark.parametrize(
    ("one", "key"),
    [
        (item("careqa"), "careqa"),
        (item("careqa", lang="es"), None),
        (item("jmed", lang="zh"), "jmed"),
        (item("medqa"), "medqa"),
        (item("medqa", split="train"), None),
        (item("medmcqa", split="validation"), "medmcqa"),
        (item("medmcqa", split="test"), None),
        (item("pubmedqa", split="test"), "pubmedqa"),
        (item("pubmedqa", split="train"), None),
        (item("mmlu_pro", category="biology"), "mmlu_pro_biology"),
        (item("mmlu_pro", category="Health", split="test"), "mmlu_pro_health"),
        (item("mmlu_pro", category="law"), None),
        (item("mmlu_pro"), None),
        (item("cmexam", lang="zh"), None),
    ],
)
def test_the_column_of_an_item(one, key):
    found = benchmark_of(one)
    assert (found and found.key) == key
