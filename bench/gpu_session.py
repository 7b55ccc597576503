"""Everything that is asked of a GPU, in the order of its value, within a few minutes.

    python -m bench.gpu_session --out DIR [--minutes 12] [--only NAME ..] [--from NAME] [--dry-run] [--table]

Each step has a process of its own, a time limit and a log, DIR/NAME.log: a fault of the device, a hang or a missing
package costs that step alone. What is found out is a line of DIR/session.jsonl at once; at the end come a table
(DIR/session.txt) and the file for bench/results (DIR/gpu_DEVICE_DATE.jsonl). Nothing is fetched and nothing is written
outside of DIR; the compilers' caches are in DIR/cache, so that a second call does not compile again.
Exit code 0: everything that ran is right and within its goals. 1: not so. 2: the call is wrong.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from bench.session.context import DEVICE_BROKEN, PACKAGE_MISSING
from bench.session.processes import adopt_orphans, end_descendants
from bench.session.record import FAILED, MISSED, NOT_RUN, Recorder, read_lines, write_line
from bench.session.table import DONE, counts, finish

ROOT = Path(__file__).resolve().parent.parent
RESERVE_S = 30.0  # of the session's time, for its end
PROCESSES = 4  # of one step at most: each takes up where the last one died
TAIL = 2000  # characters of the log of a step that failed, kept in session.jsonl


@dataclass(frozen=True, slots=True)
class Step:
    """`run` is MODULE:FUNCTION and takes a Context; it is not begun with less than `needs_s` left."""

    name: str
    run: str
    needs_s: float
    limit_s: float


STEPS = (
    Step("machine", "bench.session.machine:run", 12, 60),
    Step("smoke", "bench.session.smoke:run", 60, 150),
    Step("bits", "bench.session.bits:run", 25, 90),
    Step("tests_marked", "bench.session.gpu_tests:marked", 20, 90),
    Step("tests_jit", "bench.session.gpu_tests:jit", 40, 150),
    Step("head", "bench.session.head_claims:run", 75, 170),
    Step("decode_ops", "bench.session.decode_claims:run", 50, 120),
    Step("cache_memory", "bench.session.cache_memory:run", 15, 60),
    Step("decode_step", "bench.session.step_claims:decode", 50, 150),
    Step("swap", "bench.session.weights_claims:run", 25, 90),
    Step("train_step", "bench.session.step_claims:train", 40, 120),
    Step("demo", "bench.session.demo_run:run", 60, 150),
    Step("sanitizer", "bench.session.tools:sanitizer", 60, 150),
    Step("counters", "bench.session.tools:counters", 30, 90),
)


def main(arguments: Sequence[str] | None = None, steps: Sequence[Step] = STEPS) -> None:
    options = _parse(arguments, steps)
    out: Path = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    if not options.table:
        signal.signal(signal.SIGTERM, _stop)
        try:
            run_session(options.chosen, out, minutes=options.minutes, toy=options.dry_run, sha=options.sha)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    shown, results = finish(out)
    print(f"{shown}\nwrote {out / 'session.txt'} and {results}", flush=True)
    found = counts(read_lines(out / "session.jsonl"))
    sys.exit(1 if found[FAILED] or found[MISSED] else 0)


def run_session(steps: Sequence[Step], out: Path, *, minutes: float, toy: bool, sha: str | None = None) -> None:
    """Run the steps one after the other, those that no longer fit left out; what they find is in out/session.jsonl."""
    start = time.monotonic()
    file = out / "session.jsonl"
    environment = _environment(out, toy)
    adopt_orphans()
    write_line(file, {"kind": "session", **_surroundings(environment, toy, sha)})
    for step in steps:
        left = start + 60 * minutes - RESERVE_S - time.monotonic()
        record = Recorder(file, step.name, toy)
        if step.needs_s > left:
            reason = f"{max(0.0, left):.0f} s left, it takes about {step.needs_s:.0f}"
            record.write("end", status=NOT_RUN, reason=reason, seconds=0.0)
            continue
        _run_step(step, record, min(step.limit_s, left), out, environment, toy)


def _run_step(
    step: Step, record: Recorder, limit_s: float, out: Path, environment: Mapping[str, str], toy: bool
) -> None:
    """Run the processes of a step: one, or more where one died in a part of it and there are others."""
    record.write("start", limit_s=round(limit_s, 1))
    began, log = time.monotonic(), out / f"{step.name}.log"
    log.unlink(missing_ok=True)
    status, reason, skip = "", "", list[str]()
    for _ in range(PROCESSES):
        before = len(read_lines(record.path))
        command = [sys.executable, "-m", "bench.session.run_step", step.run, "--name", step.name, "--out", str(out)]
        command += ["--toy"] * toy + (["--skip", *skip] if skip else [])
        left = limit_s - (time.monotonic() - began)
        status, reason, died = _run_process(command, log, left, limit_s, environment)
        parts = [x["part"] for x in read_lines(record.path)[before:] if x["kind"] == "part"]
        if not died or not parts or left < 5:
            break
        record.failed(f"{parts[-1]}, and what belongs to it", reason)
        skip += parts
    tail = {} if status == DONE or not log.exists() else {"tail": log.read_text(errors="replace")[-TAIL:]}
    record.write("end", status=status, reason=reason, seconds=round(time.monotonic() - began, 2), **tail)


def _run_process(
    command: Sequence[str], log: Path, limit_s: float, whole_s: float, environment: Mapping[str, str]
) -> tuple[str, str, bool]:
    """Status, reason, and whether the process died of something that another process may survive."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code = process.wait(timeout=max(1.0, limit_s))
        except subprocess.TimeoutExpired:
            return FAILED, f"not done after its limit of {whole_s:.0f} s", False
        finally:
            if process.poll() is None:
                process.kill()
                with suppress(subprocess.TimeoutExpired):  # a hung driver may hold on to it
                    process.wait(timeout=10)
            end_descendants(os.getpid())  # also what a step has left running
    if code == 0:
        return DONE, "", False
    if code == PACKAGE_MISSING:
        return NOT_RUN, log.read_text(errors="replace").strip().splitlines()[-1], False
    if code == DEVICE_BROKEN:
        return FAILED, "the device no longer answered", True
    if code < 0:
        return FAILED, f"killed by {signal.Signals(-code).name}", True
    return FAILED, _last_line(log), False


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else "no output"


