"""How many traces may have been told the label."""

import pytest

from corl.rods.cot.distilling import Distilling, _most_told, bounds_from


def test_the_cap_is_the_largest_share_of_the_whole_file() -> None:
    for share in (0.0, 0.1, 0.2, 0.25, 1 / 3, 0.5, 0.75, 0.9):
        for unaided in range(0, 40):
            most = _most_told(share, unaided, 1000)
            assert most <= share * (unaided + most) + 1e-6 and most + 1 > share * (unaided + most + 1) - 1e-6
    assert _most_told(1.0, 0, 7) == 7


def test_settings_are_checked() -> None:
    assert bounds_from("5:30").most_words == 30
    for wrong in ("5", "5:", "a:b", "-1:4", "30:5"):
        with pytest.raises(ValueError, match="FEWEST:MOST"):
            bounds_from(wrong)
    for wrong in ({"depth": -1}, {"told_share": float("nan")}, {"temperature": float("inf")}, {"temperature": 0.0}):
        with pytest.raises(ValueError, match="must|alike"):
            Distilling(**wrong)
