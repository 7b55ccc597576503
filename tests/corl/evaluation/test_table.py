import io

import matplotlib.image
import pytest

from corl.evaluation.benchmark_tables import sets_table
from corl.evaluation.estimates import Estimate
from corl.evaluation.paper import PAPER
from corl.evaluation.summary import SetSummary
from corl.evaluation.table import Table, draw_tables


def test_markdown_has_a_line_a_row_and_no_cell_breaks_it():
    table = Table("title", ["a", "b"], [["x|y", "1"], ["two\nlines", "2"]], [0])
    assert table.markdown() == "title\n\n| a | b |\n| --- | --- |\n| x\\|y | 1 |\n| two lines | 2 |"


@pytest.mark.parametrize("name", ["plain", "costs $1 and $2", "a_b^c", "x" * 90])
def test_a_picture_opens_whatever_the_name(name):
    tables = [Table("one $title$", ["model", "n"], [[name, "3"], ["other", "40"]], [0])] * 2
    picture = matplotlib.image.imread(io.BytesIO(draw_tables(tables, ["a note", "$another"])))
    assert picture[..., :3].std() > 0.05
    assert picture.shape[1] > 8 * len(name)  # wide enough for its cells
    assert draw_tables(tables, []) == draw_tables(tables, [])


def test_the_papers_rows_average_to_what_it_prints():
    for row in PAPER:
        exact = [64.60 if accuracy == 64.46 else accuracy for accuracy in row.accuracies]
        assert sum(exact) / 9 == pytest.approx(row.average, abs=0.0051), row.model


def test_a_row_says_what_is_known_and_puts_answers_of_several_letters_together():
    summary = SetSummary(
        key="own", title="own", n=5, whole=5, status="complete", samples=1, accuracy=Estimate(0.4, 0.2449), pass_at={},
        wrong=0.2, null=0.4, truncated=None, format_ok=0.6, mean_tokens=None,
        answers={"A": 1, "A,B": 1, "B,C": 2, "null": 2}, golds={"A": 3, "B": 2},
    )  # fmt: skip
    (row,) = sets_table([summary]).rows
    assert row == [
        "own", "5", "40.00 +- 24.49", "20.0", "40.0", "-", "60.0", "-", "A 1 several 3 null 2", "A 3 B 2"
    ]  # fmt: skip
