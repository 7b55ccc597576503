import json

import pytest
import torch

from bench import head, ops
from bench.contest import Case, Row
from bench.inputs import MODELS, ModelShape
from bench.timing import Timing

TINY = ModelShape(hidden=32, vocab=307, heads=4, kv_heads=2, head_dim=8, qk_norm=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="measures the CPU's suite")
def test_the_command_writes_rows_a_picture_and_the_verdict(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(MODELS, "small", TINY)
    out = tmp_path / "ops.jsonl"
    ops.main(["--suite", "head", "--tokens", "64", "128", "--repeats", "2", "--out", str(out)])
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert {line["shape"]["T"] for line in lines} == {64, 128}
    assert {line["op"] for line in lines} == {"floor", "policy", "cross_entropy", "logprobs"}
    assert all(line["samples"] == 2 for line in lines if "skipped" not in line)
    assert out.with_suffix(".png").exists()
    printed = capsys.readouterr().out
    assert "no GPU: CPU ratios only" in printed
    assert "skipped: liger FusedLinearCrossEntropy" in printed
    if next(line for line in lines if line["name"] == head.LIGER).get("skipped") is None:
        assert printed.count("ours / liger: time") == 2 and "peak memory" in printed


@pytest.mark.skipif(torch.cuda.is_available(), reason="measures the CPU's suite")
def test_only_the_ops_asked_for_and_no_compiled_rival(tmp_path, monkeypatch):
    monkeypatch.setitem(MODELS, "small", TINY)
    monkeypatch.setattr(torch, "compile", lambda *_, **__: pytest.fail("compiled"))
    out = tmp_path / "ops.jsonl"
    asked = ["--ops", "logprobs", "store_kv", "--no-compile", "--tokens", "50", "--repeats", "1", "--quick"]
    ops.main([*asked, "--out", str(out)])
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert {line["op"] for line in lines} == {"floor", "logprobs", "store_kv"}
    assert not [line["name"] for line in lines if "compile" in line["name"]]


def _row(name: str, milliseconds: float, peak: int) -> Row:
    case = Case("head", "small", "float32", {"T": 4})
    return Row(case, "policy", name, timing=Timing(milliseconds, milliseconds, milliseconds, 1), peak_bytes=peak)


@pytest.mark.parametrize(
    ("milliseconds", "peak", "wanted"),
    [(0.7, 60, ["0.700", "met", "0.600", "met"]), (0.9, 100, ["0.900", "MISSED", "1.000", "MISSED"])],
)
def test_the_verdict_compares_with_the_goals(milliseconds, peak, wanted):
    (line,) = ops.verdict([_row(head.OURS, milliseconds, peak), _row(head.LIGER, 1.0, 100)])
    found = [word.strip(":,()") for word in line.split()]
    assert [word for word in found if word in wanted] == wanted


def test_no_verdict_without_the_rival():
    assert ops.verdict([_row(head.OURS, 1.0, 1)]) == []


@pytest.mark.parametrize("wrong", [["--out", "ops.txt"], ["--repeats", "0"], ["--tokens", "0"], ["--models", "none"]])
def test_wrong_arguments_are_refused(wrong, capsys):
    with pytest.raises(SystemExit) as stopped:
        ops.main(wrong)
    assert stopped.value.code == 2
    assert wrong[0] in capsys.readouterr().err
