import json

import matplotlib.image
import pytest

from corl.evaluation.ablation import ablation_table, write_ablation
from corl.evaluation.evaluate import summarise


@pytest.fixture
def rows(make_prompt, make_attempt):
    """The rows of a run of three stages over six items of two tiers and one without."""
    tiers = ["easy", "easy", "moderate", "moderate", "difficult", None]
    prompts = [make_prompt(k, tier) for k, tier in enumerate(tiers)]
    found = []
    for name, solved in (("base", 1), ("cold_start", 3), ("rl2", 6)):
        attempts = [[make_attempt(p.item.id, 0, k < solved)] for k, p in enumerate(prompts)]
        found.append(summarise(prompts, attempts, attempts).row(name))
    return found


def test_the_file_holds_the_stages_in_order_and_the_picture_opens(rows, tmp_path):
    for given in (rows[:1], rows):
        write_ablation(tmp_path, given)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ablation.json", "ablation.png"]
    found = json.loads((tmp_path / "ablation.json").read_text())
    assert list(found) == ["stages"]
    assert found["stages"] == rows
    assert [row["name"] for row in found["stages"]] == ["base", "cold_start", "rl2"]
    assert [row["accuracy"] for row in found["stages"]] == [1 / 6, 0.5, 1.0]
    for row in found["stages"]:
        assert list(row)[:5] == ["name", "accuracy", "stderr", "greedy", "n"]
        assert row["n"] == 6
        assert row["greedy"] == row["accuracy"]
    picture = matplotlib.image.imread(tmp_path / "ablation.png")
    assert picture.shape[0] > 300 < picture.shape[1]
    assert picture[..., :3].std() > 0.05  # not a blank page


def test_the_table_has_a_line_a_stage(rows):
    lines = ablation_table(rows).splitlines()
    assert lines[0].split()[:8] == ["stage", "pass@1", "+-", "greedy", "easy", "moderate", "difficult", "untiered"]
    assert lines[1].split()[:8] == ["base", "16.7", "16.7", "16.7", "50.0", "0.0", "0.0", "0.0"]
    assert lines[3].split()[:8] == ["rl2", "100.0", "0.0", "100.0", "100.0", "100.0", "100.0", "100.0"]
    assert lines[2].endswith("A 50")


def test_a_tier_that_a_row_lacks_is_no_number(rows, tmp_path):
    del rows[0]["sampled_by_difficulty"]["difficult"]
    assert "nan" in ablation_table(rows).splitlines()[1]
    write_ablation(tmp_path, rows)
    assert (tmp_path / "ablation.png").stat().st_size > 5000
