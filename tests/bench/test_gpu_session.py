"""The session that a GPU gets: on a CPU as a dry run, and with planted steps that crash, hang or miss a package."""

import ast
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from bench.gpu_session import STEPS
from bench.session import gpu_tests, smoke
from bench.session.record import Recorder, at_least, at_most, read_lines, write_line
from bench.session.smoke_inputs import poisoned
from bench.session.table import finish, rows, text

ROOT = Path(__file__).resolve().parents[2]
# Steps of no use, one for each way of not coming to an end.
PLANTED = """\
import os, signal, subprocess, sys, time

def good(context):
    context.record.claim("works", 1.0)

def raises(context):
    context.record.claim("before the error", 1.0)
    raise RuntimeError("planted error")

def aborts(context):
    context.record.claim("before the abort", 1.0)
    os.abort()

def hangs(context):
    # a child that has a session of its own and ignores what can be ignored, as a worker of torchrun may
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    (context.out / "child").write_text(str(child.pid))
    time.sleep(600)

def leaves(context):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    (context.out / "left").write_text(str(child.pid))

def misses(context):
    import no_such_package_anywhere

def lacks_ours(context):
    import bench.no_such_module

def parts(context):
    for part in context.parts(["a", "b", "c"]):
        if part == "b":
            os.kill(os.getpid(), signal.SIGSEGV)
        context.record.claim(part, 1.0)

def tries(context):
    for name in ("first", "second"):
        with context.trying(name):
            if name == "first":
                raise ValueError("planted value")
            context.record.claim(name, 1.0)
    with context.trying("third"):
        import no_such_package_anywhere

def slow(context):
    context.record.claim("slow has begun", 1.0)
    time.sleep(600)
"""
DRIVER = """\
import sys
from bench import gpu_session
gpu_session.RESERVE_S = {reserve}
steps = [gpu_session.Step(*step) for step in {steps!r}]
gpu_session.main(sys.argv[1:], steps)
"""


def _start(tmp_path, steps, *arguments, reserve=1.0):
    """A session of (name, needs_s, limit_s) over the planted functions of these names, up to a dot."""
    (tmp_path / "planted.py").write_text(PLANTED)
    listed = [(name, f"planted:{name.split('.')[0]}", needs, limit) for name, needs, limit in steps]
    (tmp_path / "driver.py").write_text(DRIVER.format(reserve=reserve, steps=listed))
    path = os.pathsep.join([str(tmp_path), str(ROOT), str(ROOT / "kernels")])
    command = [sys.executable, str(tmp_path / "driver.py"), "--out", str(tmp_path / "out"), "--dry-run", *arguments]
    return subprocess.Popen(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip


def _session(tmp_path, steps, *arguments, **settings):
    """(exit code, output, lines of session.jsonl) of a session that came to its end."""
    process = _start(tmp_path, steps, *arguments, **settings)
    output, _ = process.communicate(timeout=120)
    return process.returncode, output, read_lines(tmp_path / "out" / "session.jsonl")


def _ends(lines):
    return {line["step"]: line for line in lines if line["kind"] == "end"}


def _claims(lines):
    return {line["claim"]: line for line in lines if line["kind"] == "claim"}


def _is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_step_that_fails_costs_only_itself(tmp_path):
    """An exception, an abort, a hang with a child in another session, packages that are missing: the others run."""
    names = ["good", "raises", "aborts", "hangs", "misses", "lacks_ours", "leaves", "good.again"]
    steps = [(name, 0.0, 3.0 if name == "hangs" else 30.0) for name in names]
    start = time.monotonic()
    code, output, lines = _session(tmp_path, steps)
    assert time.monotonic() - start < 60 and code == 1
    ends = _ends(lines)
    assert list(ends) == names
    found = {name: (line["status"], line["reason"]) for name, line in ends.items()}
    assert found["good"] == found["good.again"] == found["leaves"] == ("done", "")
    assert found["raises"] == ("failed", "RuntimeError: planted error")
    assert found["aborts"] == ("failed", "killed by SIGABRT")
    assert found["hangs"] == ("failed", "not done after its limit of 3 s")
    assert found["misses"] == ("not run", "no_such_package_anywhere is not installed")
    assert found["lacks_ours"][0] == "failed" and "bench.no_such_module" in found["lacks_ours"][1]
    assert "planted error" in ends["raises"]["tail"] and "tail" not in ends["good"]
    assert {"works", "before the error", "before the abort"} <= set(_claims(lines))
    assert "planted error" in (tmp_path / "out" / "raises.log").read_text()
    assert "RuntimeError: planted error" in output and "no_such_package_anywhere is not installed" in output
    for name in ("child", "left"):
        assert not _is_alive(int((tmp_path / "out" / name).read_text())), name


def test_a_part_that_kills_its_process_costs_only_itself(tmp_path):
    code, _, lines = _session(tmp_path, [("parts", 0.0, 30.0), ("tries", 0.0, 30.0)])
    claims = _claims(lines)
    assert code == 1
    assert [line["part"] for line in lines if line["kind"] == "part"] == ["a", "b", "c"]
    assert claims["a"]["verdict"] == claims["c"]["verdict"] == claims["second"]["verdict"] == "no goal"
    assert claims["b, and what belongs to it"]["reason"] == "killed by SIGSEGV"
    assert claims["first"]["reason"] == "ValueError: planted value" and claims["first"]["verdict"] == "failed"
    assert (claims["third"]["verdict"], claims["third"]["reason"][-13:]) == ("not run", "not installed")
    assert _ends(lines)["parts"]["status"] == "done"


def test_the_session_stops_before_its_limit(tmp_path):
    """What no longer fits is not begun, what is shorter still is, and what overruns is ended."""
    steps = [("slow", 1.0, 600.0), ("good.long", 300.0, 600.0), ("good.short", 0.0, 20.0)]
    steps.insert(1, ("good.next", 0.0, 5.0))
    start = time.monotonic()
    code, _, lines = _session(tmp_path, [steps[2], steps[3], steps[0]], "--minutes", "0.2", reserve=4.0)
    assert time.monotonic() - start < 0.2 * 60 + 5 and code == 1  # 5 s: to import torch and to write the table
    ends = _ends(lines)
    assert ends["good.long"]["status"] == "not run" and "takes about 300" in ends["good.long"]["reason"]
    assert ends["good.short"]["status"] == "done"
    assert ends["slow"]["status"] == "failed" and "limit" in ends["slow"]["reason"]
    assert "slow has begun" in _claims(lines)


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["--only", "good.b", "good.d"], ["good.b", "good.d"]),
        (["--from", "good.c"], ["good.c", "good.d"]),
        (["--from", "good.b", "--only", "good.a", "good.d"], ["good.d"]),
    ],
    ids=["only", "from", "both"],
)
def test_steps_are_selected_by_name(tmp_path, arguments, wanted):
    code, _, lines = _session(tmp_path, [(f"good.{x}", 0.0, 30.0) for x in "abcd"], *arguments)
    assert code == 0 and list(_ends(lines)) == wanted


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "none"], "--only"),
        (["--minutes", "0.001"], "--minutes 0.001 must be above"),
        (["--from", "good.b", "--only", "good.a"], "names no step"),
    ],
)
def test_a_wrong_call_is_refused(tmp_path, arguments, said):
    code, output, lines = _session(tmp_path, [("good.a", 0.0, 30.0), ("good.b", 0.0, 30.0)], *arguments)
    assert code == 2 and said in output and not lines


