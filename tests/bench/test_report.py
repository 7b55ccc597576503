import json

import torch

from bench.contest import Case, Row
from bench.report import append, environment, record, table
from bench.timing import Timing

CASE = Case("head", "small", "float32", {"T": 4, "V": 8})
ROWS = [
    Row(
        CASE,
        "policy",
        "ours",
        timing=Timing(1.0, 2.0, 3.0, 5),
        floor="gemms",
        floor_ratio=1.25,
        flops=1e9,
        traffic=1e6,
        tflops=0.5,
        gbps=0.25,
        roof_percent=80.0,
        peak_bytes=3_000_000,
        gradient_bytes={"dW": 1_000_000},
        errors={"grad_weight": 1e-6},
    ),
    Row(CASE, "policy", "theirs", skipped="theirs is not installed"),
]


def test_json_lines_hold_the_numbers_and_are_appended(tmp_path):
    path = tmp_path / "new" / "ops.jsonl"
    append(ROWS, {"sha": "abc"}, path)
    append(ROWS[:1], {"sha": "def"}, path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["sha"] for line in lines] == ["abc", "abc", "def"]
    first, second = lines[:2]
    assert (first["p20_ms"], first["p50_ms"], first["p80_ms"], first["samples"]) == (1.0, 2.0, 3.0, 5)
    assert first["shape"] == {"T": 4, "V": 8} and first["dtype"] == "float32" and first["suite"] == "head"
    assert first["floor_ratio"] == 1.25 and first["roof_percent"] == 80.0 and first["tflops"] == 0.5
    assert first["peak_bytes"] == 3_000_000 and first["gradient_bytes"] == {"dW": 1_000_000}
    assert first["errors"] == {"grad_weight": 1e-6}
    assert second["skipped"] == "theirs is not installed" and "p50_ms" not in second


def test_the_table_shows_ratios_and_says_what_was_skipped():
    lines = table(ROWS).splitlines()
    assert lines[0] == "head small float32 T=4 V=8, medians of 5"
    assert lines[1] == "skipped: theirs (policy): theirs is not installed"
    assert lines[2].split()[:3] == ["op", "contender", "ms"]
    cells = dict(zip(lines[2].replace("x floor", "x-floor").split(), lines[3].split(), strict=False))
    assert cells["ms"] == "2" and cells["p20-p80"] == "1-3" and cells["x-floor"] == "1.250"
    assert "logp" not in lines[2], "a column without a value is left out"


def test_the_environment_names_commit_device_and_versions():
    found = environment(torch.device("cpu"))
    assert found["torch"] == torch.__version__
    assert found["threads"] == torch.get_num_threads()
    assert found["sha"] and found["device"] and found["date"].startswith("20")
    assert {"triton", "liger_kernel", "flash_attn"} <= set(found)
    assert json.dumps(record(ROWS[0], found))
