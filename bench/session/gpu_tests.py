"""The tests that need a GPU: which files hold them, and how they are run. `make test-gpu` is this module.

    python -m bench.session.gpu_tests [pytest options]

Two runs: the tests marked gpu in the files that have some, and every test of tests/corl_kernels/jit, which runs on the
device where there is one. Only those files are collected. Eight processes where pytest-xdist is installed.
"""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

from bench.session.context import Context
from bench.session.record import Recorder, at_most

ROOT = Path(__file__).resolve().parent.parent.parent
JIT = "tests/corl_kernels/jit"
_MARK = re.compile(r"\bmark\.gpu\b")


def marked_files(root: Path = ROOT) -> list[str]:
    """Test files with a gpu-marked test, relative to the root; those of JIT run as a whole."""
    files = (path for path in (root / "tests").rglob("test_*.py") if _MARK.search(path.read_text(encoding="utf-8")))
    found = sorted(path.relative_to(root).as_posix() for path in files)
    return [file for file in found if not file.startswith(f"{JIT}/")]


def arguments_of(which: str) -> list[str]:
    """Of pytest, for the tests `marked` gpu or for those of `jit`."""
    workers = ["-n", "8"] if importlib.util.find_spec("xdist") else []
    # neither may leave files in the tree
    common = ["-q", "-p", "no:cacheprovider", "-p", "no:benchmark", *workers]
    return [*common, JIT] if which == "jit" else [*common, "-m", "gpu", *marked_files()]


class Outcomes:
    """A pytest plugin: every failed test is a claim at once, and in the end the counts are."""

    def __init__(self, record: Recorder) -> None:
        self.record, self.counts = record, dict[str, int]()

    def pytest_runtest_logreport(self, report) -> None:
        if report.when == "call" or report.outcome != "passed":
            self.counts[report.outcome] = self.counts.get(report.outcome, 0) + 1
        if report.outcome == "failed":
            self.record.failed(report.nodeid, str(report.longrepr)[-800:])

    def pytest_collectreport(self, report) -> None:
        if report.failed:
            self.record.failed(report.nodeid, str(report.longrepr)[-800:])


def marked(context: Context) -> None:
    _run(context, "marked")


def jit(context: Context) -> None:
    _run(context, "jit")


def _run(context: Context, which: str) -> None:
    """One run, counted; a dry run collects one file of it, since a CPU has runs of its own of all of them."""
    import pytest

    outcomes = Outcomes(context.record)
    arguments = arguments_of(which)
    if context.toy:
        options = [x for x in arguments if not x.startswith("tests/") and x not in ("-n", "8")]
        file = f"{JIT}/test_kv_store.py" if which == "jit" else "tests/bench/test_timing.py"
        arguments = ["--collect-only", *options, file]
    code = int(pytest.main(arguments, plugins=[outcomes]))
    failed = outcomes.counts.pop("failed", 0)
    claim = f"tests {'to collect' if context.toy else 'that failed'}, {which}"
    context.record.claim(claim, failed, must=at_most(0), pytest_exit_code=code, **outcomes.counts)
    if code not in (0, 1):
        context.record.failed(f"tests, {which}", f"pytest ended with exit code {code}")


def main(options: list[str]) -> int:
    print(f"gpu-marked tests in {len(marked_files())} files, and {JIT}", flush=True)
    codes = []
    for which in ("marked", "jit"):
        command = [sys.executable, "-m", "pytest", *arguments_of(which), *options]
        codes.append(subprocess.run(command, cwd=ROOT).returncode)
    return max(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