def test_all_that_was_found_is_there_when_the_session_is_killed(tmp_path):
    """SIGKILL in the middle: every line up to then is whole, the step goes with it, and the table can still be made."""
    process = _start(tmp_path, [("good", 0.0, 30.0), ("hangs", 0.0, 60.0)])
    out, until = tmp_path / "out", time.monotonic() + 60
    while not (out / "child").exists() or not (out / "child").read_text():
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    lines = read_lines(out / "session.jsonl")
    assert [line["kind"] for line in lines] == ["session", "start", "claim", "end", "start"]
    child = int((out / "child").read_text())
    while _is_alive(child) and time.monotonic() < until:
        time.sleep(0.1)
    assert not _is_alive(child), "the step outlived its session"
    code, output, _ = _session(tmp_path, [("good", 0.0, 30.0)], "--table")
    assert code == 0 and "works" in output and (out / "session.txt").read_text() in output


def test_a_terminated_session_still_writes_its_table(tmp_path):
    process = _start(tmp_path, [("good", 0.0, 30.0), ("hangs", 0.0, 60.0)])
    out, until = tmp_path / "out", time.monotonic() + 60
    while not (out / "child").exists() or not (out / "child").read_text():
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=30)
    assert "works" in (out / "session.txt").read_text() and "works" in output
    assert not _is_alive(int((out / "child").read_text()))


def test_a_claim_is_held_against_its_goal(tmp_path):
    record = Recorder(tmp_path / "s.jsonl", "step")
    record.claim("low", 1.0, unit="x", goal=at_most(1.1), floor_share=0.9, more=2)
    record.claim("high", 1.2, goal=at_most(1.1))
    record.claim("enough", 0.8, goal=at_least(0.75))
    record.claim("not a number", float("nan"), goal=at_most(1.0))
    record.claim("no goal", 3.0)
    Recorder(tmp_path / "s.jsonl", "step", toy=True).claim("on a CPU", 9.0, goal=at_most(1.0))
    Recorder(tmp_path / "s.jsonl", "step", toy=True).claim("right anywhere", 9.0, must=at_most(1.0))
    lines = read_lines(tmp_path / "s.jsonl")
    verdicts = [line["verdict"] for line in lines]
    assert verdicts == ["met", "MISSED", "met", "failed", "no goal", "no goal", "MISSED"]
    assert lines[0]["goal"] == "<= 1.1" and lines[0]["detail"] == {"more": 2} and lines[3]["measured"] == "nan"
    assert rows(lines)[0] == ["step", "low", "<= 1.1", "1 x", "90", "met"]


