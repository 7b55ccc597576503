"""No kernel for show: a test launches or calls every @triton.jit function, and each compiles ahead of time.

This file runs last; conftest.py keeps the record.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")
import triton
import triton.language as tl

import corl_kernels
from corl_kernels.aot import IN_PLACE, jit_functions
from corl_kernels.hopper import defined_in, functions_in


@triton.jit
def _plus_one(x):
    return x + 1


@triton.jit
def _larger(x, y):
    return tl.where(x > y, x, y)


@triton.jit
def _never_called(x):
    return x


@triton.jit(do_not_specialize=["n"])
def _add_kernel(X, n, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    x = tl.load(X + at, mask=at < n, other=0.0)
    tl.store(X + at, _plus_one(x) + tl.reduce(x, 0, _larger), mask=at < n)


@triton.jit
def _specialised_kernel(X, n, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    tl.store(X + at, 2.0, mask=at < n)


@triton.jit
def _never_launched_kernel(X):
    tl.store(X, 0.0)


def never_ran(names: Iterable[str], record) -> set[str]:
    """Kernels that no launch started and helpers that no kernel called."""
    called = record.called.union(*(functions_in(source, names) for source in record.sources.values()))
    return set(names) - record.launched - {name for name in called if not name.endswith("_kernel")}


def test_what_never_ran_is_named(record, device: str) -> None:
    x = torch.zeros(16, device=device)
    _add_kernel[(1,)](x, 10, BLOCK=16)
    _specialised_kernel[(1,)](x[10:], 6, BLOCK=16)
    assert x.tolist() == [1.0] * 10 + [2.0] * 6
    missing = never_ran(defined_in(sys.modules[__name__]), record)
    assert missing == {f"{__name__}.{name}" for name in ("_never_called", "_never_launched_kernel")}


@pytest.mark.parametrize(("kernel", "variants"), [(_add_kernel, 1), (_specialised_kernel, 3)], ids=["varies", "fixed"])
def test_launches_tell_whether_a_size_recompiles(launches, device: str, kernel, variants: int) -> None:
    for n in (1, 5, 16, 9, 32):
        kernel[(1,)](torch.zeros(n, device=device), n, BLOCK=32, num_warps=1)
    assert len(launches) == 5
    assert len(set(launches)) == variants


@pytest.mark.parametrize(
    "change",
    [
        lambda x: (x[1:], 5, 32, 1),  # no longer divisible by 16 bytes
        lambda x: (x.half(), 5, 32, 1),
        lambda x: (x, 5, 64, 1),
        lambda x: (x, 5, 32, 2),
    ],
    ids=["alignment", "dtype", "constexpr", "warps"],
)
def test_launches_tell_what_else_recompiles(launches, device: str, change) -> None:
    x = torch.zeros(64, device=device)
    for tensor, n, block, warps in ((x, 5, 32, 1), change(x)):
        _add_kernel[(1,)](tensor, n, BLOCK=block, num_warps=warps)
    assert len(set(launches)) == 2


def test_every_jit_function_ran(record, left_out: str) -> None:
    missing = never_ran(jit_functions("corl_kernels.jit"), record)
    if missing and left_out:
        pytest.skip(left_out)
    assert not missing, f"no test of tests/corl_kernels launches or calls {', '.join(sorted(missing))}"


def test_kernels_checked_for_a_barrier_exist() -> None:
    assert {name.rpartition(".")[2] for name in jit_functions("corl_kernels.jit")} >= IN_PLACE


@pytest.mark.slow
def test_every_jit_function_compiles_for_hopper(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    out = subprocess.run(
        [sys.executable, "-m", "corl_kernels.aot", "--json", str(tmp_path / "rows.json")],
        env=environment | {"PYTHONPATH": str(Path(corl_kernels.__file__).parents[1])},
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert out.returncode == 0, out.stdout + out.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert {name for row in rows for name in (row["kernel"], *row["calls"])} == set(jit_functions("corl_kernels.jit"))
