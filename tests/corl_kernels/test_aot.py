"""The ahead-of-time check on a package of small kernels, each good or wrong in one way.

The check compiles, so it runs in a process where triton is not interpreting.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import pytest

pytest.importorskip("triton")

import corl_kernels
from corl_kernels.aot import main
from corl_kernels.hopper import Limit, Row, loading_loops, resident_blocks, unguarded_stores

KERNELS = """
import torch
import triton
import triton.language as tl


@triton.jit
def _twice(x):
    return x * 2


@triton.jit
def _never(x):
    return x + 1


@triton.jit
def _double_kernel(X, Y, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(Y + at, _twice(tl.load(X + at, mask=at < n)), mask=at < n)


@triton.jit
def _matmul_kernel(A, B, C, K, M: tl.constexpr, N: tl.constexpr, BLOCK: tl.constexpr):
    rows, columns, inner = tl.arange(0, M), tl.arange(0, N), tl.arange(0, BLOCK)
    total = tl.zeros((M, N), tl.float32)
    for k in range(0, K, BLOCK):
        a = tl.load(A + rows[:, None] * K + k + inner)
        b = tl.load(B + (k + inner)[:, None] * N + columns)
        total = tl.dot(a, b, total)
    tl.store(C + rows[:, None] * N + columns, total)


@triton.jit
def _spill_kernel(X, Y, N: tl.constexpr):
    at = tl.arange(0, N)
    x = tl.load(X + at)
    low = tl.sum(x)
    tl.store(Y + at, tl.exp(x - low) + tl.max(x))


@triton.jit
def _broken_kernel(X):
    tl.store(X, tl.arange(0, 3))


@triton.jit
def _endless_kernel(X, N: tl.constexpr):
    x = tl.load(X)
    for i in tl.static_range(N):
        x = x * x + i
    tl.store(X, x)


@triton.jit
def _gradient_rows_kernel(X, Y, n, BLOCK: tl.constexpr, BARRIER: tl.constexpr):
    for i in range(0, n, BLOCK):
        at = i + tl.arange(0, BLOCK)
        x = tl.load(X + at, mask=at < n)
        if BARRIER:
            tl.debug_barrier()
        tl.store(Y + at, x.to(tl.bfloat16), mask=at < n)


def meta(*shape, dtype=torch.bfloat16):
    return torch.empty(shape, dtype=dtype, device="meta")


def launch_matmul(M, BLOCK, stages):
    a, b, c = meta(M, 4096), meta(4096, 256), meta(M, 256, dtype=torch.float32)
    _matmul_kernel[(1,)](a, b, c, 4096, M=M, N=256, BLOCK=BLOCK, num_warps=8, num_stages=stages)


def launch_in_place(barrier):
    x = meta(4096, dtype=torch.float32)
    _gradient_rows_kernel[(1,)](x, x.view(torch.bfloat16), 4096, BLOCK=1024, BARRIER=barrier)


def reads_values(model):
    if meta(4).sum().item() > 0:
        _double_kernel[(1,)](meta(4), meta(4), 4, BLOCK=16)


CASES = {
    "double": lambda model: _double_kernel[(7,)](meta(model.vocab), meta(model.vocab), model.vocab, BLOCK=1024),
    "matmul": lambda model: launch_matmul(128, 64, 3),
    "guarded": lambda model: launch_in_place(True),
    "spill": lambda model: _spill_kernel[(1,)](meta(8192, dtype=torch.float32), meta(8192), N=8192, maxnreg=32),
    "shared": lambda model: launch_matmul(128, 128, 5),
    "broken": lambda model: _broken_kernel[(1,)](meta(4)),
    "unguarded": lambda model: launch_in_place(False),
    "reads": reads_values,
}
STUCK = {
    "double": CASES["double"],
    "endless": lambda model: _endless_kernel[(1,)](meta(4, dtype=torch.float32), N=10**6),
}
"""


def run(root: Path, cases: str, *arguments: str, **environment: str) -> list[str]:
    """The findings of the check over one table of cases of the small package."""
    code = f"""
    import sys
    from corl_kernels import aot
    from small import kernels
    sys.exit(aot.main({list(arguments)!r}, cases=kernels.{cases}, package="small"))
    """
    kept = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    path = os.pathsep.join([str(Path(corl_kernels.__file__).parents[1]), str(root)])
    out = subprocess.run(
        [sys.executable, "-c", dedent(code)],
        env=kept | {"PYTHONPATH": path} | environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert out.returncode == 1, out.stderr
    return out.stdout.partition("findings\n")[2].splitlines()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package `small`."""
    root = tmp_path_factory.mktemp("kernels")
    (root / "small").mkdir()
    (root / "small" / "__init__.py").touch()
    (root / "small" / "kernels.py").write_text(KERNELS)
    return root


@pytest.mark.slow
def test_rows_say_what_was_compiled_and_each_fault_is_a_finding(root: Path) -> None:
    findings = run(root, "CASES", "--json", str(root / "rows.json"))
    rows = {row["case"]: row for row in json.loads((root / "rows.json").read_text())}
    # Both vocabularies are multiples of 16: one variant serves both models.
    cases = ("double", "matmul", "guarded", "spill", "shared", "unguarded")
    assert set(rows) == {f"{case}/qwen2.5-7b" for case in cases}
    double, matmul, guarded, spill, shared, unguarded = (rows[f"{case}/qwen2.5-7b"] for case in cases)
    assert double["kernel"] == "small.kernels._double_kernel"
    assert double["calls"] == ["small.kernels._twice"]
    assert double["warps"] == 4
    assert 8 <= double["registers"] <= 64
    assert matmul["warps"] == 8
    assert matmul["wgmma"] > 0
    assert matmul["cp_async"] > 0
    assert 2 * 2 * 64 * (128 + 256) <= matmul["shared"] <= 232448 < shared["shared"]
    assert (guarded["barriers"], unguarded["barriers"]) == (1, 0)
    assert {row["stack"] for row in rows.values() if row is not spill} == {0}
    assert spill["stack"] > 0
    assert spill["registers"] == 32
    assert all(row["tma"] == 0 and row["seconds"] > 0 for row in rows.values())

    expected = [
        ("_spill_kernel (spill/qwen2.5-7b): spills", f" {spill['stack']} bytes a thread"),
        ("_matmul_kernel (shared/qwen2.5-7b): wants", f" {shared['shared']} bytes of shared memory"),
        ("_gradient_rows_kernel (unguarded/qwen2.5-7b): works in place without a barrier", "st.global"),
        ("_never: no case compiled it", ""),
        ("_endless_kernel: no case compiled it", ""),
        ("_broken_kernel: no case compiled it", ""),
    ]
    for model in ("qwen2.5-7b", "qwen3-32b"):
        expected.append((f"_broken_kernel (broken/{model}): does not compile: ValueError: arange", "power of 2"))
        expected.append((f"reads/{model}: the launcher fails: RuntimeError:", "meta tensors"))
    for what, detail in expected:
        assert [line for line in findings if what in line and detail in line], (what, findings)
    assert len(findings) == len(expected), findings


@pytest.mark.slow
def test_a_compile_has_a_time_limit_and_a_missing_tool_is_named(root: Path) -> None:
    tool = root / "cuobjdump"
    tool.write_text('#!/bin/sh\n[ "$1" = --version ] && echo release 13.0, && exit 0\nexit 3\n')
    tool.chmod(0o755)
    findings = run(root, "STUCK", "--limit-s", "5", TRITON_CUOBJDUMP_PATH=str(tool))
    assert "small.kernels._endless_kernel (endless/qwen2.5-7b): not done after 5 s" in findings
    (unknown,) = (line for line in findings if "registers and spills are unknown" in line)
    assert "_double_kernel (double/qwen2.5-7b)" in unknown
    assert "exit status 3" in unknown


def test_refuses_to_interpret(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert main([]) == 2
    assert capsys.readouterr().err.startswith("error: TRITON_INTERPRET is set")


LOOP = """
	ld.global.b32 %r0, [%rd0];
$L__BB0_1:
	{load}
	{barrier}
	@%p1 st.global.v4.b32 [%rd1], {{%r1}};
	{late}
	@%p2 bra $L__BB0_1;
	st.global.b32 [%rd2], %r2;
"""


@pytest.mark.parametrize(
    ("load", "barrier", "late", "stores"),
    [
        ("@%p1 ld.global.v4.b32 {%r1}, [%rd1];", "bar.sync 0;", "", 0),
        ("@%p1 ld.global.v4.b32 {%r1}, [%rd1];", "barrier.cta.sync 0;", "", 0),
        ("@%p1 ld.global.v4.b32 {%r1}, [%rd1];", "", "bar.sync 0;", 1),
        ("@%p1 ld.global.v4.b32 {%r1}, [%rd1];", "bar.warp.sync 0;", "", 1),
        ("", "", "ld.global.b32 %r1, [%rd1];", 1),
        ("", "bar.sync 0;", "ld.global.b32 %r1, [%rd1];", 0),
        ("cp.async.cg.shared.global [%r1], [%rd1], 16;", "bar.sync 0;", "", 0),
    ],
)
def test_stores_need_a_barrier_behind_the_loads(load: str, barrier: str, late: str, stores: int) -> None:
    ptx = LOOP.format(load=load, barrier=barrier, late=late)
    assert len(unguarded_stores(ptx)) == stores


SASS = """
        /*0000*/                   LDG.E R4, desc[UR4][R2.64] ;
        /*0010*/                   LDG.E.128 R8, desc[UR4][R2.64+0x10] ;
        /*0020*/                   LDG.E.CONSTANT R7, desc[UR4][R2.64] ;
        /*0030*/                   FFMA R4, R8, R4, R4 ;
        /*0040*/               @P0 BRA 0x10 ;
        /*0050*/                   STG.E R4, desc[UR4][R2.64] ;
        /*0060*/              @!P1 BRA 0x50 ;
        /*0070*/                   BRA 0x70;
"""


def test_loops_that_load_are_counted() -> None:
    assert loading_loops(SASS) == [(4, 20)]
    outer = SASS.replace("BRA 0x50", "BRA 0x0")
    assert loading_loops(outer) == [(4, 20)]


@pytest.mark.parametrize(
    ("warps", "registers", "shared", "blocks"),
    [(8, 32, 32, 8), (8, 40, 0, 6), (8, 72, 0, 3), (4, 118, 71_680, 3), (16, 104, 0, 1), (1, 16, 0, 32)],
)
def test_blocks_that_fit_on_a_multiprocessor(warps: int, registers: int, shared: int, blocks: int) -> None:
    assert resident_blocks(warps, registers, shared) == blocks


def test_a_broken_limit_says_what_it_is() -> None:
    row = Row("k", "c", 8, 72, 0, 0, 3, 19.1, 49_152, 0, 0, 0, 0, 0.1, ())
    limit = Limit(registers=40, blocks=6, per_value=8.5, in_flight=64_000)
    assert len(limit.broken(row)) == 4
    assert limit.broken(replace(row, registers=40, blocks=6, per_value=8.5, in_flight=64_000)) == []
    assert "19.1 instructions a value, at most 8.5" in limit.broken(row)


@pytest.mark.slow
def test_a_kernel_outside_its_limits_is_a_finding() -> None:
    """In a process of its own, as tests interpret kernels: limits that the rows of logits cannot keep."""
    code = """
    from corl_kernels import aot
    tight = aot.Limit(registers=8, blocks=6, per_value=8.5, in_flight=64_000)
    aot.LIMITS = {("_statistics_rows_kernel", "policy rows"): tight}
    raise SystemExit(aot.main(["--only", "policy rows"]))
    """
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    env["PYTHONPATH"] = str(Path(corl_kernels.__file__).parents[1])
    out = subprocess.run([sys.executable, "-c", dedent(code)], env=env, capture_output=True, text=True, check=False)
    assert out.returncode == 1, out.stderr
    (finding,) = out.stdout.partition("findings\n")[2].splitlines()
    assert "registers a thread, at most 8" in finding
