"""compute-sanitizer and ncu over the kernels, where they are installed."""

import csv
import re
import shutil
import subprocess
import sys

from bench.session.context import Context
from bench.session.record import at_most

_SMOKE = "bench.session.tools:small_smoke"
_TOOLS = ("memcheck", "racecheck")
# the row kernels of the head, decode attention, draws and cuts, norms and gates
_KERNELS = r"regex:_rows_|_decode_split|_merge_splits|_statistics|_(start|count|narrow|draw)_kernel|_rms_norm|_swiglu"
_METRICS = {
    "dram__throughput.avg.pct_of_peak_sustained_elapsed": "% of bandwidth",
    "sm__warps_active.avg.pct_of_peak_sustained_active": "% of warps",
    "sm__inst_issued.avg.pct_of_peak_sustained_active": "% of issue slots",
    "gpu__time_duration.sum": "time",
}


def small_smoke(context: Context) -> None:
    """Every case of the smoke test at toy sizes, on the device: what a checker of memory can watch in a minute."""
    import torch

    from bench.inputs import MODELS, trained_like
    from bench.session import smoke
    from bench.session.smoke_inputs import Inputs

    shape = MODELS["toy"]
    for op, case in smoke.CASES.items():
        torch.manual_seed(0)
        batch = trained_like(shape, 300, 100, context.device.type, context.dtype)
        found = case(Inputs(shape, batch, 37, 5, 300))
        print(op, {what: error for what, (error, _) in found.items()}, flush=True)


def sanitizer(context: Context) -> None:
    """Accesses outside of a tensor, and races in shared memory, while the small smoke test runs."""
    if (path := _path(context, "compute-sanitizer")) is None:
        return
    for tool in context.parts(_TOOLS):
        with context.trying(tool):
            done = _run(context, [path, "--tool", tool, "--print-limit", "20", "--target-processes", "all"])
            found = re.findall(r"(?:ERROR|RACECHECK) SUMMARY: (\d+)", done)
            if not found:
                context.record.failed(f"{tool}: errors", f"no summary: {done.strip()[-300:]}")
                continue
            context.record.claim(f"{tool}: errors", int(found[-1]), must=at_most(0))


def counters(context: Context) -> None:
    """What ncu reads while the kernels run once at the smoke test's sizes; the clocks stay as they are."""
    if (path := _path(context, "ncu")) is None:
        return
    command = [path, "--clock-control", "none", "--csv", "--page", "raw", "--metrics", ",".join(_METRICS)]
    command += ["--kernel-name", _KERNELS, "--launch-count", "40", "--target-processes", "all"]
    done = _run(context, command, function="bench.session.tools:real_shapes")
    lines = [line for line in done.splitlines() if line.startswith('"')]
    rows = list(csv.DictReader(lines))
    seen = set()
    for row in rows:
        name = row.get("Kernel Name", "")
        if not name or name in seen or not row.get("ID"):
            continue
        seen.add(name)
        values = {shown: row.get(metric) for metric, shown in _METRICS.items()}
        context.record.write("row", name=f"ncu {name}", grid=row.get("Grid Size"), **values)
    if not seen:
        context.record.not_run("hardware counters", f"ncu gave none: {done.strip()[-300:]}")
    else:
        context.record.claim("kernels whose counters were read", len(seen))


def real_shapes(context: Context) -> None:
    """The kernels of a head, of attention and of draws at a 7B's sizes, once each."""
    import torch

    from bench import decode, head, norms_and_gates
    from bench.inputs import MODELS, trained_like

    shape = MODELS["qwen2.5-7b"]
    place = {"device": context.device, "dtype": context.dtype}
    batch = trained_like(shape, 4096, 2048, context.device.type, context.dtype)
    entries = [e for e in head.contenders(batch, head.ways(context.device, compiled=False)) if e.name == head.OURS]
    entries += decode.paged_attention(shape, 64, 4096, **place) + decode.sampling_rivals(
        shape, 256, shape.vocab, **place
    )
    entries += norms_and_gates.residual_norms(shape, 16384, **place) + norms_and_gates.gates(shape, 16384, **place)
    for entry in entries:
        if entry.name.startswith("corl"):
            entry.prepare()
            entry.run()
    torch.cuda.synchronize()


def _path(context: Context, tool: str) -> str | None:
    """Where the tool is; None, and a line that says so, where it is missing or there is no GPU to watch."""
    path = shutil.which(tool)
    if path is None or context.toy:
        context.record.not_run(tool, "there is no GPU" if path else f"{tool} is not on PATH")
        return None
    return path


def _run(context: Context, command: list[str], function: str = _SMOKE) -> str:
    """Standard output of a process under the tool; its lines are in the step's log as well."""
    step = [sys.executable, "-m", "bench.session.run_step", function, "--name", context.name, "--out", str(context.out)]
    done = subprocess.run([*command, *step], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(done.stdout, flush=True)
    return done.stdout