def _environment(out: Path, toy: bool) -> dict[str, str]:
    """That of the steps: our packages, caches inside `out` that they share, nothing fetched; in a dry run no GPU."""
    cache = out / "cache"
    folders = {
        "TRITON_CACHE_DIR": "triton", "TORCHINDUCTOR_CACHE_DIR": "inductor", "TMPDIR": "tmp", "HF_HOME": "huggingface",
        "MPLCONFIGDIR": "matplotlib", "XDG_CACHE_HOME": "xdg", "CUDA_CACHE_PATH": "cuda",
    }  # fmt: skip
    for folder in folders.values():
        (cache / folder).mkdir(parents=True, exist_ok=True)
    path = [str(ROOT), str(ROOT / "kernels"), *filter(None, [os.environ.get("PYTHONPATH")])]
    own = {name: str(cache / folder) for name, folder in folders.items()}
    own |= {"PYTHONPATH": os.pathsep.join(path), "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    own |= {
        "KINETO_LOG_LEVEL": "6",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_WAIT_POLICY": "passive",
    }
    if toy:
        own |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    return {**os.environ, **own}


def _surroundings(environment: Mapping[str, str], toy: bool, sha: str | None) -> dict[str, object]:
    """Commit, date, device and versions, as a process of its own reads them: this one never touches the device."""
    code = (
        "import json, torch; from bench.report import environment; "
        "print(json.dumps(environment(torch.device('cuda' if torch.cuda.is_available() else 'cpu'))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    if done.returncode:
        sys.exit(f"error: torch or bench.report cannot be loaded here: {done.stderr.strip()[-500:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    if not toy and found["threads"] is not None:
        _refuse("there is no GPU that torch can use; --dry-run walks the same steps on a CPU at toy size")
    return found | ({"sha": sha} if sha else {}) | {"dry_run": toy, "python": sys.version.split()[0]}


def _parse(arguments: Sequence[str] | None, steps: Sequence[Step]) -> argparse.Namespace:
    names = [step.name for step in steps]
    parser = argparse.ArgumentParser(
        prog="python -m bench.gpu_session", description=__doc__.splitlines()[0], epilog=f"steps: {' '.join(names)}"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of everything that is written")
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help="these steps alone")
    parser.add_argument("--from", dest="first", choices=names, metavar="NAME", help="this step and those after it")
    parser.add_argument(
        "--minutes", type=float, default=12.0, help=f"of the whole, {RESERVE_S:.0f} s of it reserve (12)"
    )
    parser.add_argument("--dry-run", action="store_true", help="toy sizes on the CPU, even where there is a GPU")
    parser.add_argument("--table", action="store_true", help="only the table and the results of what DIR holds already")
    parser.add_argument("--sha", help="the commit, for a copy of the tree that git does not know")
    options = parser.parse_args(arguments)
    if not 60 * options.minutes > RESERVE_S:
        parser.error(f"--minutes {options.minutes:g} must be above {RESERVE_S / 60:g}, which are kept in reserve")
    first = names.index(options.first) if options.first else 0
    options.chosen = [s for s in steps[first:] if not options.only or s.name in options.only]
    if not options.chosen:
        parser.error(f"--only {' '.join(options.only)} names no step from --from {options.first} on")
    return options


def _refuse(reason: str) -> NoReturn:
    print(f"error: {reason}", file=sys.stderr, flush=True)
    sys.exit(2)


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
