import pytest
import torch

from bench.contest import Case, Contender, hold, missing
from bench.roofline import Peaks

CPU = torch.device("cpu")
CASE = Case("head", "small", "float32", {"T": 4, "V": 8})
PEAKS = Peaks(1.0, 1.0, "made up")


def _refuse():
    raise RuntimeError("no such shape\nand a long story")


def test_ratios_rates_and_memory():
    entries = [
        Contender("op", "floor", lambda: torch.zeros(1000), flops=1e6, traffic=4e3, own_buffers=True),
        Contender("op", "ours", lambda: torch.zeros(1000), flops=1e6, traffic=4e3, floor="floor", gradients={"dX": 8}),
    ]
    floor, ours = hold(CASE, entries, CPU, PEAKS, repeats=3, errors={"ours": {"grad_hidden": 0.5}})
    assert floor.floor_ratio is None and floor.peak_bytes is None
    assert ours.floor == "floor" and ours.floor_ratio == ours.timing.p50 / floor.timing.p50
    assert ours.peak_bytes == 4000 and ours.gradient_bytes == {"dX": 8} and ours.errors == {"grad_hidden": 0.5}
    seconds = ours.timing.p50 / 1e3
    assert ours.tflops == pytest.approx(1e6 / seconds / 1e12)
    assert ours.gbps == pytest.approx(4e3 / seconds / 1e9)
    assert ours.roof_percent == pytest.approx(100 * 1e-6 / seconds)  # 1e6 FLOP at 1 TFLOP/s
    assert ours.timing.samples == 3


def test_a_rival_that_fails_is_skipped_with_its_reason_and_the_others_go_on():
    entries = [Contender("op", "theirs", _refuse, peer=True), Contender("op", "ours", lambda: None)]
    theirs, ours = hold(CASE, entries, CPU, PEAKS, repeats=1)
    assert theirs.skipped == "RuntimeError: no such shape" and theirs.timing is None
    assert ours.skipped is None and ours.timing is not None


def test_our_own_failure_is_not_hidden():
    with pytest.raises(RuntimeError, match="no such shape"):
        hold(CASE, [Contender("op", "ours", _refuse)], CPU, PEAKS, repeats=1)


def test_a_missing_rival_never_runs():
    reason = missing("no_such_package_anywhere")
    assert reason == "no_such_package_anywhere is not installed"
    assert missing("torch") is None
    row = hold(CASE, [Contender("op", "theirs", _refuse, skipped=reason)], CPU, PEAKS, repeats=1)[0]
    assert row.skipped == reason


def test_without_its_floor_a_row_has_no_ratio():
    entries = [
        Contender("op", "floor", _refuse, peer=True),
        Contender("op", "ours", lambda: None, floor="floor"),
    ]
    assert hold(CASE, entries, CPU, PEAKS, repeats=1)[1].floor_ratio is None


def test_every_run_is_prepared_and_the_last_one_cleaned_up():
    state = {"grad": None}

    def run():
        assert state["grad"] is None
        state["grad"] = torch.ones(1)

    hold(CASE, [Contender("op", "ours", run, lambda: state.update(grad=None))], CPU, PEAKS, repeats=3)
    assert state["grad"] is None
