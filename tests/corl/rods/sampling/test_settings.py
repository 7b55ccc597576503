"""Settings from a file: strict, with the key, the value and the rule in the error."""

from pathlib import Path

import pytest

from corl.config.rods import RodsSample
from corl.rods.sampling.settings import load_settings


def written(tmp_path: Path, text: str) -> Path:
    (tmp_path / "s.yaml").write_text(text)
    return tmp_path / "s.yaml"


def test_no_file_means_the_defaults_and_a_file_changes_what_it_names(tmp_path: Path) -> None:
    assert load_settings(None) == RodsSample()
    settings = load_settings(written(tmp_path, "options: 5\nshapes: {chain: 0, star: 1}\n"))
    assert (settings.options, settings.shapes.chain, settings.shapes.star, settings.max_clues) == (5, 0, 1, 4)


@pytest.mark.parametrize(
    "text, message",
    [
        ("optoins: 5", "unknown key optoins; allowed here: options"),
        ("shapes: {ring: 1}", "unknown key shapes.ring; allowed here: chain"),
        ("options: five", "options: expected a whole number"),
        ("options: 2", "options: 2 is not in 3 .. 26"),
        ("max_clues: 6", "max_clues: 6 is not in 1 .. 5"),
        ("rare_share: 1.1", "rare_share: 1.1 is not in 0 .. 1"),
        ("answer_share: 0", "answer_share: 0.0 is not above 0"),
        ("clue_degree: 0", "clue_degree: 0 is not above 0"),
        ("shapes: {chain: -1}", "shapes.chain: -1.0 is not 0 or more"),
        (
            "shapes: {chain: 0, star: 0, star_tail: 0, compare: 0, exception: 0, constraint: 0}",
            "shapes: 0 is not above 0 for any shape",
        ),
        ("difficulty: {hops: 2}", "difficulty.hops: 2.0 is not in 0 .. 1"),
        ("difficulty: {moderate_from: 0.7}", "difficulty.moderate_from: 0.7 is not at most difficult_from = 0.6"),
        ("[1, 2]", "expected a mapping"),
    ],
)
def test_a_wrong_value_is_named_with_its_rule(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match="s.yaml: ") as error:
        load_settings(written(tmp_path, text))
    assert message in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="none.yaml: no such file"):
        load_settings(tmp_path / "none.yaml")