def test_a_line_that_was_cut_off_is_left_out(tmp_path):
    file = tmp_path / "s.jsonl"
    write_line(file, {"kind": "claim"})
    with file.open("a") as half:
        half.write('{"kind": "cla')
    assert [line["kind"] for line in read_lines(file)] == ["claim"]


def test_the_results_name_device_date_versions_and_commit(tmp_path):
    head = {"kind": "session", "device": "NVIDIA H200", "date": "2026-12-02T10:00:00", "sha": "abc", "torch": "2.11.0"}
    write_line(tmp_path / "session.jsonl", head)
    write_line(tmp_path / "session.jsonl", {"kind": "start", "step": "a"})
    end = {"kind": "end", "step": "a", "status": "failed", "reason": "killed by SIGABRT", "seconds": 2.0}
    write_line(tmp_path / "session.jsonl", end)
    shown, results = finish(tmp_path)
    assert results.name == "gpu_nvidia_h200_2026-12-02.jsonl"
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["session", "end"] and lines[0]["torch"] == "2.11.0"
    assert "killed by SIGABRT" in shown and "1 failed" in shown
    assert "nothing was run" in text([])


def test_every_public_op_has_a_case_in_the_smoke_test():
    assert smoke.uncovered() == []


def test_poisoned_memory_reads_as_nan():
    with poisoned():
        assert torch.empty(5).isnan().all()
        assert (torch.empty(5, dtype=torch.int32) == torch.iinfo(torch.int32).max).all()
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_gpu_tests_are_all_in_the_files_that_are_run():
    """Every test function or module with the mark, found by its syntax tree, lies in a file that the command names."""
    named = gpu_tests.marked_files()
    assert named and all((ROOT / file).is_file() for file in named)
    for path in (ROOT / "tests").rglob("test_*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        marks = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        file = path.relative_to(ROOT).as_posix()
        if "gpu" in marks and "mark" in marks:
            assert file in named or file.startswith(gpu_tests.JIT), file
    marked, jit = gpu_tests.arguments_of("marked"), gpu_tests.arguments_of("jit")
    assert marked[marked.index("-m") + 1] == "gpu" and jit[-1] == gpu_tests.JIT
    assert not any("test_jit_coverage" in argument for argument in marked + jit)


def test_the_makefile_runs_the_same_tests():
    lines = (ROOT / "Makefile").read_text().splitlines()
    recipe = lines[lines.index(next(line for line in lines if line.startswith("test-gpu: $(SETUP)"))) + 1]
    assert recipe.strip() == "$(BIN)/python -m bench.session.gpu_tests"


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU has the session itself")
def test_without_a_gpu_the_session_says_so(tmp_path):
    command = [sys.executable, "-m", "bench.gpu_session", "--out", str(tmp_path)]
    path = os.pathsep.join([str(ROOT), str(ROOT / "kernels")])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert (
        done.stderr
        == "error: there is no GPU that torch can use; --dry-run walks the same steps on a CPU at toy size\n"
    )


@pytest.mark.slow
def test_the_dry_run_walks_every_step(tmp_path):
    """At toy size on a CPU all come to their end, what must hold does, and nothing is written elsewhere."""
    before = _tree(ROOT)
    path = os.pathsep.join([str(ROOT), str(ROOT / "kernels")])
    environment = {**os.environ, "PYTHONPATH": path}
    environment.pop("TRITON_INTERPRET", None)
    command = [sys.executable, "-m", "bench.gpu_session", "--dry-run", "--out", str(tmp_path / "s")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    lines = read_lines(tmp_path / "s" / "session.jsonl")
    ends = _ends(lines)
    assert done.returncode == 0, done.stdout[-6000:]
    assert list(ends) == [step.name for step in STEPS]
    assert all(line["status"] == "done" for line in ends.values())
    verdicts = {line["verdict"] for line in lines if line["kind"] == "claim"}
    assert {"met", "no goal", "not run"} >= verdicts and "met" in verdicts
    for word in (
        "matrix product",
        "paged_attention_decode",
        "update / its GEMMs",
        "launches of a decode step",
        "demo:",
    ):
        assert any(word in line["claim"] for line in lines if line["kind"] == "claim"), word
    assert _tree(ROOT) == before, "written outside of --out"


def _tree(root):
    """Files of the checkout, but for what other tests may be writing at the same time."""
    kept = (path for top in ("bench", "corl", "kernels", "configs") for path in (root / top).rglob("*"))
    return {path for path in kept if "__pycache__" not in path.parts}
